"""How well a score tells large effects from the rest: AUC with a bootstrap over problems, average precision."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

LEVEL = 0.95
_CHUNK = 100
"""Resamples that are scored at once."""


@dataclass(frozen=True, slots=True)
class Scored:
    """A score's AUC with its interval and by resample [B], its average precision, and the base rate of it."""

    auc: float
    low: float
    high: float
    precision: float
    resampled: Floats


def resamples(problem: npt.NDArray[np.int64], count: int, seed: int) -> Floats:
    """How often each row is in each resample of the problems [B, rows]."""
    names, rows = np.unique(problem, return_inverse=True)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=count)
    return drawn[:, rows].astype(np.float64)


def scored(score: Floats, large: Bools, weights: Floats) -> Scored:
    """A score over rows, against which of them are `large`; `weights` [B, rows] are the resamples."""
    auc, precision = _auc_and_precision(score, large, np.ones((1, len(score))))
    parts = [
        _auc_and_precision(score, large, weights[start : start + _CHUNK])[0]
        for start in range(0, len(weights), _CHUNK)
    ]
    resampled = np.concatenate(parts)
    low, high = interval(resampled)
    return Scored(float(auc[0]), low, high, float(precision[0]), resampled)


def interval(resampled: Floats) -> tuple[float, float]:
    """The percentile interval of resampled figures; those without a large effect, or with no other, aside."""
    tail = (1 - LEVEL) / 2
    known = resampled[np.isfinite(resampled)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, (tail, 1 - tail))
    return float(low), float(high)


def _auc_and_precision(score: Floats, large: Bools, weights: Floats) -> tuple[Floats, Floats]:
    """Both for each row of `weights` [B, rows]. Rows of equal score count as half above each other in the AUC,
    and as found together in the average precision."""
    order = np.argsort(-score, kind="stable")
    ordered = score[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    hits = np.add.reduceat(weights[:, order] * large[order], starts, axis=1)
    others = np.add.reduceat(weights[:, order] * ~large[order], starts, axis=1)
    found, passed = np.cumsum(hits, axis=1), np.cumsum(others, axis=1)
    total, rest = found[:, -1:], passed[:, -1:]
    with np.errstate(invalid="ignore", divide="ignore"):
        auc = (hits * (rest - passed + others / 2)).sum(axis=1) / (total * rest)[:, 0]
        precision = (hits * np.nan_to_num(found / (found + passed))).sum(axis=1) / total[:, 0]
    return auc, precision
