"""What a set did on problems on which it was measured later; the set carries it with its own effects."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pts.ranks import controls_needed


@dataclass(frozen=True, slots=True)
class SetMeasurement:
    """Success on the `problems` of a data set, unsteered and steered, `samples` completions of each.

    `strengths` are the patterns that were added, in multiples of their calibrated strength; `model` and
    `revision` what was steered. `problems_digest` is of the problems, in their order. `low` and `high` bound
    the difference at `level` (paired bootstrap over problems). `random` are the differences of random vectors
    of the same layers, norms and gates, which nobody calibrated, on the first `random_problems` each, `rank`
    the set's place among them, from 1 (None without any). Tokens are generated tokens of a completion, in the
    mean; `cut_unsteered` and `cut_steered` are the shares of completions that the budget cut.
    """

    dataset: str
    problems_digest: str
    model: str
    revision: str | None
    strengths: Mapping[str, float]
    problems: int
    samples: int
    seed: int
    unsteered: float
    steered: float
    difference: float
    low: float
    high: float
    level: float
    tokens_unsteered: float
    tokens_steered: float
    cut_unsteered: float
    cut_steered: float
    random: tuple[float, ...] = ()
    random_problems: tuple[int, ...] = ()
    rank: int | None = None
    race: bool = False

    def same_but_problems(self, other: SetMeasurement) -> bool:
        """Whether both were made in the same way, on whatever problems."""
        own, its = (
            (each.revision, dict(each.strengths), each.samples, each.seed, each.race) for each in (self, other)
        )
        return own == its

    @property
    def beside_random(self) -> str:
        """The rank among the random vectors, for people; a dash without any."""
        if self.rank is None:
            return "–"
        count = len(self.random)
        parts = [f"{self.rank} of {count + 1}", *(["race"] if self.race else [])]
        if count >= controls_needed():
            parts.append(f"p {self.rank / (count + 1):.3f}")
        return ", ".join(parts)

    def on_what(self, model: str) -> str:
        """The data set, and what was unusual: other patterns or strengths, a model other than the set's."""
        added = [name if factor == 1 else f"{name} × {factor:g}" for name, factor in self.strengths.items()]
        unusual = ([] if added == ["all"] else added) + ([] if self.model == model else [self.model])
        return f"{self.dataset} ({', '.join(unusual)})" if unusual else self.dataset


def with_measurement(
    kept: Sequence[SetMeasurement], made: SetMeasurement, digest_of_first: Callable[[int], str]
) -> tuple[SetMeasurement, ...]:
    """Those of a set and one more, which stands in the place of the same one on the first of its problems.

    One that has more random vectors beside it stays.

    `digest_of_first` is of the first so many problems of the new one, as `problems_digest` is.
    """

    def replaced(earlier: SetMeasurement) -> bool:
        fewer = earlier.problems <= made.problems and len(earlier.random) <= len(made.random)
        first = fewer and digest_of_first(earlier.problems) == earlier.problems_digest
        return first and made.same_but_problems(earlier)

    return (*(each for each in kept if not replaced(each)), made)


def measurement_rows(kept: Sequence[SetMeasurement], model: str) -> list[list[str]]:
    """A row for people of each, below `HEADINGS`. A model other than the set's, `model`, is named."""
    return [
        [
            each.on_what(model),
            f"{each.problems} × {each.samples}",
            f"{each.unsteered:.3f} → {each.steered:.3f}",
            f"{each.difference:+.3f}",
            f"{each.low:+.3f} to {each.high:+.3f}",
            each.beside_random,
            f"{each.tokens_unsteered:.0f} → {each.tokens_steered:.0f}",
            f"{each.cut_unsteered:.1%} → {each.cut_steered:.1%}",
        ]
        for each in kept
    ]


HEADINGS = ("problems", "number", "success", "difference", "interval", "rank", "tokens", "cut")
"""Of a table of measurements; the first column is a text."""
READING = (
    "Each row was measured after the set was made. The rank is among random vectors of the layers, norms and "
    "gates of the set's. They were not calibrated, while the strength and the sign of "
    "the set's were chosen, so a p-value here may be too small."
)
"""How the table is read."""
