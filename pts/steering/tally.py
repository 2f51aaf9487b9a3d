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
"""Passes that are kept before they are counted: counting at each step would be work that can be measured."""


@dataclass(frozen=True, slots=True)
class _Pass:
    first: int
    size: int
    rows: bool | torch.Tensor
    where: torch.Tensor | None
    added: tuple[Added, ...]


@dataclass(slots=True)
class Tally:
    """The positions of one batch of texts, counted from the end of the prompt; each once, as it was read last.

    A position that is read again (with no cache, or after a draft was rejected) counts as the last pass had it.
    """

    rows: int
    _seen: torch.Tensor = field(init=False)
    _steered: torch.Tensor = field(init=False)
    _pending: list[_Pass] = field(init=False, default_factory=list)

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
        self._pending.append(_Pass(first, size, rows, where, tuple(added)))
        if len(self._pending) >= _PENDING:
            self._count()

    def counts(self) -> tuple[int, int]:
        """Positions seen and positions steered."""
        self._count()
        return int(self._seen.sum()), int(self._steered.sum())

    def cut(self, positions: int) -> None:
        """Forget positions beyond the first so many, which were read and then rejected."""
        self._count()
        self._seen, self._steered = self._seen[:, : max(0, positions)], self._steered[:, : max(0, positions)]

    @torch.no_grad()
    def _count(self) -> None:
        pending, self._pending = self._pending, []
        if not pending:
            return
        self._reserve(max(each.first + each.size for each in pending))
        for each in pending:
            skip = max(0, -each.first)
            if each.size > skip:
                seen = _rows(each.rows, self.rows).expand(self.rows, each.size)
                if each.where is not None:
                    seen = seen & each.where.cpu()
                columns = slice(each.first + skip, each.first + each.size)
                self._seen[:, columns] = seen[:, skip:]
                self._steered[:, columns] = (seen & self._open(each))[:, skip:]

    def _open(self, each: _Pass) -> torch.Tensor:
        """Where any table added something [rows or 1, size or 1]."""
        nowhere = torch.zeros(1, 1, dtype=torch.bool)
        return reduce(torch.logical_or, (_where(added, self.rows) for added in each.added), nowhere)

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


def _where(added: Added, rows: int) -> torch.Tensor:
    """One table's additions as a mask [rows, size or 1]."""
    mask, filled = added
    has = _rows(filled, rows)
    return has if mask is None else has & (mask.squeeze(-1) != 0).cpu()
