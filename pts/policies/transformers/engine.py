"""The loop that turns requests into rollouts: admit, one forward pass over all rows, draw, fork, replace."""

from __future__ import annotations

from collections import deque
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
from pts.policies.transformers.cache import RowStore
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
from pts.policies.transformers.draws import Keys, child_keys, root_key
from pts.policies.transformers.forks import KeptStates, fresh
from pts.policies.transformers.forward import forward
from pts.policies.transformers.guided import advanced
from pts.policies.transformers.masks import AttentionPlan
from pts.policies.transformers.memory import is_out_of_memory, release_cached
from pts.policies.transformers.prefill import PrefixStore
from pts.policies.transformers.prefilled import Prefilled, Reading
from pts.policies.transformers.row_cache import RowCache, row_cache
from pts.policies.transformers.rows import Branch, Parked, RowTable
from pts.policies.transformers.wishes import grant, wishes_of
from pts.records import RolloutRequest, Sampling, TokenIds

_Result = TypeVar("_Result")

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
    table: RowTable = field(init=False)
    store: RowStore = field(init=False)
    _cache: RowCache = field(init=False)
    _kept: KeptStates = field(init=False)
    _cost: RowCost = field(init=False)
    _holes: list[int] = field(init=False, default_factory=list)
    _waiting: deque[RolloutRequest | Parked] = field(init=False, default_factory=deque)
    _unread: list[int] = field(init=False, default_factory=list)
    _last_try: bool = field(init=False, default=False)
    _half_stepped: bool = field(init=False, default=False)
    _moved: Ints | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.table = RowTable()
        self.store = RowStore(self.prefixes.layout)
        self._cache = row_cache(self.model, self.store)
        self._kept = KeptStates(self.prefixes.layout, self.allowance.granted_to_kept)
        self._cost = RowCost.of(self.model, self.prefixes.layout, self.plan.additive)

    def run(self, source: RolloutSource) -> Iterator[Finished]:
        """The rollouts of all requests, as they are done; requests are taken as rows become free.

        Ends when the source gives none while nothing is under way.
        Raises ModelError where memory does not suffice for one row.
        """
        try:
            while True:
                yield from self._fill(source)
                if self.table.active:
                    draws = self._attempt(self._step)
                    if draws is not None:
                        yield from self._fork(draws)
                elif not self._waiting:
                    return
        finally:
            # The cache and its layers refer to each other: the planes would stay until the collector comes by.
            self.store.release()

    def _fill(self, source: RolloutSource) -> Iterator[Finished]:
        """Give free rows the branches that wait in others, then new requests; close the gaps that are left."""
        self._attempt(self._take_branches)
        if not self._columns():
            # One request tells how long rows get, and with that how many fit.
            yield from self._take(source, 1)
        while free := self._free_rows():
            # One more than fits where rows are few: so it is known whether memory holds any back.
            more = len(free) - len(self._waiting) + self.allowance.few(self._cost, self._columns())
            taken = yield from self._take(source, more)
            started = self._fitting(free)
            if started:
                self._attempt(partial(self._admit, started, free))
            elif not taken:
                break
        if self._waiting or any(self.table.branches[: self.table.active]):
            self.allowance.wanting(self._cost, self._columns())
        self._attempt(self._compact)

    def _take(self, source: RolloutSource, n: int) -> Generator[Finished, None, int]:
        """Have at most `n` new requests wait, those that are complete as they are aside; how many came."""
        taken = source.take(n) if n > 0 else ()
        for request in taken:
            at_once = finished_at_once(request, self.ends)
            if at_once is None:
                self._know(request.sampling)
                self._waiting.append(request)
            else:
                yield from at_once
        return len(taken)

    def _know(self, sampling: Sampling) -> None:
        """Count what rows of a sampling cost, where there were none of its sampler."""
        table = self.table
        known = len(table.samplers)
        table.sampler_of(sampling)
        if len(table.samplers) > known:
            self._cost = RowCost.of(self.model, self.prefixes.layout, self.plan.additive, table.samplers)

    def _columns(self) -> int:
        """Columns of a row's cache at most; 0 where nothing is under way."""
        table, active = self.table, self.table.active
        longest = int((table.prompt_length[:active] + table.budget[:active]).max()) if active else 0
        return max(longest, _request(self._waiting[0]).sampling.budget if self._waiting else 0)

    def _free_rows(self) -> list[int]:
        """Rows that may be taken: gaps, then new ones up to what rows and memory allow."""
        limit = self.allowance.fitting(self._cost, self._columns())
        new = range(self.table.active, max(self.table.active, limit))
        return [*self._holes, *new][: max(0, limit - self.table.active + len(self._holes))]

    def _fitting(self, free: Sequence[int]) -> list[RolloutRequest | Parked]:
        """What of the waiting fits beside the rows in use, the first at any rate where there are none."""
        occupied = self.table.active - len(self._holes)
        columns = self._columns()
        fitting: list[RolloutRequest | Parked] = []
        while self._waiting and len(fitting) < len(free):
            request = _request(self._waiting[0])
            columns = max(columns, len(request.prompt) + request.sampling.budget)
            rows = occupied + len(fitting) + 1
            if rows > self.allowance.fitting(self._cost, columns):
                break
            fitting.append(self._waiting.popleft())
        return fitting

    def _occupy(self, rows: Sequence[int], columns: int) -> None:
        """Make room for rows and the columns that they begin with, and mark them as taken."""
        active = max(self.table.active, 1 + max(rows, default=-1))
        self.table.reserve(active)
        self._reserve(active, columns)
        taken = set(rows)
        self._holes = [row for row in self._holes if row not in taken]
        self._holes += [row for row in range(self.table.active, active) if row not in taken]
        self.table.active = active

    def _reserve(self, rows: int, columns: int) -> None:
        """Room in the cache for the rows in use, with slack so that it seldom has to grow."""
        store = self.store
        if rows <= store.rows and columns <= store.columns:
            return
        allowance, cost = self.allowance, self._cost
        wide = store.columns
        if columns > wide:
            # A quarter more at a time, but never more than a row can come to.
            wide = -(-max(columns, wide + wide // 4) // _COLUMN_BLOCK) * _COLUMN_BLOCK
            wide = max(columns, min(wide, self._columns()))
        tall = store.rows if rows <= store.rows else max(rows, min(2 * store.rows, allowance.limit))
        for size in ((tall, wide), (rows, wide), (rows, max(columns, self._width()))):
            if cost.bytes(*size) <= allowance.granted:
                break
        store.resize(*size)

    def _width(self) -> int:
        """Columns that the rows in use need for their next step."""
        return int(self.table.positions.max()) + 1 if self.table.active else 1

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
        table, device = self.table, self.model.device
        occupied = table.occupied
        columns = self._columns()
        if len(occupied) <= 1:
            if self._last_try:
                raise self.allowance.too_little(columns, str(device), reason)
            self._last_try = True
            self.prefixes.clear()
        kept = max(1, len(occupied) // 2)
        self.allowance.ran_out(kept, str(device), reason)
        read = [row for row in occupied if row not in set(self._unread)]
        # The states of a step that failed are of no use: no row could make it again.
        self._park([*read[0 if self._half_stepped else kept :], *self._unread])
        self._half_stepped = False
        release_cached(device)
        try:
            self.store.resize(table.active, self.store.columns)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            # Not even room to make it smaller: all of it goes, and is read again.
            self._park(table.occupied)
        self._kept.release_unused()
        if not table.active:
            self.store.release()
        release_cached(device)

    def _park(self, rows: Sequence[int]) -> None:
        """Have what is in these rows wait, before all that waits already."""
        for row in rows:
            self._kept.leave(self.table.branches[row])
            self._kept.forget(row)
        parked = [one for row in rows for one in self.table.park(row)]
        self._waiting.extendleft(reversed(parked))
        self._unread = []
        occupied = self.table.occupied
        self.table.active = 1 + max(occupied, default=-1)
        self._holes = sorted(set(range(self.table.active)) - set(occupied))

    def _take_branches(self) -> None:
        """Move waiting branches to free rows, each row's shallowest first: it has the most left to do."""
        free = self._free_rows()
        table = self.table
        sources = [
            row
            for row in (range(table.active) if free else ())
            for _ in range(min(len(free), len(table.branches[row])))
        ][: len(free)]
        if not sources:
            return
        targets = free[: len(sources)]
        self._occupy(targets, 0)
        taken = dict.fromkeys(sources, 0)
        longest = 0
        for source in sources:
            branch = table.branches[source][taken[source]]
            taken[source] += 1
            longest = max(longest, int(table.prompt_length[source]) + branch.made - 1)
        self.store.copy(sources, targets, longest)
        self.store.copy_states(sources, targets)
        for source, target in zip(sources, targets, strict=True):
            table.share(source, target)
            self._enter(target, table.branches[source].popleft())

    def _admit(self, begun: Sequence[RolloutRequest | Parked], free: Sequence[int]) -> None:
        """Start what waited in free rows, from slices of prefilled sequences."""
        rows = free[: len(begun)]
        self.table.reserve(1 + max(rows))
        given = {}
        for row, start in zip(rows, begun, strict=True):
            if isinstance(start, Parked):
                self.table.resume(row, start)
            else:
                self.table.start(row, start, root_key(start))
            given[row] = self.table.ids(row)[:-1]
        # From here on they are rows like others: where memory runs out they are parked, and start again.
        self._unread = list(rows)
        self.table.active = max(self.table.active, 1 + max(rows))
        self._holes = sorted(set(range(self.table.active)) - set(self.table.occupied))
        self.allowance.begin(self._cost, self._columns())
        self._reserve(self.table.active, 1 + max(len(ids) for ids in given.values()))
        # The longest first: what begins like it is then a slice of the same sequence.
        order = sorted(rows, key=lambda row: -len(given[row]))
        for part in self.prefixes.portions([given[row] for row in order]):
            self._read([(order[place], given[order[place]]) for place in part])
        self._unread = []

    def _read(self, rows: Sequence[tuple[int, TokenIds]]) -> None:
        """Fill the caches of rows with what they begin with."""
        requests = self.table.requests
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
                read.append((row, ids, Reading.of(request, self.table.guides[row])))
            else:
                self.store.load_states((), row)
        found = self.prefixes.starts([(ids, reading) for _, ids, reading in read])
        for (row, ids, _), (entry, states) in zip(read, found, strict=True):
            self.store.load_states(states, row)
            others, longest = starts.get(entry, ([], 0))
            starts[entry] = ([*others, row], max(longest, len(ids)))
        for entry, (targets, longest) in starts.items():
            self.store.load(entry.planes, targets, longest)

    def _compact(self) -> None:
        """Move the last rows into the gaps."""
        if not self._holes:
            return
        occupied = self.table.occupied
        targets = [hole for hole in sorted(self._holes) if hole < len(occupied)]
        sources = occupied[len(occupied) - len(targets) :]
        if targets:
            # The caches first: where memory runs out nothing has moved.
            self.store.copy(sources, targets, int(self.table.positions[sources].max()))
            self.store.copy_states(sources, targets)
        for source, target in zip(sources, targets, strict=True):
            self.table.move(source, target)
            self._kept.move(source, target)
        self.table.active = len(occupied)
        self._holes = []

    @torch.inference_mode()
    def _step(self) -> Draws:
        """One forward pass over all rows and a draw from each row's distribution."""
        table, active = self.table, self.table.active
        width = self._width()
        self._reserve(active, width)
        self._keep_states()
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

    def _keep_states(self) -> None:
        """Before a step changes the rows' states, keep those that branches wait for.

        Branches whose states find no room wait without: they are read again from their tokens.
        """
        table = self.table
        self._kept.repay(self.store)
        for row in self._kept.keep(table, self.store):
            while fresh(table, row):
                branch = table.branches[row].pop()
                self._kept.leave([branch])
                self._waiting.appendleft(table.parked(row, branch))

    def _draws(self, logits: torch.Tensor) -> Draws:
        """A draw for each row from its `logits` [rows, vocabulary]; rows of one sampler together."""
        table, active = self.table, self.table.active
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
        table, active = self.table, self.table.active
        keys = child_keys(table.key[draws.rows], draws.tokens)
        made = table.made[draws.rows] + 1
        ended = self.ends.drawn(draws, table)
        guides, stopped = advanced(table.guides, draws, self._moved)
        done = ended | (made == table.budget[draws.rows]) | stopped
        forks = [self._kept.fork() for _ in range(active)]
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
                table.branches[row].append(branch)
                self._kept.hold(branch)
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
            self._enter(row, self.table.branches[row].pop())
        else:
            self.table.clear(row)
            self._holes.append(row)

    def _enter(self, row: int, branch: Branch) -> None:
        """Have a branch go on in a row that has its tokens."""
        self.table.enter(row, branch)
        self._kept.enter(row, branch)


def _request(waiting: RolloutRequest | Parked) -> RolloutRequest:
    """What a completion that waits is one of."""
    return waiting.request if isinstance(waiting, Parked) else waiting
