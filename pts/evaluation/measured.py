"""Two ways to decode, measured on the same problems."""

from __future__ import annotations

from dataclasses import dataclass

from pts.evaluation.outcomes import Outcomes
from pts.ranks import rank_among, rank_p_value


@dataclass(frozen=True, slots=True)
class Example:
    """One problem decoded twice with the same random numbers: as the model is, and steered."""

    query: str
    answer: str
    unsteered: str
    steered: str


@dataclass(frozen=True, slots=True)
class Measured:
    """Outcomes without and with steering on the same problems, their paired difference with its interval.

    `random` are the outcomes of random vectors at the same layers, of the same norms, behind the same gates.
    """

    unsteered: Outcomes
    steered: Outcomes
    difference: float
    low: float
    high: float
    example: Example | None
    random: tuple[Outcomes, ...] = ()

    @property
    def random_differences(self) -> tuple[float, ...]:
        """Success with each random vector, less success without one."""
        return tuple(each.success - self.unsteered.success for each in self.random)

    @property
    def rank(self) -> int:
        """The place of the difference among those of the random vectors, from 1; ties count against it."""
        return rank_among(self.difference, self.random_differences)

    @property
    def p_value(self) -> float:
        """Of "a random direction does as much at the same place and strength": rank / (random vectors + 1)."""
        return rank_p_value(self.difference, self.random_differences)

    def figures(self) -> dict[str, object]:
        """What was measured, for a file."""
        systems = {"unsteered": self.unsteered, "steered": self.steered}
        return {
            "problems": len(self.unsteered.successes),
            "samples": self.unsteered.samples,
            **{
                name: {"success": each.success, "tokens": each.tokens_each, "cut": each.cut_share}
                for name, each in systems.items()
            },
            "difference": self.difference,
            "low": self.low,
            "high": self.high,
            "random": list(self.random_differences),
            "rank": self.rank,
            "p_value": self.p_value,
        }
