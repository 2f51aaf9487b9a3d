"""States kept for the branches that wait in rows, where a model has states that no slice takes back."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from pts.policies.transformers.cache import CacheLayout, RowStore, copy_states, resize_states
from pts.policies.transformers.rows import Branch, Fork, RowTable


class KeptStates:
    """Slots for the states at forks, at most `max_bytes` of them; and the rows that are still to get theirs.

    A branch that leaves a row goes on from the row's states as they are before its next step. Before that step
    they are copied to a slot, one for all branches of the fork, which the last of them frees.
    """

    def __init__(self, layout: CacheLayout, max_bytes: int) -> None:
        # Growing copies one of the tensors at a time.
        each = layout.state_bytes + layout.largest_state
        self._limit = max_bytes // each if each else 0
        self._layout = layout
        self._states: list[torch.Tensor] = []
        self._free: list[int] = []
        self._size = 0
        self._owed: dict[int, Fork] = {}

    def fork(self) -> Fork | None:
        """A fork for the branches that leave a row now; None for a model that keeps no states."""
        return Fork() if self._layout.states else None

    def hold(self, branch: Branch) -> None:
        """Count a branch that begins to wait."""
        if branch.fork is not None:
            branch.fork.holders += 1

    def enter(self, row: int, branch: Branch) -> None:
        """Have a branch go on in a row: the row gets its states with `repay`, if it has not them already."""
        fork = branch.fork
        if fork is None:
            return
        if fork.slot is None:
            self._release(fork)
        else:
            self._owed[row] = fork

    def leave(self, branches: Iterable[Branch]) -> None:
        """Forget branches that wait no more, and need no states."""
        for branch in branches:
            if branch.fork is not None:
                self._release(branch.fork)

    def move(self, source: int, target: int) -> None:
        """Follow a row to another place."""
        if source in self._owed:
            self._owed[target] = self._owed.pop(source)

    def forget(self, row: int) -> None:
        """Follow that a row's completion is gone."""
        if row in self._owed:
            self._release(self._owed.pop(row))

    def repay(self, store: RowStore) -> None:
        """Give rows the states that they are to go on from."""
        if not self._owed:
            return
        rows = list(self._owed)
        slots = [fork.slot for fork in self._owed.values() if fork.slot is not None]
        copy_states(self._states, slots, store.states, rows)
        for row in rows:
            self.forget(row)

    def keep(self, table: RowTable, store: RowStore) -> list[int]:
        """Keep the states of rows with branches that wait for them, before a step changes them.

        Returns the rows for whose branches there is no slot left.
        """
        if not self._layout.states:
            return []
        rows = [row for row in range(table.active) if fresh(table, row)]
        if len(rows) > len(self._free):
            self._grow(len(rows) - len(self._free))
        kept = rows[: len(self._free)]
        if kept:
            slots = self._free[-len(kept) :]
            copy_states(store.states, kept, self._states, slots)
            del self._free[-len(kept) :]
            for row, slot in zip(kept, slots, strict=True):
                fork = table.branches[row][-1].fork
                assert fork is not None
                fork.slot = slot
        return rows[len(kept) :]

    def release_unused(self) -> None:
        """Let the memory go where no branch needs any of it."""
        if len(self._free) == self._size:
            self._states, self._free, self._size = [], [], 0

    def _grow(self, more: int) -> None:
        """Make room for so many states more, as far as memory is granted; twice as many at a time."""
        size = min(self._limit, max(self._size + more, 2 * self._size))
        if size <= self._size:
            return
        if not self._states:
            self._states = [
                torch.empty((0, *shape.shape), dtype=shape.dtype, device=shape.device)
                for shape in self._layout.states
            ]
        resize_states(self._states, size)
        self._free += range(self._size, size)
        self._size = size

    def _release(self, fork: Fork) -> None:
        fork.holders -= 1
        if not fork.holders and fork.slot is not None:
            self._free.append(fork.slot)
            fork.slot = None


def fresh(table: RowTable, row: int) -> bool:
    """Whether branches wait in a row whose states are the row's own as yet: they are its deepest ones."""
    branches = table.branches[row]
    return bool(branches) and branches[-1].fork is not None and branches[-1].fork.slot is None
