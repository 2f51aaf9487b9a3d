"""What an evaluation asks of whoever answers: some answers of one system."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pts.records import Problem


@dataclass(frozen=True, slots=True)
class AnswerJob:
    """Answers of one system to problems, each with the number of its seed, from 0.

    `variant` is the place of its steering, None where there is none: 0 for the vectors, then their random
    directions. `options` replace those of strategies, `shares` are those of a random router.
    """

    system: str
    strategy: str
    wanted: tuple[tuple[Problem, int], ...]
    variant: int | None = None
    options: Mapping[str, float] | None = None
    shares: Mapping[str, float] | None = None
