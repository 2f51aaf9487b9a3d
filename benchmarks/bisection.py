"""The search that everybody else does: recursive bisection with a fixed number of samples a node.

Written from the description of pivotal token search in the Phi-4 technical report (Abdin et al. 2024, section
4.3): a segment whose two ends differ in estimated success by less than the threshold is left; any other is
split at the midpoint of its cumulative log-probability, down to single tokens, which are reported.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pts.pivot_search import Grade
from pts.policies.protocol import Policy
from pts.records import RolloutRequest, Sampling, TokenIds


@dataclass(frozen=True)
class Bisected:
    """What bisection reports of one trace, as (position, estimated effect), and the tokens it generated."""

    reported: tuple[tuple[int, float], ...]
    tokens: int


def bisect(
    policy: Policy,
    sampling: Sampling,
    grade: Grade,
    answer: str,
    prompt: TokenIds,
    trace: TokenIds,
    samples: int,
    threshold: float,
    seed: int,
) -> Bisected:
    """Bisect one trace; the trace's own grade is taken as the value of its end, for nothing."""
    distributions = policy.next_token_probs(prompt, trace, sampling)
    surprise = [-np.log(d.prob(t)) for d, t in zip(distributions, trace, strict=True)]
    values = {len(trace): float(grade(policy.decode(trace), answer))}
    tokens = 0

    def value(position: int) -> float:
        nonlocal tokens
        if position not in values:
            request = RolloutRequest(
                prompt, trace[:position], n=samples, seed=seed * 100_003 + position, sampling=sampling
            )
            successes = 0
            for rollout in policy.rollouts([request]):
                tokens += rollout.count * (len(rollout.completion) - position)
                succeeded = rollout.finish == "end" and grade(policy.decode(rollout.completion), answer)
                successes += rollout.count * succeeded
            values[position] = successes / samples
        return values[position]

    reported = []
    segments = [(0, len(trace))]
    while segments:
        first, last = segments.pop()
        effect = value(last) - value(first)
        if abs(effect) < threshold:
            continue
        if last - first == 1:
            reported.append((first, effect))
            continue
        middle = _midpoint(surprise[first:last]) + first
        segments += [(middle, last), (first, middle)]
    return Bisected(tuple(sorted(reported)), tokens)


def _midpoint(surprise: list[float]) -> int:
    """Where to split so that both parts hold as nearly as possible the same surprise, and neither is empty."""
    through = np.cumsum(surprise)
    return 1 + int(np.argmin(np.abs(through[:-1] - through[-1] / 2)))
