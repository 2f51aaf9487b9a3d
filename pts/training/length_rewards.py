"""Rewards of short completions in the forms that the field uses, each one short function with its source."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from pts.training.samples import Sample

Counted: TypeAlias = Literal["thinking", "answer", "all"]
"""Which tokens of a completion are its length."""

LengthForm: TypeAlias = Callable[[Sequence[int], Sequence[bool], "Aim"], list[float]]
"""From the lengths and successes of a group [n] to what each gains by its length [n], before the weight α."""


@dataclass(frozen=True, slots=True)
class Aim:
    """The length that a form compares with, in tokens, and the longest that there can be.

    `target` is what the form's own words say: a target, a limit, or the reference's mean length.
    """

    target: float
    longest: int


def linear(lengths: Sequence[int], successes: Sequence[bool], aim: Aim) -> list[float]:  # noqa: ARG001
    """0.5 for the shortest of the group to −0.5 for the longest, success or not: what goes wrong ungated."""
    shortest, longest = min(lengths), max(lengths)
    if shortest == longest:
        return [0.0] * len(lengths)
    return [0.5 - (length - shortest) / (longest - shortest) for length in lengths]


def kimi(lengths: Sequence[int], successes: Sequence[bool], aim: Aim) -> list[float]:
    """`linear` for a success, its negative part alone for a failure (Kimi k1.5, 2025)."""
    return [
        gain if success else min(0.0, gain)
        for gain, success in zip(linear(lengths, successes, aim), successes, strict=True)
    ]


def gated_linear(lengths: Sequence[int], successes: Sequence[bool], aim: Aim) -> list[float]:
    """1 for the shortest success of the group down to 0 for the longest; a failure gains nothing.

    The scale of Kimi k1.5 over the successes alone, moved so that none loses by succeeding. What is shorter
    than the target counts as the target: below it nothing more is gained.
    """
    held = [max(float(length), aim.target) for length in lengths]
    solved = [length for length, success in zip(held, successes, strict=True) if success]
    if not solved or min(solved) == max(solved):
        return [0.0] * len(lengths)
    span = max(solved) - min(solved)
    return [
        (max(solved) - length) / span if success else 0.0
        for length, success in zip(held, successes, strict=True)
    ]


def target(lengths: Sequence[int], successes: Sequence[bool], aim: Aim) -> list[float]:  # noqa: ARG001
    """−|length − target| ÷ target (L1-Exact, Aggarwal and Welleck 2025, with α free of units)."""
    return [-abs(length - aim.target) / aim.target for length in lengths]


def limit(lengths: Sequence[int], successes: Sequence[bool], aim: Aim) -> list[float]:
    """−1 for a success beyond the limit, which so counts as a failure (ThinkPrune, Hou et al. 2025).

    The limit is lowered in stages: see `LengthReward.aim_at`.
    """
    return [
        -1.0 if success and length > aim.target else 0.0
        for length, success in zip(lengths, successes, strict=True)
    ]


def ratio(lengths: Sequence[int], successes: Sequence[bool], aim: Aim) -> list[float]:  # noqa: ARG001
    """Reference length ÷ length − 1 (O1-Pruner, Luo et al. 2025)."""
    return [aim.target / max(1, length) - 1.0 for length in lengths]


def cosine(lengths: Sequence[int], successes: Sequence[bool], aim: Aim) -> list[float]:
    """From +0.5 at no tokens to −0.5 at the limit for a success, and from −0.5 up to 0 for a failure, along a
    half cosine (the shape of Yeo et al. 2025: a failure loses less the longer it thought)."""
    gains = []
    for length, success in zip(lengths, successes, strict=True):
        fall = 0.5 * (1.0 + math.cos(math.pi * min(1.0, length / aim.longest)))
        gains.append(fall - 0.5 if success else -0.5 * fall)
    return gains


FORMS: Mapping[str, LengthForm] = {
    "linear": linear,
    "kimi": kimi,
    "gated-linear": gated_linear,
    "target": target,
    "limit": limit,
    "ratio": ratio,
    "cosine": cosine,
}
"""The forms by name."""
WITH_TARGET = ("target", "limit", "ratio")
"""Forms that need a length to compare with; `gated-linear` takes one."""


@dataclass(frozen=True, slots=True)
class LengthReward:
    """A form with its weight `alpha`, what it counts, and its target in tokens.

    `longest` is the limit of a completion. `limits` are the targets of successive stages of training, each of
    `stage_steps` steps, for the form `limit`.
    """

    form: str
    alpha: float
    counted: Counted = "all"
    target: float = 0.0
    longest: int = 1
    limits: tuple[float, ...] = ()
    stage_steps: int = 1

    def __call__(self, group: Sequence[Sample], step: int) -> list[float]:
        """What each completion of a group gains by its length, at a training step (from 0)."""
        lengths = [self.length(sample) for sample in group]
        gains = FORMS[self.form](lengths, [sample.success for sample in group], self.aim_at(step))
        return [self.alpha * gain for gain in gains]

    def length(self, sample: Sample) -> int:
        """The tokens of a completion that count."""
        if self.counted == "thinking":
            return sample.thinking
        return sample.answer if self.counted == "answer" else sample.tokens

    def aim_at(self, step: int) -> Aim:
        """What the form compares with at a step: the last stage's limit stays to the end."""
        if not self.limits:
            return Aim(self.target, self.longest)
        return Aim(self.limits[min(step // self.stage_steps, len(self.limits) - 1)], self.longest)
