"""The systems that an evaluation compares: each strategy, unsteered and steered, and the baselines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from pts.errors import ConfigError
from pts.setting_names import setting

Steering: TypeAlias = Literal["none", "vectors", "random direction"]
Routing: TypeAlias = Literal["own", "random"]

ROUTED = ("auto",)
"""Strategies that ask a router."""
SWEEP = (0.125, 0.25, 0.375, 0.5, 0.75)
"""Fixed budgets of thinking that are added, as shares of the total."""


@dataclass(frozen=True, slots=True)
class System:
    """A strategy, steered or not: what an evaluation compares.

    `routing` is random where a router of the same rates replaces the strategy's own. `asked` says whether the
    user named its strategy; otherwise it is there to compare with. `control` is the number, from 0, of the
    set's calibrated random direction that steers it, None for every other system.
    """

    strategy: str
    steering: Steering = "none"
    routing: Routing = "own"
    asked: bool = True
    control: int | None = None

    @property
    def name(self) -> str:
        """What tables and items call it."""
        routed = " (random router)" if self.routing == "random" else ""
        numbered = "" if self.control is None else f" {self.control + 1}"
        return f"{self.strategy}{routed}{'' if self.steering == 'none' else f' + {self.steering}{numbered}'}"

    @property
    def kind(self) -> str:
        """The strategy without its argument."""
        return self.strategy.partition(":")[0]

    @property
    def is_fixed(self) -> bool:
        """Whether it spends the same budget on every question: a point of the frontier."""
        return self.kind in ("full", "nothink", "budget")


def plan_systems(
    strategies: Sequence[str],
    steered: bool,
    baselines: bool,
    total: int,
    sweep: Iterable[float] = SWEEP,
    controls: int = 0,
) -> list[System]:
    """The systems for the strategies named, each unsteered and, where there are vectors, steered.

    With `baselines` full, nothink and a sweep of fixed budgets (`sweep` holds shares of `total`) join them, a
    random router beside every router, and beside the vectors `full` with each of the set's `controls`, which
    answer with the first seed alone. Routed systems come before their random routers. Raises ConfigError for no
    strategy, for one named twice, or for a share outside (0, 1].
    """
    if not strategies:
        raise ConfigError(f"there is no strategy to evaluate: give {setting('strategies', 'full,budget:64')}.")
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
    systems = [System(name, kind, asked=name in strategies) for name in names for kind in kinds]
    if not baselines:
        return systems
    systems += [
        System(system.strategy, system.steering, "random", False) for system in systems if system.kind in ROUTED
    ]
    if steered:
        systems += [
            System("full", "random direction", asked=False, control=number) for number in range(controls)
        ]
    return systems


def compared(systems: Iterable[System]) -> list[System]:
    """The systems with answers of every seed: all but random directions, which have a test of their own."""
    return [system for system in systems if system.control is None]
