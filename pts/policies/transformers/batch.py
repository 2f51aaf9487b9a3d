"""The batch: what waits for a row, and all that follows where a row is taken, moved or left."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from pts.policies.transformers.allowance import RowAllowance, RowCost
from pts.policies.transformers.cache import CacheLayout, RowStore
from pts.policies.transformers.draws import root_key
from pts.policies.transformers.forks import KeptStates, fresh
from pts.policies.transformers.rows import Branch, Parked, RowTable
from pts.records import RolloutRequest, Sampling, TokenIds

_COLUMN_BLOCK = 64
"""Columns by which the rows' caches grow."""


@dataclass(slots=True)
class Batch:
    """Completions in rows, and those that wait for one. `allowance` bounds the rows and their caches' memory.

    A row is a place in three things that must agree: `table` has what it is a completion of, `store` its keys,
    values and states, `kept` the states of its branches. Rows are taken, moved and left here alone.
    `waiting` is in order; `cost_of` gives the bytes of a row where there are rows of these samplers.
    """

    layout: CacheLayout
    allowance: RowAllowance
    cost_of: Callable[[Collection[Sampling]], RowCost]
    table: RowTable = field(init=False)
    store: RowStore = field(init=False)
    kept: KeptStates = field(init=False)
    waiting: deque[RolloutRequest | Parked] = field(init=False, default_factory=deque)
    _cost: RowCost = field(init=False)
    _holes: list[int] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.table = RowTable()
        self.store = RowStore(self.layout)
        self.kept = KeptStates(self.layout, self.allowance.granted_to_kept)
        self._cost = self.cost_of(())

    @property
    def columns(self) -> int:
        """Columns of a row's cache at most; 0 where nothing is under way."""
        table, active = self.table, self.table.active
        longest = int((table.prompt_length[:active] + table.budget[:active]).max()) if active else 0
        return max(longest, _request(self.waiting[0]).sampling.budget if self.waiting else 0)

    @property
    def width(self) -> int:
        """Columns that the rows in use need for their next step."""
        return int(self.table.positions.max()) + 1 if self.table.active else 1

    def add(self, request: RolloutRequest) -> None:
        """Have a new request wait; rows of a sampler that there was none of may change what a row costs."""
        table = self.table
        known = len(table.samplers)
        table.sampler_of(request.sampling)
        if len(table.samplers) > known:
            self._cost = self.cost_of(table.samplers)
        self.waiting.append(request)

    def free_rows(self) -> list[int]:
        """Rows that may be taken: gaps, then new ones up to what rows and memory allow."""
        limit = self.allowance.fitting(self._cost, self.columns)
        new = range(self.table.active, max(self.table.active, limit))
        return [*self._holes, *new][: max(0, limit - self.table.active + len(self._holes))]

    def wanted(self, free: int) -> int:
        """New requests to take where so many rows are free, beside what waits."""
        # One more than fits where rows are few: so it is known whether memory holds any back.
        return free - len(self.waiting) + self.allowance.few(self._cost, self.columns)

    def fitting(self, free: Sequence[int]) -> list[RolloutRequest | Parked]:
        """What of the waiting fits beside the rows in use, the first at any rate where there are none.

        It waits no more.
        """
        occupied = self.table.active - len(self._holes)
        columns = self.columns
        fitting: list[RolloutRequest | Parked] = []
        while self.waiting and len(fitting) < len(free):
            request = _request(self.waiting[0])
            columns = max(columns, len(request.prompt) + request.sampling.budget)
            rows = occupied + len(fitting) + 1
            if rows > self.allowance.fitting(self._cost, columns):
                break
            fitting.append(self.waiting.popleft())
        return fitting

    def say_if_few(self) -> None:
        """Say, once, that memory allows few rows, where completions wait for one."""
        if self.waiting or any(self.table.branches[: self.table.active]):
            self.allowance.wanting(self._cost, self.columns)

    def begin(self, begun: Sequence[RolloutRequest | Parked], rows: Sequence[int]) -> dict[int, TokenIds]:
        """Start what waited in these rows; the tokens of each whose keys, values and states it is to have."""
        table = self.table
        table.reserve(1 + max(rows))
        given = {}
        for row, start in zip(rows, begun, strict=True):
            if isinstance(start, Parked):
                table.resume(row, start)
            else:
                table.start(row, start, root_key(start))
            given[row] = table.ids(row)[:-1]
        table.active = max(table.active, 1 + max(rows))
        self._find_holes()
        self.allowance.begin(self._cost, self.columns)
        return given

    def reserve(self, rows: int, columns: int) -> None:
        """Room in the cache for the rows in use, with slack so that it seldom has to grow."""
        store = self.store
        if rows <= store.rows and columns <= store.columns:
            return
        allowance, cost = self.allowance, self._cost
        wide = store.columns
        if columns > wide:
            # A quarter more at a time, but never more than a row can come to.
            wide = -(-max(columns, wide + wide // 4) // _COLUMN_BLOCK) * _COLUMN_BLOCK
            wide = max(columns, min(wide, self.columns))
        tall = store.rows if rows <= store.rows else max(rows, min(2 * store.rows, allowance.limit))
        for size in ((tall, wide), (rows, wide), (rows, max(columns, self.width))):
            if cost.bytes(*size) <= allowance.granted:
                break
        store.resize(*size)

    def take_branches(self) -> None:
        """Move waiting branches to free rows, each row's shallowest first: it has the most left to do."""
        free = self.free_rows()
        table = self.table
        sources = [
            row
            for row in (range(table.active) if free else ())
            for _ in range(min(len(free), len(table.branches[row])))
        ][: len(free)]
        if not sources:
            return
        targets = free[: len(sources)]
        self._occupy(targets)
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

    def hold(self, row: int, branch: Branch) -> None:
        """Have a branch that leaves a row wait in it."""
        self.table.branches[row].append(branch)
        self.kept.hold(branch)

    def turn(self, row: int) -> None:
        """Have a row whose completion is over go on with its deepest branch, or leave it free."""
        if self.table.branches[row]:
            self._enter(row, self.table.branches[row].pop())
        else:
            self.table.clear(row)
            self._holes.append(row)

    def keep_states(self) -> None:
        """Before a step changes the rows' states, keep those that branches wait for.

        Branches whose states find no room wait without: they are read again from their tokens.
        """
        table = self.table
        self.kept.repay(self.store)
        for row in self.kept.keep(table, self.store):
            while fresh(table, row):
                branch = table.branches[row].pop()
                self.kept.leave([branch])
                self.waiting.appendleft(table.parked(row, branch))

    def park(self, rows: Sequence[int]) -> None:
        """Have what is in these rows wait, before all that waits already."""
        for row in rows:
            self.kept.leave(self.table.branches[row])
            self.kept.forget(row)
        parked = [one for row in rows for one in self.table.park(row)]
        self.waiting.extendleft(reversed(parked))
        self.table.active = 1 + max(self.table.occupied, default=-1)
        self._find_holes()

    def compact(self) -> None:
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
            self.kept.move(source, target)
        self.table.active = len(occupied)
        self._holes = []

    def _occupy(self, rows: Sequence[int]) -> None:
        """Make room for rows, and mark them as taken."""
        active = max(self.table.active, 1 + max(rows, default=-1))
        self.table.reserve(active)
        self.reserve(active, 0)
        taken = set(rows)
        self._holes = [row for row in self._holes if row not in taken]
        self._holes += [row for row in range(self.table.active, active) if row not in taken]
        self.table.active = active

    def _find_holes(self) -> None:
        """Know the gaps among the rows in use."""
        self._holes = sorted(set(range(self.table.active)) - set(self.table.occupied))

    def _enter(self, row: int, branch: Branch) -> None:
        """Have a branch go on in a row that has its tokens."""
        self.table.enter(row, branch)
        self.kept.enter(row, branch)


def _request(waiting: RolloutRequest | Parked) -> RolloutRequest:
    """What a completion that waits is one of."""
    return waiting.request if isinstance(waiting, Parked) else waiting
