"""The loop that turns requests into rollouts: admit, one forward pass over all rows, draw, fork, replace."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from pts.policies.guide import Guide, PassSteering
from pts.policies.transformers.cache import RowCache, RowStore
from pts.policies.transformers.distribution import (
    Distribution,
    Draws,
    Ints,
    draw,
    log_totals,
    next_tokens,
    with_own_probs,
)
from pts.policies.transformers.draws import Keys, child_keys, root_key
from pts.policies.transformers.masks import AttentionPlan
from pts.policies.transformers.prefill import Prefilled, PrefixStore, Reading
from pts.policies.transformers.rows import Branch, Finished, RowTable
from pts.records import Finish, Rollout, RolloutRequest, Sampling, TokenIds

_COLUMN_BLOCK = 64
"""Columns by which the rows' caches grow."""

Split: TypeAlias = Callable[[Distribution, Keys, Ints], Draws]
"""From each row's distribution, key and count: the tokens that take a share of the count."""


@dataclass(slots=True)
class StepWork:
    """What the loop has done: forward passes over the rows, and rows in them."""

    forward_passes: int = 0
    rows_forwarded: int = 0


@dataclass(slots=True)
class Engine:
    """One run of the loop. `row_limit` bounds the rows of a batch, `cache_bytes` the memory of their caches.

    `split` says how a row's count falls on its next tokens; where none takes any the row ends with no result.
    With `own_probs` a token's probability is the model's own, not the sampler's.
    `steering` hears of every forward pass over the rows before it is made.
    """

    model: Any
    plan: AttentionPlan
    prefixes: PrefixStore
    sampling: Sampling
    end_token_ids: frozenset[int]
    row_limit: int
    cache_bytes: int
    work: StepWork
    split: Split = draw
    steering: PassSteering | None = None
    own_probs: bool = False
    table: RowTable = field(init=False)
    store: RowStore = field(init=False)
    _cache: RowCache = field(init=False)
    _ends: Ints = field(init=False)
    _holes: list[int] = field(init=False, default_factory=list)
    _longest_prompt: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.table = RowTable(self.sampling.budget)
        self.store = RowStore(self.prefixes.layout)
        self._cache = RowCache(self.store)
        self._ends = np.array(sorted(self.end_token_ids), dtype=np.int64)

    def run(self, requests: Iterable[RolloutRequest]) -> Iterator[Finished]:
        """The rollouts of all requests, as they are done; requests are read as rows become free.

        What `requests` has after it ran dry is read too, as long as anything is under way.
        """
        feed = iter(requests)
        try:
            while True:
                yield from self._fill(feed)
                if self.table.active == 0:
                    return
                draws = self._step()
                yield from self._fork(draws)
        finally:
            # The cache and its layers refer to each other: the planes would stay until the collector comes by.
            self.store.release()

    def _fill(self, feed: Iterator[RolloutRequest]) -> Iterator[Finished]:
        """Give free rows the branches that wait in others, then new requests; close the gaps that are left."""
        self._take_branches(self._free_rows())
        while free := self._free_rows():
            pulled = list(islice(feed, len(free)))
            if not pulled:
                break
            started: list[RolloutRequest] = []
            for request in pulled:
                at_once = finished_at_once(request, self.end_token_ids, self.sampling.budget)
                if at_once is None:
                    started.append(request)
                else:
                    yield from at_once
            self._admit(started, free)
        self._compact()

    def _free_rows(self) -> list[int]:
        """Rows that may be taken: gaps, then new ones up to what rows and memory allow."""
        columns = self._longest_prompt + self.sampling.budget
        fitting = self.cache_bytes // (self.prefixes.layout.bytes_per_token * columns)
        limit = max(1, min(self.row_limit, fitting))
        new = range(self.table.active, max(self.table.active, limit))
        return [*self._holes, *new][: max(0, limit - self.table.active + len(self._holes))]

    def _occupy(self, rows: list[int]) -> None:
        """Mark rows as taken and make room for them."""
        taken = set(rows)
        self._holes = [row for row in self._holes if row not in taken]
        self.table.active = max(self.table.active, 1 + max(rows, default=-1))
        self.table.reserve(self.table.active)
        self._reserve(columns=0)

    def _reserve(self, columns: int) -> None:
        """Room in the cache for the rows in use, with slack so that it seldom has to grow."""
        rows = self.table.active
        if rows > self.store.rows:
            rows = max(rows, min(self.row_limit, 2 * self.store.rows))
        if columns > self.store.columns:
            columns = -(-columns // _COLUMN_BLOCK) * _COLUMN_BLOCK
        self.store.reserve(rows, columns)

    def _take_branches(self, free: list[int]) -> None:
        """Move waiting branches to free rows, each row's shallowest first: it has the most left to do."""
        sources: list[int] = []
        branches: list[Branch] = []
        if not free:
            return
        for row in range(self.table.active):
            waiting = self.table.branches[row]
            while waiting and len(sources) < len(free):
                sources.append(row)
                branches.append(waiting.popleft())
        if not sources:
            return
        targets = free[: len(sources)]
        self._occupy(targets)
        longest = 0
        for source, target, branch in zip(sources, targets, branches, strict=True):
            self.table.share(source, target)
            self.table.enter(target, branch)
            longest = max(longest, int(self.table.prompt_length[target]) + branch.made - 1)
        self.store.copy(sources, targets, longest)

    def _admit(self, requests: list[RolloutRequest], free: list[int]) -> None:
        """Start requests in free rows, from slices of prefilled sequences."""
        rows = free[: len(requests)]
        self._longest_prompt = max([self._longest_prompt, *(len(request.prompt) for request in requests)])
        self._occupy(rows)
        # The longest first: what begins like it is then a slice of the same sequence.
        order = sorted(zip(requests, rows, strict=True), key=lambda pair: -len(_given(pair[0])))
        starts: dict[Prefilled, tuple[list[int], int]] = {}
        self.prefixes.prefill(_given(request)[:-1] for request in requests if not request.prefix)
        for request, row in order:
            self.table.start(row, request, root_key(request))
            cached = _given(request)[:-1]
            if cached:
                entry = self.prefixes.prefilled(cached, Reading.of(request, self.table.guides[row]))
                others, longest = starts.get(entry, ([], 0))
                starts[entry] = ([*others, row], max(longest, len(cached)))
        self._reserve(max((longest for _, longest in starts.values()), default=0) + 1)
        for entry, (targets, longest) in starts.items():
            self.store.load(entry.planes, targets, longest)

    def _compact(self) -> None:
        """Move the last rows into the gaps."""
        sources: list[int] = []
        targets: list[int] = []
        gaps = set(self._holes)
        for hole in sorted(gaps):
            while self.table.active and self.table.active - 1 in gaps:
                self.table.active -= 1
                gaps.discard(self.table.active)
            if hole >= self.table.active:
                break
            last = self.table.active - 1
            sources.append(last)
            targets.append(hole)
            self.table.move(last, hole)
            self.table.active -= 1
            gaps.discard(hole)
        self._holes = []
        if sources:
            self.store.copy(sources, targets, int(self.table.positions[targets].max()))

    @torch.inference_mode()
    def _step(self) -> Draws:
        """One forward pass over all rows and a draw from each row's distribution."""
        table, active = self.table, self.table.active
        width = int(table.positions.max()) + 1
        self._reserve(width)
        device = self.model.device
        positions = torch.from_numpy(table.positions).to(device)
        self._cache.begin_step(positions, width)
        if self.steering is not None:
            self.steering.begin_step(table.steered, table.last[:active])
        output = self.model(
            input_ids=torch.from_numpy(table.last[:active, None]).to(device),
            attention_mask=self.plan.masks(positions, width, self.model.dtype),
            position_ids=positions[:, None],
            past_key_values=self._cache,
            use_cache=True,
        )
        self.work.forward_passes += 1
        self.work.rows_forwarded += active
        logits = output.logits[:, -1]
        # Before any guide changes them.
        totals = log_totals(logits) if self.own_probs else None
        for row, guide in enumerate(table.guides[:active]):
            if guide is not None and guide.adjusts:
                guide.adjust(logits[row])
        distributions = next_tokens(logits, self.sampling, table.avoid[:active])
        draws = self.split(distributions, table.key[:active], table.count[:active])
        table.avoid[:active] = -1
        return draws if totals is None else with_own_probs(draws, logits, totals)

    def _fork(self, draws: Draws) -> Iterator[Finished]:
        """Append what was drawn: one child goes on in its row, the others wait in it; yield the finished."""
        table, active = self.table, self.table.active
        keys = child_keys(table.key[draws.rows], draws.tokens)
        made = table.made[draws.rows] + 1
        ended = np.isin(draws.tokens, self._ends)
        guides, stopped = _advanced(table.guides, draws)
        done = ended | (made == table.budget) | stopped
        for child in np.flatnonzero(~draws.first).tolist():
            row = int(draws.rows[child])
            branch = Branch(
                int(draws.tokens[child]),
                float(draws.probs[child]),
                int(keys[child]),
                int(draws.counts[child]),
                int(made[child]),
                guides[child],
            )
            if done[child]:
                yield table.finished(row, branch, "end" if ended[child] else "budget")
            else:
                table.branches[row].append(branch)
        first = np.flatnonzero(draws.first)
        rows = draws.rows[first]
        table.tokens[rows, table.made[rows]] = draws.tokens[first]
        table.probs[rows, table.made[rows]] = draws.probs[first]
        table.made[rows] += 1
        table.last[rows] = draws.tokens[first]
        table.key[rows] = keys[first]
        table.count[rows] = draws.counts[first]
        for child in first.tolist():
            table.guides[int(draws.rows[child])] = guides[child]
        for child in first[done[first]].tolist():
            row = int(draws.rows[child])
            yield table.finished(row, None, "end" if ended[child] else "budget")
            self._turn(row)
        for row in np.setdiff1d(np.arange(active), rows).tolist():
            self._turn(row)

    def _turn(self, row: int) -> None:
        """Have a row whose completion is over go on with its deepest branch, or leave it free."""
        if self.table.branches[row]:
            self.table.enter(row, self.table.branches[row].pop())
        else:
            self._holes.append(row)


def _advanced(guides: list[Guide | None], draws: Draws) -> tuple[list[Guide | None], npt.NDArray[np.bool_]]:
    """Each drawn token's guide, told of it, and whether it ends there [n]; first children keep the row's."""
    advanced: list[Guide | None] = [None] * len(draws.rows)
    stopped = np.zeros(len(draws.rows), dtype=np.bool_)
    if not any(guide is not None for guide in guides):
        return advanced, stopped
    # Backwards: the first child comes last, so that the others are copied from a guide that has not moved.
    for child in range(len(draws.rows) - 1, -1, -1):
        guide = guides[int(draws.rows[child])]
        if guide is not None:
            advanced[child] = own = guide if draws.first[child] else guide.fork()
            stopped[child] = own.advance(int(draws.tokens[child]))
    return advanced, stopped


def _given(request: RolloutRequest) -> TokenIds:
    """All ids that a request's rollouts begin with: prompt, prefix and the forced token."""
    ids = request.prompt + request.prefix
    return ids if request.force is None else (*ids, request.force)


def finished_at_once(
    request: RolloutRequest, end_token_ids: frozenset[int], budget: int
) -> list[Finished] | None:
    """The result of a request that needs no forward pass; None where it needs one.

    A prefix that ends with an end token, or fills the budget, is complete as it is: nothing is forced after it.
    Raises ValueError for a request that contradicts itself or the budget.
    """
    if not request.prompt:
        raise ValueError("a rollout request needs a prompt of at least one token.")
    if request.force is not None and request.avoid is not None:
        raise ValueError(f"a rollout request cannot force {request.force} and avoid {request.avoid} at once.")
    if request.n < 0 or len(request.prefix) > budget:
        raise ValueError(
            f"a request for n={request.n} from {len(request.prefix)} of {budget} tokens makes no sense."
        )
    if request.n == 0:
        return []
    completion, finish = request.prefix, _finish(request.prefix, end_token_ids, budget)
    if finish is None and request.force is not None:
        completion = (*request.prefix, request.force)
        finish = _finish(completion, end_token_ids, budget)
    if finish is None:
        return None
    forced = (float("nan"),) * (len(completion) - len(request.prefix))
    return [Finished(Rollout(request, completion, request.n, finish), forced)]


def _finish(completion: TokenIds, end_token_ids: frozenset[int], budget: int) -> Finish | None:
    """Why a completion is complete, or None where it is not."""
    if completion and completion[-1] in end_token_ids:
        return "end"
    return "budget" if len(completion) >= budget else None
