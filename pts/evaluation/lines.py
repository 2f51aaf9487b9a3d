"""The lines of an evaluation's table: each strategy, unsteered and steered, and the baselines beside them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from pts.errors import ConfigError

Steering: TypeAlias = Literal["none", "vectors", "random vector"]
Routing: TypeAlias = Literal["own", "random"]

ROUTED = ("auto",)
"""Strategies that ask a router."""
SWEEP = (0.125, 0.25, 0.375, 0.5, 0.75)
"""Fixed budgets of thinking that are added, as shares of the total."""


@dataclass(frozen=True, slots=True)
class Line:
    """One way to answer. `routing` is random where a router of the same rates replaces the strategy's own.

    `asked` says whether the user named its strategy; otherwise it is there to compare with.
    """

    strategy: str
    steering: Steering = "none"
    routing: Routing = "own"
    asked: bool = True

    @property
    def name(self) -> str:
        """What tables and items call it."""
        routed = " (random router)" if self.routing == "random" else ""
        return f"{self.strategy}{routed}{'' if self.steering == 'none' else f' + {self.steering}'}"

    @property
    def kind(self) -> str:
        """The strategy without its argument."""
        return self.strategy.partition(":")[0]

    @property
    def is_fixed(self) -> bool:
        """Whether it spends the same budget on every question: a point of the frontier."""
        return self.kind in ("full", "nothink", "budget")


def plan_lines(
    strategies: Sequence[str], steered: bool, baselines: bool, total: int, sweep: Iterable[float] = SWEEP
) -> list[Line]:
    """The lines for the strategies named, each unsteered and, where there are vectors, steered.

    With `baselines` full, nothink and a sweep of fixed budgets (`sweep` holds shares of `total`) join them, a
    random router beside every router, and a random vector beside the vectors, for full and for each strategy
    named that is no fixed budget. Routed lines come before their random routers. Raises ConfigError for no
    strategy, for one named twice, or for a share outside (0, 1].
    """
    if not strategies:
        raise ConfigError("there is no strategy to evaluate: name some by --strategies full,budget:64.")
    twice = next((name for name in strategies if list(strategies).count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"strategy {twice} is named twice: once is enough.")
    shares = list(sweep)
    wrong = next((share for share in shares if not 0 < share <= 1), None)
    if wrong is not None:
        raise ConfigError(f"the sweep has a budget of {wrong:g} of the total: give shares above 0, up to 1.")
    budgets = sorted({max(1, int(share * total)) for share in shares})
    added = ["full", "nothink", *(f"budget:{budget}" for budget in budgets)] if baselines else []
    names = [*strategies, *(name for name in added if name not in strategies)]
    kinds: tuple[Steering, ...] = ("none", "vectors") if steered else ("none",)
    lines = [Line(name, kind, asked=name in strategies) for name in names for kind in kinds]
    if not baselines:
        return lines
    lines += [Line(line.strategy, line.steering, "random", False) for line in lines if line.kind in ROUTED]
    if steered:
        controlled = ["full", *(name for name in strategies if not Line(name).is_fixed)]
        lines += [Line(name, "random vector", asked=False) for name in controlled]
    return lines
