"""What a completion is worth to the policy: AdaptThink's advantage, and length rewards within a group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Protocol

from pts.records import Problem
from pts.training.length_rewards import LengthReward
from pts.training.samples import Mode, Sample


@dataclass(frozen=True, slots=True)
class Scored:
    """A sample's reward, which is reported, and its advantage, which weighs its gradient."""

    reward: float
    advantage: float


class Objective(Protocol):
    """How a group of completions of one problem is asked for and judged."""

    def modes(self, n: int) -> list[Mode]:
        """How each of `n` completions of a problem begins."""

    def scored(self, problem: Problem, group: Sequence[Sample], step: int) -> list[Scored]:
        """Reward and advantage of each, at a training step (from 0)."""


@dataclass(frozen=True, slots=True)
class AdaptThink:
    """The advantage of AdaptThink (Zhang et al. 2025): reward − reference mean + δ·1[no
    thinking], with no group mean and no scaling.

    `references` has the success of the unchanged model's thinking on each problem. With None the reference is
    the policy's own thinking: the mean over the group's other thinking completions. `delta` is δ. With
    `importance_sampling` half of a group is made to think and half not to; without, the policy chooses.
    `length` is a length reward of the thinking completions, added for what exceeds their mean.
    """

    delta: float
    references: Mapping[str, float] | None
    importance_sampling: bool = True
    length: LengthReward | None = None

    def modes(self, n: int) -> list[Mode]:
        """Half without thinking and half with it; all free without importance sampling."""
        if not self.importance_sampling:
            return ["free"] * n
        return ["no thinking" if place < n // 2 else "thinking" for place in range(n)]

    def scored(self, problem: Problem, group: Sequence[Sample], step: int) -> list[Scored]:
        """Reward (success, δ and length reward) and advantage of each."""
        thinking = [sample for sample in group if sample.thinks]
        length = dict(zip(map(id, thinking), self._lengths(thinking, step), strict=True))
        scored = []
        for sample in group:
            gain = float(sample.success) + (length[id(sample)] if sample.thinks else self.delta)
            scored.append(Scored(gain, gain - self._reference(problem, sample, thinking)))
        return scored

    def _lengths(self, thinking: Sequence[Sample], step: int) -> list[float]:
        """The length reward of each thinking completion, less their mean."""
        if self.length is None or not thinking:
            return [0.0] * len(thinking)
        rewards = self.length(thinking, step)
        mean = fmean(rewards)
        return [reward - mean for reward in rewards]

    def _reference(self, problem: Problem, sample: Sample, thinking: Sequence[Sample]) -> float:
        if self.references is not None:
            return self.references[problem.id]
        successes = sum(other.success for other in thinking)
        if not sample.thinks:
            return successes / len(thinking) if thinking else 0.0
        others = len(thinking) - 1
        return (successes - sample.success) / others if others else float(sample.success)


@dataclass(frozen=True, slots=True)
class GroupReward:
    """Success plus a length reward, less the group's mean (GRPO without scaling, as in Liu et al. 2025).

    `length` None is plain reinforcement learning on success.
    """

    length: LengthReward | None = None

    def modes(self, n: int) -> list[Mode]:
        """All as the policy likes."""
        return ["free"] * n

    def scored(self, problem: Problem, group: Sequence[Sample], step: int) -> list[Scored]:  # noqa: ARG002
        """Reward and advantage of each."""
        lengths = [0.0] * len(group) if self.length is None else self.length(group, step)
        rewards = [sample.success + length for sample, length in zip(group, lengths, strict=True)]
        mean = fmean(rewards)
        return [Scored(reward, reward - mean) for reward in rewards]
