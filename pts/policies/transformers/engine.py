"""The loop that turns requests into rollouts: admit, one forward pass over all rows, draw, fork, replace."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch

from pts.policies.guide import PassSteering
from pts.policies.protocol import Finished
from pts.policies.source import RolloutSource
from pts.policies.transformers.allowance import RowAllowance, RowCost, first_line
from pts.policies.transformers.batch import Batch
from pts.policies.transformers.complete import CompletionEnds, finished_at_once
from pts.policies.transformers.distribution import (
    Distribution,
    Draws,
    Ints,
    draw,
    joined,
    log_totals,
    next_tokens,
    with_own_probs,
)
from pts.policies.transformers.draws import Keys, child_keys
from pts.policies.transformers.forward import forward
from pts.policies.transformers.guided import advanced
from pts.policies.transformers.masks import AttentionPlan
from pts.policies.transformers.memory import is_out_of_memory, release_cached
from pts.policies.transformers.prefill import PrefixStore
from pts.policies.transformers.prefilled import Prefilled, Reading
from pts.policies.transformers.row_cache import RowCache, row_cache
from pts.policies.transformers.rows import Branch, Parked
from pts.policies.transformers.wishes import grant, wishes_of
from pts.records import RolloutRequest, TokenIds

_Result = TypeVar("_Result")

Split: TypeAlias = Callable[[Distribution, Keys, Ints], Draws]
"""From each row's distribution, key and count: the tokens that take a share of the count."""


@dataclass(slots=True)
class StepWork:
    """What the loop has done: forward passes over the rows, and rows in them."""

    forward_passes: int = 0
    rows_forwarded: int = 0


@dataclass(slots=True)
class Engine:
    """One run of the loop. `allowance` bounds the rows of a batch and the memory of their caches.

    `split` says how a row's count falls on its next tokens; where none takes any the row ends with no result.
    With `own_probs` a token's probability is the model's own, not the sampler's.
    `steering` hears of every forward pass over the rows before it is made.
    Where memory runs out the batch goes on with half its rows; the others wait, with all that they need.
    """

    model: Any
    plan: AttentionPlan
    prefixes: PrefixStore
    ends: CompletionEnds
    allowance: RowAllowance
    work: StepWork
    split: Split = draw
    steering: PassSteering | None = None
    own_probs: bool = False
    batch: Batch = field(init=False)
    _cache: RowCache = field(init=False)
    _unread: list[int] = field(init=False, default_factory=list)
    _last_try: bool = field(init=False, default=False)
    _half_stepped: bool = field(init=False, default=False)
    _moved: Ints | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        layout = self.prefixes.layout
        cost_of = partial(RowCost.of, self.model, layout, self.plan.additive)
        self.batch = Batch(layout, self.allowance, cost_of)
        self._cache = row_cache(self.model, self.batch.store)

    def run(self, source: RolloutSource) -> Iterator[Finished]:
        """The rollouts of all requests, as they are done; requests are taken as rows become free.

        Ends when the source gives none while nothing is under way.
        Raises ModelError where memory does not suffice for one row.
        """
        try:
            while True:
                yield from self._fill(source)
                if self.batch.table.active:
                    draws = self._attempt(self._step)
                    if draws is not None:
                        yield from self._fork(draws)
                elif not self.batch.waiting:
                    return
        finally:
            # The cache and its layers refer to each other: the planes would stay until the collector comes by.
            self.batch.store.release()

    def _fill(self, source: RolloutSource) -> Iterator[Finished]:
        """Give free rows the branches that wait in others, then new requests; close the gaps that are left."""
        batch = self.batch
        self._attempt(batch.take_branches)
        if not batch.columns:
            # One request tells how long rows get, and with that how many fit.
            yield from self._take(source, 1)
        while free := batch.free_rows():
            taken = yield from self._take(source, batch.wanted(len(free)))
            started = batch.fitting(free)
            if started:
                self._attempt(partial(self._admit, started, free))
            elif not taken:
                break
        batch.say_if_few()
        self._attempt(batch.compact)

    def _take(self, source: RolloutSource, n: int) -> Generator[Finished, None, int]:
        """Have at most `n` new requests wait, those that are complete as they are aside; how many came."""
        taken = source.take(n) if n > 0 else ()
        for request in taken:
            at_once = finished_at_once(request, self.ends)
            if at_once is None:
                self.batch.add(request)
            else:
                yield from at_once
        return len(taken)

    def _attempt(self, work: Callable[[], _Result]) -> _Result | None:
        """What `work` gives; None where memory ran out on the way, with fewer rows from then on."""
        try:
            result = work()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            reason = first_line(error)
        else:
            return result
        # Only here is the error gone, and with it what the failed work held.
        self._make_room(reason)
        return None

    def _make_room(self, reason: str) -> None:
        """Have half of the rows wait, with what was not read yet; raises ModelError where there was but one.

        A completion that waits keeps its tokens, its place in its stream and its guide: in another row it goes
        on with the same draws.
        """
        batch, device = self.batch, self.model.device
        occupied = batch.table.occupied
        if len(occupied) <= 1:
            if self._last_try:
                raise self.allowance.too_little(batch.columns, str(device), reason)
            self._last_try = True
            self.prefixes.clear()
        kept = max(1, len(occupied) // 2)
        self.allowance.ran_out(kept, str(device), reason)
        read = [row for row in occupied if row not in set(self._unread)]
        # The states of a step that failed are of no use: no row could make it again.
        batch.park([*read[0 if self._half_stepped else kept :], *self._unread])
        self._unread, self._half_stepped = [], False
        release_cached(device)
        try:
            batch.store.resize(batch.table.active, batch.store.columns)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            # Not even room to make it smaller: all of it goes, and is read again.
            batch.park(batch.table.occupied)
        batch.kept.release_unused()
        if not batch.table.active:
            batch.store.release()
        release_cached(device)

    def _admit(self, begun: Sequence[RolloutRequest | Parked], free: Sequence[int]) -> None:
        """Start what waited in free rows, from slices of prefilled sequences."""
        batch, rows = self.batch, free[: len(begun)]
        given = batch.begin(begun, rows)
        # From here on they are rows like others: where memory runs out they are parked, and start again.
        self._unread = list(rows)
        batch.reserve(batch.table.active, 1 + max(len(ids) for ids in given.values()))
        # The longest first: what begins like it is then a slice of the same sequence.
        order = sorted(rows, key=lambda row: -len(given[row]))
        for part in self.prefixes.portions([given[row] for row in order]):
            self._read([(order[place], given[order[place]]) for place in part])
        self._unread = []

    def _read(self, rows: Sequence[tuple[int, TokenIds]]) -> None:
        """Fill the caches of rows with what they begin with."""
        table, store = self.batch.table, self.batch.store
        requests = table.requests
        starts: dict[Prefilled, tuple[list[int], int]] = {}
        self.prefixes.prefill(
            ids
            for row, ids in rows
            if (request := requests[row]) is not None
            and not request.prefix
            and (not request.variant or len(ids) <= len(request.prompt))
        )
        read = []
        for row, ids in rows:
            request = requests[row]
            if ids and request is not None:
                read.append((row, ids, Reading.of(request, table.guides[row])))
            else:
                store.load_states((), row)
        found = self.prefixes.starts([(ids, reading) for _, ids, reading in read])
        for (row, ids, _), (entry, states) in zip(read, found, strict=True):
            store.load_states(states, row)
            others, longest = starts.get(entry, ([], 0))
            starts[entry] = ([*others, row], max(longest, len(ids)))
        for entry, (targets, longest) in starts.items():
            store.load(entry.planes, targets, longest)

    @torch.inference_mode()
    def _step(self) -> Draws:
        """One forward pass over all rows and a draw from each row's distribution."""
        batch, table, active = self.batch, self.batch.table, self.batch.table.active
        width = batch.width
        batch.reserve(active, width)
        batch.keep_states()
        device = self.model.device
        positions = torch.from_numpy(table.positions).to(device)
        self._cache.begin_step(positions, width)
        if self.steering is not None:
            self.steering.begin_step(table.steered, table.last[:active])
        # From here on the states may be those after the step, and what is drawn is not written down yet.
        self._half_stepped = bool(self.prefixes.layout.states)
        try:
            logits = forward(
                self.model,
                torch.from_numpy(table.last[:active, None]).to(device),
                positions[:, None],
                self._cache,
                mask=self.plan.masks(positions, width, self.model.dtype),
            )[:, -1]
        finally:
            self._cache.end_step()
        self.work.forward_passes += 1
        self.work.rows_forwarded += active
        # Before any guide has them changed.
        totals = log_totals(logits) if self.own_probs else None
        wishes = wishes_of(table.guides[:active])
        self._moved = grant(logits, wishes) if wishes else None
        draws = self._draws(logits)
        draws = draws if totals is None else with_own_probs(draws, logits, totals)
        table.avoid[:active] = -1
        self.allowance.largest = max(self.allowance.largest, active)
        self._last_try = self._half_stepped = False
        return draws

    def _draws(self, logits: torch.Tensor) -> Draws:
        """A draw for each row from its `logits` [rows, vocabulary]; rows of one sampler together."""
        table, active = self.batch.table, self.batch.table.active
        samplers = table.sampler[:active]
        if (samplers == samplers[0]).all():
            distributions = next_tokens(logits, table.samplers[int(samplers[0])], table.avoid[:active])
            return self.split(distributions, table.key[:active], table.count[:active])
        parts = []
        for sampler in np.unique(samplers).tolist():
            rows = np.flatnonzero(samplers == sampler)
            own = logits[torch.from_numpy(rows).to(logits.device)]
            distributions = next_tokens(own, table.samplers[sampler], table.avoid[rows])
            draws = self.split(distributions, table.key[rows], table.count[rows])
            parts.append(replace(draws, rows=rows[draws.rows]))
        return joined(parts)

    def _fork(self, draws: Draws) -> Iterator[Finished]:
        """Append what was drawn: one child goes on in its row, the others wait in it; yield the finished."""
        batch, table, active = self.batch, self.batch.table, self.batch.table.active
        keys = child_keys(table.key[draws.rows], draws.tokens)
        made = table.made[draws.rows] + 1
        ended = self.ends.drawn(draws, table)
        guides, stopped = advanced(table.guides, draws, self._moved)
        done = ended | (made == table.budget[draws.rows]) | stopped
        forks = [batch.kept.fork() for _ in range(active)]
        for child in np.flatnonzero(~draws.first).tolist():
            row = int(draws.rows[child])
            branch = Branch(
                int(draws.tokens[child]),
                float(draws.probs[child]),
                int(keys[child]),
                int(draws.counts[child]),
                int(made[child]),
                guides[child],
                forks[row],
            )
            if done[child]:
                yield table.finished(row, branch, "end" if ended[child] else "budget")
            else:
                batch.hold(row, branch)
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
            batch.turn(row)
        for row in np.setdiff1d(np.arange(active), rows).tolist():
            batch.turn(row)
