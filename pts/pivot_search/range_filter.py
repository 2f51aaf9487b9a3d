"""Whether a prompt's own value leaves room to search, decided on as few rollouts as make it clear."""

from __future__ import annotations

from pts.stats import proportion_interval

LOOKS = (12, 20, 32)
"""Rollouts from the prompt after each look."""
LEVEL = 0.8
"""Two-sided: a value at the edge of the range is taken to be outside by one look with chance at most 10%."""


def judge(successes: int, n: int, value_range: tuple[float, float]) -> bool | None:
    """True where the value is in the range, False where it is not, None where another look is needed."""
    low, high = proportion_interval(successes, n, LEVEL)
    if high < value_range[0] or low > value_range[1]:
        return False
    if value_range[0] <= low and high <= value_range[1]:
        return True
    return None if n < LOOKS[-1] else value_range[0] <= successes / n <= value_range[1]
