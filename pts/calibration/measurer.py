"""Who makes the completions of a calibration: streams of variants on problems, and their outcomes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeAlias

from pts.evaluation.decoder import Decoder
from pts.evaluation.outcomes import Outcomes, run_variants
from pts.records import Problem
from pts.steering.hooks import Variant

Keep: TypeAlias = Callable[[int, int, Outcomes], None]
"""Hears of a stream's place, a variant's number in it, and its outcomes once they are all there."""
Count: TypeAlias = Callable[[int, int], None]
"""Hears of completions and their tokens as they come."""


@dataclass(frozen=True, slots=True)
class Stream:
    """Variants that are measured together, `samples` completions of each problem.

    Those of the variants have the numbers from 1; without any it is the model as it is, number 0.
    """

    variants: tuple[Variant, ...]
    problems: tuple[Problem, ...]
    samples: int
    seed: int

    @property
    def numbers(self) -> list[int]:
        """The numbers of what is measured."""
        return list(range(1, len(self.variants) + 1)) or [0]


class Measurer(Protocol):
    """Measures streams: in this process (`MeasureHere`), or in others."""

    def __call__(self, streams: Sequence[Stream], keep: Keep, count: Count) -> None:
        """Measure all of them; `keep` and `count` hear of what is done."""


@dataclass(frozen=True, slots=True)
class MeasureHere:
    """Measures with a decoder of this process, one stream after another."""

    decoder: Decoder

    def __call__(self, streams: Sequence[Stream], keep: Keep, count: Count) -> None:
        """Measure all of them."""
        for place, stream in enumerate(streams):
            measure_stream(self.decoder, stream, partial(keep, place), count)


def measure_stream(
    decoder: Decoder, stream: Stream, keep: Callable[[int, Outcomes], None], count: Count | None = None
) -> None:
    """Measure one stream; `keep` hears of a variant's number and outcomes."""
    with decoder.steered(stream.variants) as policy:
        run_variants(
            policy,
            decoder.sampling,
            stream.problems,
            decoder.grade,
            stream.numbers,
            stream.samples,
            stream.seed,
            count,
            keep,
        )
