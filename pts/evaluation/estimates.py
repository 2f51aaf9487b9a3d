"""Intervals and tests over problems.

Problems are the independent units: a problem's seeds are averaged first, and a resample draws problems.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pts.seeds import derive_seed

Floats = npt.NDArray[np.float64]

LEVEL, RESAMPLES = 0.95, 10_000
_BLOCK = 2_000_000
"""Most draws that are in memory at once."""


class Estimate(NamedTuple):
    """A value with its interval and the two-sided p-value of its being zero (nan where that is no question)."""

    value: float
    low: float
    high: float
    p_value: float = float("nan")


def resampled_means(values: Floats, resamples: int, seed: int) -> Floats:
    """Means of `values` [quantities, problems] over problems drawn anew: [resamples, quantities].

    The bootstrap of Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13. All quantities
    share their resamples, so what is computed from a row is paired.
    """
    problems = values.shape[1]
    rng = np.random.default_rng(seed)
    even = np.full(problems, 1 / problems)
    block = max(1, _BLOCK // problems)
    return np.concatenate(
        [
            rng.multinomial(problems, even, size=min(block, resamples - start)) @ values.T / problems
            for start in range(0, resamples, block)
        ]
    )


def percentiles(draws: Floats, level: float = LEVEL) -> tuple[float, float]:
    """The middle `level` of the draws."""
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def interval(
    means: Floats, draws: Floats, bounds: tuple[float, float] | None, level: float = LEVEL
) -> tuple[float, float]:
    """The percentile interval of a mean of `means` [problems] with its bootstrap `draws`.

    `bounds` are the least and greatest possible values. Where all problems are alike a bootstrap has nothing to
    vary: with bounds the interval then allows for a share of unlike problems that so many could have missed
    (Clopper and Pearson's, for none seen).
    """
    if bounds is None or np.ptp(means) > 0:
        return percentiles(draws, level)
    missed = 1 - ((1 - level) / 2) ** (1 / len(means))
    at = float(means[0])
    return at - missed * (at - bounds[0]), at + missed * (bounds[1] - at)


def mcnemar_p(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """McNemar's exact p-value of paired outcomes 0 or 1: a binomial test of the pairs that differ (1947)."""
    from statsmodels.stats.contingency_tables import mcnemar

    one, other = np.asarray(first).astype(bool).ravel(), np.asarray(second).astype(bool).ravel()
    table = [[np.sum(one & other), np.sum(one & ~other)], [np.sum(~one & other), np.sum(~one & ~other)]]
    return min(1.0, float(mcnemar(table, exact=True).pvalue))


def sign_flip_p(gaps: Floats, seed: int = 0, resamples: int = RESAMPLES) -> float:
    """Two-sided p-value of a mean of zero for paired differences [problems], by random flips of their signs.

    Phipson and Smyth's estimate (2010), which is never zero.
    """
    unlike = gaps[gaps != 0]
    if not unlike.size:
        return 1.0
    rng = np.random.default_rng(derive_seed(seed, "sign flips"))
    reached, observed = 0, abs(unlike.sum()) - 1e-9
    block = max(1, _BLOCK // unlike.size)
    for start in range(0, resamples, block):
        signs = rng.integers(0, 2, size=(min(block, resamples - start), unlike.size)) * 2.0 - 1.0
        reached += int(np.sum(np.abs(signs @ unlike) >= observed))
    return (reached + 1) / (resamples + 1)


def bootstrap_p(draws: Floats) -> float:
    """Two-sided p-value of zero from bootstrap draws of an estimate: twice the smaller tail beyond zero."""
    tail = min(int(np.sum(draws <= 0)), int(np.sum(draws >= 0)))
    return min(1.0, 2 * (tail + 1) / (len(draws) + 1))
