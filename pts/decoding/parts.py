"""What strategies may be built from, besides the model that answers."""

from __future__ import annotations

from dataclasses import dataclass

from pts.decoding.limits import Budget


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts that a user chose; None leaves a strategy its own default.

    `budget` holds where a strategy's own budget says nothing.
    """

    budget: Budget = Budget()  # noqa: RUF009 (frozen)
