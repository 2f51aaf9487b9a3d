"""How many positions of completions were read while steering was on, and at how many a vector was added."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import TypeAlias

import torch

Added: TypeAlias = tuple[torch.Tensor | None, bool | torch.Tensor]
"""Where one table added in a pass: its mask [rows or 1, n, 1], None for everywhere; and which rows have one."""

_PENDING = 64
"""Passes that are kept before they are counted together: counting each would be work that can be measured."""


@dataclass(slots=True)
class _Table:
    """Where one table added in a run of passes: a mask for each, None for everywhere; and in which rows."""

    masks: list[torch.Tensor] | None
    filled: bool | torch.Tensor

    def goes_on(self, added: Added) -> bool:
        """Whether the same table added this in one more pass."""
        return added[1] is self.filled and (added[0] is None) is (self.masks is None)


@dataclass(slots=True)
class _Run:
    """Passes that followed one another in the same rows: `size` positions from `first` on (see `note`)."""

    first: int
    size: int
    rows: bool | torch.Tensor
    where: torch.Tensor | None
    tables: list[_Table]

    def goes_on(self, first: int, rows: bool | torch.Tensor, added: Sequence[Added]) -> bool:
        """Whether a pass without a mask of its own goes on where this ends, by the same tables."""
        return (
            first == self.first + self.size
            and rows is self.rows
            and self.where is None
            and len(added) == len(self.tables)
            and all(map(_Table.goes_on, self.tables, added))
        )


@dataclass(slots=True)
class Tally:
    """The positions of one batch of texts, counted from the end of the prompt; each once, as it was read last.

    A position that is read again (with no cache, or after a draft was rejected) counts as the last pass had it.
    """

    rows: int
    _seen: torch.Tensor = field(init=False)
    _steered: torch.Tensor = field(init=False)
    _pending: list[_Run] = field(init=False, default_factory=list)
    _masked: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self._seen = torch.zeros(self.rows, 0, dtype=torch.bool)
        self._steered = torch.zeros(self.rows, 0, dtype=torch.bool)

    def note(
        self,
        first: int,
        size: int,
        rows: bool | torch.Tensor,
        where: torch.Tensor | None,
        added: Sequence[Added],
    ) -> None:
        """A pass that read `size` positions from `first` on (negative: of the prompt).

        `rows` [rows] are those that are steered at all, True for each; `where` [rows or 1, size] the positions
        that may be.
        """
        # This runs at every step: it makes no tensor, and what goes on with the pass before makes no record.
        pending = self._pending
        if where is None and pending and pending[-1].goes_on(first, rows, added):
            run = pending[-1]
            run.size += size
        else:
            tables = [_Table(None if mask is None else [], filled) for mask, filled in added]
            run = _Run(first, size, rows, where, tables)
            pending.append(run)
        masked = 0
        for table, (mask, _) in zip(run.tables, added, strict=True):
            if mask is not None and table.masks is not None:
                table.masks.append(mask)
                masked = 1
        self._masked += masked
        if self._masked >= _PENDING or len(pending) >= _PENDING:
            self._count()

    def counts(self) -> tuple[int, int]:
        """Positions seen and positions steered."""
        self._count()
        return int(self._seen.sum()), int(self._steered.sum())

    def steered(self) -> torch.Tensor:
        """Where a vector was added [rows, positions], of the completions' positions read so far."""
        self._count()
        return self._steered

    def cut(self, positions: int) -> None:
        """Forget positions beyond the first so many, which were read and then rejected."""
        self._count()
        self._seen, self._steered = self._seen[:, : max(0, positions)], self._steered[:, : max(0, positions)]

    @torch.no_grad()
    def _count(self) -> None:
        pending, self._pending, self._masked = self._pending, [], 0
        if not pending:
            return
        self._reserve(max(run.first + run.size for run in pending))
        for run in pending:
            skip = max(0, -run.first)
            if run.size > skip:
                seen = _rows(run.rows, self.rows).expand(self.rows, run.size)
                if run.where is not None:
                    seen = seen & run.where.cpu()
                columns = slice(run.first + skip, run.first + run.size)
                self._seen[:, columns] = seen[:, skip:]
                self._steered[:, columns] = (seen & self._open(run))[:, skip:]

    def _open(self, run: _Run) -> torch.Tensor:
        """Where any table added something [rows or 1, size or 1]."""
        nowhere = torch.zeros(1, 1, dtype=torch.bool)
        return reduce(torch.logical_or, (_where(table, self.rows) for table in run.tables), nowhere)

    def _reserve(self, columns: int) -> None:
        more = columns - self._seen.shape[1]
        if more > 0:
            blank = torch.zeros(self.rows, more, dtype=torch.bool)
            self._seen = torch.cat([self._seen, blank], dim=1)
            self._steered = torch.cat([self._steered, blank], dim=1)


def _rows(rows: bool | torch.Tensor, count: int) -> torch.Tensor:
    """Rows as a mask [rows, 1]."""
    if isinstance(rows, bool):
        return torch.full((count, 1), rows)
    return rows.cpu().reshape(-1, 1)


def _where(table: _Table, rows: int) -> torch.Tensor:
    """One table's additions as a mask [rows, size or 1]."""
    has = _rows(table.filled, rows)
    if table.masks is None:
        return has
    masks = table.masks[0] if len(table.masks) == 1 else torch.cat(table.masks, dim=1)
    return has & (masks.squeeze(-1) != 0).cpu()
