"""What strategies may be built from, besides the model that answers."""

from __future__ import annotations

from dataclasses import dataclass

from pts.decoding.limits import Budget
from pts.decoding.routers.protocol import Budgets, Router


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts that a user chose; None leaves a strategy its own default.

    `budget` holds where a strategy's own budget says nothing. `router` puts questions in classes, `budgets`
    replace those of its classes.
    """

    budget: Budget = Budget()  # noqa: RUF009 (frozen)

    router: Router | None = None
    budgets: Budgets | None = None
