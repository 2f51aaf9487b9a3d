"""What each training step saw: rewards, lengths and the share of no thinking, by level; kept and drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from pts.records import Problem, TokenIds
from pts.training.objectives import Scored
from pts.training.pictures import Panel, picture
from pts.training.references import level_of
from pts.training.samples import Sample


@dataclass(frozen=True, slots=True)
class LevelCurve:
    """One level's part of a step. Successes are nan where no completion of the mode was drawn."""

    no_thinking: float
    thinking_success: float
    no_thinking_success: float
    tokens: float


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """A training step, before its update.

    `no_thinking` is the policy's own probability of no thinking at the training sampler, `no_thinking_decoding`
    at the sampler that answers (both means over the step's problems; 0 for a model without modes). `success`
    and `tokens` are what the policy would have by those probabilities: completions whose mode was forced are
    weighed by them. `cut` is the share that a limit cut. `loss`, `grad_norm` and `learning_rate` are the
    update's, `seconds` its time. `equal` says that no completion's reward differed from another's of its mode.
    """

    step: int
    reward: float
    success: float
    tokens: float
    no_thinking: float
    no_thinking_decoding: float
    thinking_tokens: float
    no_thinking_tokens: float
    cut: float
    levels: Mapping[str, LevelCurve]
    loss: float = math.nan
    grad_norm: float = math.nan
    learning_rate: float = math.nan
    seconds: float = 0.0
    equal: bool = False


@dataclass(frozen=True, slots=True)
class Drawn:
    """A problem's group of a step, as scored, with the policy's probabilities of no thinking."""

    problem: Problem
    prompt: TokenIds
    group: Sequence[Sample]
    scored: Sequence[Scored]
    no_thinking: float
    no_thinking_decoding: float

    def mean(self, of: Sequence[float], thinking: Sequence[float]) -> float:
        """The policy's mean of a quantity: the groups' means of both modes, weighed by its choice."""
        forced = any(sample.forced for sample in self.group)
        if not forced or not of or not thinking:
            return fmean([*of, *thinking])
        return self.no_thinking * fmean(of) + (1.0 - self.no_thinking) * fmean(thinking)


def curve_point(step: int, drawn: Sequence[Drawn]) -> CurvePoint:
    """The point of a step, its update's numbers left open."""
    levels: dict[str, list[Drawn]] = {}
    for one in drawn:
        levels.setdefault(level_of(one.problem), []).append(one)
    samples = [sample for one in drawn for sample in one.group]
    rewards = [score.reward for one in drawn for score in one.scored]
    return CurvePoint(
        step,
        reward=fmean(rewards),
        success=_success(drawn),
        tokens=_tokens(drawn),
        no_thinking=fmean(one.no_thinking for one in drawn),
        no_thinking_decoding=fmean(one.no_thinking_decoding for one in drawn),
        thinking_tokens=_mean(sample.tokens for sample in samples if sample.thinks),
        no_thinking_tokens=_mean(sample.tokens for sample in samples if not sample.thinks),
        cut=fmean(sample.cut for sample in samples),
        levels={level: _level(members) for level, members in sorted(levels.items())},
        equal=_is_equal(drawn),
    )


def _is_equal(drawn: Sequence[Drawn]) -> bool:
    """Whether all completions that began in one mode have one reward: then success teaches nothing."""
    rewards: dict[bool, set[float]] = {}
    for one in drawn:
        for sample, score in zip(one.group, one.scored, strict=True):
            rewards.setdefault(sample.thinks, set()).add(score.reward)
    return all(len(found) == 1 for found in rewards.values())


def _level(drawn: Sequence[Drawn]) -> LevelCurve:
    samples = [sample for one in drawn for sample in one.group]
    return LevelCurve(
        fmean(one.no_thinking for one in drawn),
        _mean(sample.success for sample in samples if sample.thinks),
        _mean(sample.success for sample in samples if not sample.thinks),
        _tokens(drawn),
    )


def _success(drawn: Sequence[Drawn]) -> float:
    return fmean(
        one.mean(
            [float(sample.success) for sample in one.group if not sample.thinks],
            [float(sample.success) for sample in one.group if sample.thinks],
        )
        for one in drawn
    )


def _tokens(drawn: Sequence[Drawn]) -> float:
    return fmean(
        one.mean(
            [float(sample.tokens) for sample in one.group if not sample.thinks],
            [float(sample.tokens) for sample in one.group if sample.thinks],
        )
        for one in drawn
    )


def _mean(values: object) -> float:
    listed = [float(value) for value in values]  # type: ignore[attr-defined]
    return fmean(listed) if listed else math.nan


def curves_picture(points: Sequence[CurvePoint]) -> bytes:
    """The curves as a PNG: reward and success, length, and the share of no thinking by level.

    Raises ConfigError where matplotlib is missing.
    """
    levels = sorted({level for point in points for level in point.levels})
    panels = [
        Panel(
            "Reward and success",
            "",
            {"reward": [p.reward for p in points], "success": [p.success for p in points]},
        ),
        Panel(
            "Length",
            "tokens",
            {"all": [p.tokens for p in points], "thinking": [p.thinking_tokens for p in points]},
        ),
        Panel(
            "Share of no thinking",
            "",
            {
                level: [p.levels[level].no_thinking if level in p.levels else math.nan for p in points]
                for level in levels
            },
            "level" if len(levels) > 1 else None,
        ),
    ]
    return picture([point.step for point in points], panels)
