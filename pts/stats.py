"""Intervals, tests and error-rate control for success counts: thin, over scipy and statsmodels.

Both take a second to import, so each function imports what it needs: `pts --help` needs none.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

NUISANCE_POINTS = 64
"""How finely the unknown base rate is searched for the largest tail probability."""


def proportion_interval(successes: int, n: int, level: float) -> tuple[float, float]:
    """Clopper–Pearson interval for a success probability; (0, 1) where n is 0."""
    from statsmodels.stats.proportion import proportion_confint

    if n == 0:
        return 0.0, 1.0
    low, high = proportion_confint(successes, n, alpha=1 - level, method="beta")
    return float(low), float(high)


def difference_interval(s1: int, n1: int, s2: int, n2: int, level: float) -> tuple[float, float]:
    """Newcombe's hybrid score interval for p1 − p2 (Newcombe 1998, method 10), clipped to [−1, 1].

    Raises ValueError where either n is 0.
    """
    from statsmodels.stats.proportion import confint_proportions_2indep

    if n1 == 0 or n2 == 0:
        raise ValueError(f"a difference needs draws on both sides, not {n1} and {n2}")
    low, high = confint_proportions_2indep(s1, n1, s2, n2, method="newcomb", compare="diff", alpha=1 - level)
    return max(-1.0, float(low)), min(1.0, float(high))


def difference_intervals(n1: int, n2: int, level: float) -> tuple[Floats, Floats]:
    """`difference_interval` of every outcome at once: lower and upper ends [n1 + 1, n2 + 1] each."""
    from scipy.stats import norm

    z = float(norm.ppf((1.0 + level) / 2.0))
    first, second = (_wilson_intervals(n, z) for n in (n1, n2))
    p1, low1, high1 = (each[:, None] for each in first)
    p2, low2, high2 = (each[None, :] for each in second)
    below = np.sqrt((p1 - low1) ** 2 + (high2 - p2) ** 2)
    above = np.sqrt((high1 - p1) ** 2 + (p2 - low2) ** 2)
    return np.maximum(p1 - p2 - below, -1.0), np.minimum(p1 - p2 + above, 1.0)


def _wilson_intervals(n: int, z: float) -> tuple[Floats, Floats, Floats]:
    """Observed proportion, lower and upper end of Wilson's score interval for all outcomes, [n + 1] each."""
    share = np.arange(n + 1) / n
    weight = z * z / n
    middle = (share + weight / 2.0) / (1.0 + weight)
    half = np.sqrt(weight * (share * (1.0 - share) + weight / 4.0)) / (1.0 + weight)
    return share, np.maximum(middle - half, 0.0), np.minimum(middle + half, 1.0)


def difference_p_value(s1: int, n1: int, s2: int, n2: int, margin: float) -> float:
    """Exact unconditional p-value for the null |p1 − p2| ≤ margin, the largest over that set, both tails.

    Outcomes are ordered by Miettinen and Nurminen's score statistic at the margin (Statistics in Medicine
    1985); the tail probability of the order is then exact (Chan 1998), maximised over the unknown base rate
    on a grid. Returns 1.0 where the observed difference is within the margin.
    """
    from scipy.stats import binom

    if margin >= 1 or abs(s1 / n1 - s2 / n2) <= margin:
        return 1.0
    if s1 / n1 < s2 / n2:  # the null is symmetric: look at the positive side
        s1, n1, s2, n2 = s2, n2, s1, n1
    upper = score_table(n1, n2, margin)
    observed = upper[s1, s2] - 1e-9
    lower = -score_table(n2, n1, margin).T  # the mirrored tail, as low as `observed` is high
    extreme = (upper >= observed) | (lower <= -observed)
    base = np.linspace(0.0, 1.0 - margin, NUISANCE_POINTS)
    worst = 0.0
    for first, second in ((base + margin, base), (base, base + margin)):
        pmf1 = binom.pmf(np.arange(n1 + 1)[:, None], n1, np.clip(first, 0, 1)[None, :])
        pmf2 = binom.pmf(np.arange(n2 + 1)[:, None], n2, np.clip(second, 0, 1)[None, :])
        worst = max(worst, float(np.max(np.sum(pmf1 * (extreme @ pmf2), axis=0))))
    return min(1.0, worst)


@functools.lru_cache(maxsize=256)
def score_table(n1: int, n2: int, margin: float) -> Floats:
    """Miettinen and Nurminen's score statistics for p1 − p2 = margin over all outcomes [n1 + 1, n2 + 1]."""
    p1 = np.arange(n1 + 1)[:, None] / n1
    p2 = np.arange(n2 + 1)[None, :] / n2
    base = _constrained_base_rate(p1, n1, p2, n2, margin)
    variance = (base + margin) * (1 - base - margin) / n1 + base * (1 - base) / n2
    excess = p1 - p2 - margin
    with np.errstate(divide="ignore", invalid="ignore"):
        score = excess / np.sqrt(np.maximum(variance, 0.0))
    degenerate = np.where(excess > 1e-12, np.inf, np.where(excess < -1e-12, -np.inf, 0.0))
    return np.where(variance > 1e-12, score, degenerate)


def _constrained_base_rate(p1: Floats, n1: int, p2: Floats, n2: int, margin: float) -> Floats:
    """Maximum-likelihood p2 under p1 = p2 + margin: the root of Farrington and Manning's cubic (1990)."""
    ratio = n2 / n1
    a = 1 + ratio
    b = -(a + p1 + ratio * p2 + margin * (ratio + 2))
    c = margin**2 + margin * (2 * p1 + a) + p1 + ratio * p2
    d = -p1 * margin * (1 + margin)
    third = b / (3 * a)
    cubed = third**3 - b * c / (6 * a**2) + d / (2 * a)
    root = np.where(cubed < 0, -1.0, 1.0) * np.sqrt(np.maximum(third**2 - c / (3 * a), 1e-24))
    angle = (np.pi + np.arccos(np.clip(cubed / root**3, -1.0, 1.0))) / 3
    base: Floats = np.clip(2 * root * np.cos(angle) - third - margin, 0.0, 1.0 - margin)
    return base


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """q-values: the smallest false discovery rate at which each hypothesis is rejected (1995 procedure)."""
    from scipy.stats import false_discovery_control

    if not p_values:
        return []
    return [float(q) for q in false_discovery_control(np.asarray(p_values, dtype=float), method="bh")]


def holm(p_values: npt.ArrayLike) -> Floats:
    """Holm's corrected p-values (1979) of a family of any shape; a nan stays one and is not counted.

    Not by statsmodels, which collects the process's garbage in each call: up to a second beside a model.
    """
    corrected = np.array(p_values, dtype=np.float64)
    tested = ~np.isnan(corrected)
    family = corrected[tested]
    order = np.argsort(family)
    steps = family[order] * np.arange(len(family), 0, -1)
    family[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    corrected[tested] = family
    return corrected


def bootstrap_mean_interval(
    values: npt.ArrayLike, level: float, seed: int, resamples: int = 10_000
) -> tuple[float, float]:
    """Percentile bootstrap interval for a mean over independent units, such as paired differences by problem.

    Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13. Raises ValueError for no
    values.
    """
    from scipy.stats import bootstrap

    sample = np.asarray(values, dtype=np.float64)
    if sample.size == 0:
        raise ValueError("an interval for a mean needs at least one value")
    if sample.size == 1:
        return float(sample[0]), float(sample[0])
    low, high = bootstrap(
        (sample,),
        np.mean,
        n_resamples=resamples,
        # In blocks: resamples times values need not fit in memory at once.
        batch=max(1, 2_000_000 // sample.size),
        confidence_level=level,
        method="percentile",
        rng=seed,
    ).confidence_interval
    return float(low), float(high)
