"""What fixed budgets reach at each cost, and how far another strategy is above that."""

from __future__ import annotations

import numpy as np

from pts.evaluation.estimates import Floats


def frontier_at(tokens: Floats, success: Floats, at: Floats) -> Floats:
    """The frontier of points [..., points] at a cost of `at` [...] tokens; nan below the cheapest point.

    The highest success that points reach for no more than `at` tokens in the mean, alone or two of them mixed:
    to take one budget or another by a coin is a strategy too, so the frontier is the upper concave hull, made
    non-decreasing: what costs more and gains nothing lowers nothing.
    """
    first_tokens, second_tokens = tokens[..., :, None], tokens[..., None, :]
    first, second = success[..., :, None], success[..., None, :]
    cost = at[..., None, None]
    between = (first_tokens <= cost) & (cost < second_tokens)
    gap = np.where(between, second_tokens - first_tokens, 1.0)
    mixed = first + (second - first) * (cost - first_tokens) / gap
    best_mix = np.where(between, mixed, -np.inf).max(axis=(-2, -1))
    best_alone = np.where(tokens <= at[..., None], success, -np.inf).max(axis=-1)
    best: Floats = np.maximum(best_mix, best_alone)
    return np.where(np.isneginf(best), np.nan, best)


def frontier_corners(tokens: Floats, success: Floats) -> list[tuple[float, float]]:
    """The corners (tokens, success) of the frontier of points [points], cheapest first."""
    corners: list[tuple[float, float]] = []
    for point in sorted(zip(tokens.tolist(), success.tolist(), strict=True), key=lambda p: (p[0], -p[1])):
        if corners and point[1] <= corners[-1][1]:
            continue
        while len(corners) > 1 and _is_under(corners[-1], corners[-2], point):
            corners.pop()
        corners.append(point)
    return corners


def gains(success: Floats, tokens: Floats, *, held: bool = False) -> Floats:
    """Success of the last of the points [..., points + 1] minus the frontier of the others at its cost: [...].

    nan where it costs less than the cheapest; with `held` it is compared with the cheapest point then.
    """
    at = tokens[..., -1]
    if held:
        at = np.maximum(at, tokens[..., :-1].min(axis=-1))
    found: Floats = success[..., -1] - frontier_at(tokens[..., :-1], success[..., :-1], at)
    return found


def _is_under(point: tuple[float, float], before: tuple[float, float], after: tuple[float, float]) -> bool:
    """Whether a point is on or below the line from the one before to the one after."""
    rise = (after[1] - before[1]) * (point[0] - before[0])
    return (point[1] - before[1]) * (after[0] - before[0]) <= rise
