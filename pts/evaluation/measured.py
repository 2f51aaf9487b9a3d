"""Two ways to decode, measured on the same problems."""

from __future__ import annotations

from dataclasses import dataclass

from pts.evaluation.outcomes import Outcomes
from pts.ranks import rank_among

LEVEL = 0.95
"""Of the interval of the difference."""


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

    `random` are the outcomes of random vectors at the same layers, of the same norms, behind the same gates, on
    the first problems if they were dropped from a race. `place` is that of the set's vectors in it, from 1, and
    None where all were measured on all problems.
    """

    unsteered: Outcomes
    steered: Outcomes
    difference: float
    low: float
    high: float
    example: Example | None
    random: tuple[Outcomes, ...] = ()
    place: int | None = None

    @property
    def random_differences(self) -> tuple[float, ...]:
        """Success with each random vector, less success without one on the same problems."""
        plain = self.unsteered.rates
        return tuple(float((each.rates - plain[: len(each.rates)]).mean()) for each in self.random)

    @property
    def rank(self) -> int:
        """The place among the random vectors by success, from 1; ties count against it."""
        return rank_among(self.difference, self.random_differences) if self.place is None else self.place

    @property
    def p_value(self) -> float:
        """Of "a random direction does as much at the same place and strength": rank / (random vectors + 1).

        Under this null the set's vectors and the random ones are exchangeable, and each rank is equally likely
        (Barnard 1963), in a race too: it treats all of them alike.
        """
        return self.rank / (len(self.random) + 1)

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
            "random_problems": [len(each.successes) for each in self.random],
            "rank": self.rank,
            "p_value": self.p_value,
        }
