"""The options of strategies: what they may be built from, besides the model that answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pts.decoding.limits import Amount, ThinkingBudget
from pts.decoding.routers.protocol import ClassBudgets, Router

if TYPE_CHECKING:
    from pts.decoding.confidence import Over
    from pts.decoding.reject import Scorer
    from pts.decoding.session import Session


@dataclass(frozen=True, slots=True)
class StrategyOptions:
    """What a user chose; None leaves a strategy its own default.

    `budget` holds in every strategy where its own budget says nothing (of `auto` in each class, its answer and
    thought switches alone). `router` puts questions in classes, `budgets`
    replace those of its classes. `exit_threshold`, `exit_step`, `trial_tokens` and `trial_opening` are of
    `early-exit`; `scorer`, `reject_step` and `reject_share` of `reject`; `second`, which makes the second
    model's session (`pts.decoding.escalate.second_model`), and the other `escalate_` ones of `escalate`.
    """

    budget: ThinkingBudget = ThinkingBudget()  # noqa: RUF009 (frozen)
    router: Router | None = None
    budgets: ClassBudgets | None = None
    exit_threshold: float | None = None
    exit_step: Amount | None = None
    trial_tokens: int | None = None
    trial_opening: str | None = None
    scorer: Scorer | None = None
    reject_step: Amount | None = None
    reject_share: float | None = None
    second: Callable[[], Session] | None = None
    escalate_threshold: float | None = None
    escalate_over: Over | None = None
