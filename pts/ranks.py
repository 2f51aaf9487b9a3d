"""The rank of a value among controls that went through the same procedure, as a test (Barnard 1963)."""

from __future__ import annotations

import math
from collections.abc import Sequence

SIGNIFICANCE = 0.05
"""Chance of a false claim that is allowed."""


def rank_among(value: float, controls: Sequence[float]) -> int:
    """The place of a value among its controls, from 1; a control that ties stands before it."""
    return 1 + sum(control >= value for control in controls)


def rank_p_value(value: float, controls: Sequence[float], methods: int = 1) -> float:
    """The p-value of "the direction is no better than a random one": methods × rank / (controls + 1).

    Where a fitted direction is as good as one drawn at random, value and controls are exchangeable, and each
    rank is equally likely. A value that is the best of several `methods` had as many chances, so its p-value is
    multiplied by their number (Bonferroni). 1 without controls.
    """
    return min(1.0, methods * rank_among(value, controls) / (len(controls) + 1))


def controls_needed(methods: int = 1, patterns: int = 1) -> int:
    """The fewest controls with which a first rank can be claimed, among so many methods and patterns."""
    return math.ceil(methods * patterns / SIGNIFICANCE - 1e-9) - 1
