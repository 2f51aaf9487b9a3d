"""Thresholds of strategies, chosen by what they do to success and to tokens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pts.evaluation.estimates import Floats


@dataclass(frozen=True, slots=True)
class ThresholdPoint:
    """One threshold that was tried: mean success and mean tokens of an answer."""

    threshold: float
    success: float
    tokens: float


@dataclass(frozen=True, slots=True)
class ThresholdFit:
    """The threshold of `strategy` that was chosen, on `problems` with one answer each, among `points`.

    `digest` is of the problems: another digest, another choice.
    """

    strategy: str
    threshold: float
    problems: int
    digest: str
    points: tuple[ThresholdPoint, ...]


def cheapest_of_best(success: Floats, tokens: Floats) -> int:
    """The row with the fewest tokens among those no more than a standard error below the best success.

    success, tokens: [choices, problems], of the same problems. The standard error is that of the paired
    difference from the best row (the cheaper of equals). The one-standard-error rule (Breiman et al. 1984):
    choices that the problems cannot tell apart are equal, and then cost decides.
    """
    means, costs = success.mean(axis=1), tokens.mean(axis=1)
    best = min(range(len(means)), key=lambda row: (-means[row], costs[row]))
    behind = success[best] - success
    errors = behind.std(axis=1, ddof=1) / np.sqrt(success.shape[1])
    # A difference in one problem alone is a standard error exactly: rounding must not decide.
    good = [row for row in range(len(means)) if behind[row].mean() <= errors[row] + 1e-12]
    return min(good, key=lambda row: (costs[row], -means[row]))
