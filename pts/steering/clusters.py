"""Whether contrasts fall into clusters, and how many: stability over resamples, against a null without any."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score
from threadpoolctl import threadpool_limits

from pts.errors import DataError

Doubles = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

MAX_CLUSTERS = 8
SIGNIFICANCE = 1e-4
"""Largest p-value of the null at which there is structure. The p-value rests on few draws of the null: see
`_p_value`; what the rule really gives on noise is measured by `benchmarks/patterns.py`."""

_DIMENSIONS = 12
_HEAD = 64
"""Principal components whose null is drawn one by one; the rest are drawn as one squared length."""
_NULL_DRAWS = 24
_PARTS, _PART = 6, 0.7
_CAREFUL_PARTS, _CAREFUL_STARTS = 16, 12
_FINAL_STARTS = 48
_AS_STABLE = 0.03
"""Stabilities within this of the best are as good: what the clusters explain then decides."""
_TOLERANCE = 1e-3
"""Movement of the centres, as a share of the points' mean variance, at which a fit counts as done."""
_FEWEST = 30
_SMALLEST = 5


@dataclass(frozen=True, slots=True, eq=False)
class Clusters:
    """Which cluster each contrast is in, and the evidence for that.

    `labels` [n] are 0 to k − 1, the largest cluster first; k = 1 means that no structure was found. `p_value`
    is of the null that the contrasts are one elliptical cloud. `stability` is the mean adjusted Rand index of
    clusterings of resamples at k (1 where k is 1), `stabilities` the same for each k that was tried, and
    `null_stabilities` its mean on draws of the null (empty where no structure was found).
    """

    k: int
    labels: Ints
    stability: float
    p_value: float
    stabilities: Mapping[int, float]
    null_stabilities: Mapping[int, float]


@dataclass(frozen=True, slots=True, eq=False)
class _Cloud:
    """One elliptical cloud of directions, in the principal components of the data.

    Before it is scaled to unit length, a direction is normal with `mean` and `variance` [head], and has a
    squared length in the other components of `rest` plus a gamma variable.
    """

    mean: Doubles
    variance: Doubles
    rest: float
    spread: float
    shape: float

    def draw(self, n: int, rng: np.random.Generator) -> Doubles:
        """Directions [n, head + 1]: the head's components, and the length of the rest."""
        head = self.mean + rng.standard_normal((n, len(self.mean))) * np.sqrt(self.variance)
        gamma = rng.gamma(self.shape, 1 / self.shape, n) * self.spread if self.spread > 0 else np.zeros(n)
        drawn = np.column_stack([head, np.sqrt(self.rest + gamma)])
        lengths: Doubles = np.linalg.norm(drawn, axis=1, keepdims=True)
        return drawn / np.maximum(lengths, 1e-12)


@dataclass(frozen=True, slots=True, eq=False)
class _ByK:
    """Fits of each k on the parts: the clusters of all points [ks, parts, n], and what the fits explain.

    `explained` [ks] is minus the log share of variance left outside the fitted parts.
    """

    labels: Ints
    explained: Doubles


def cluster_contrasts(contrasts: npt.NDArray[np.floating], seed: int, max_k: int = MAX_CLUSTERS) -> Clusters:
    """Clusters of contrasts [n, hidden] by direction: k-means on the first principal components.

    Is there structure? For each k, centres are fitted on resamples of 70%, and the share of variance that they
    explain in the other 30% is compared with draws of a null: one normal cloud with the data's mean and
    covariance, scaled to unit length as the data are, and given the data's spectrum exactly (as in SigClust,
    Liu, Hayes, Nobel and Marron, JASA 2008). So neither lengths, nor a few large components, nor what unit
    length does to a cloud of few dimensions count as clusters. Flipped signs would turn two clusters into four.

    How many? As many as the most stable clustering has, among those more stable than on the null (Ben-Hur,
    Elisseeff and Guyon 2002), or more where that is as stable and explains more than it would on the null.
    Fewer than 30 contrasts are one cluster with p = 1. About a thousand small fits: seconds, on one thread.

    Raises DataError where `contrasts` is no matrix of finite numbers.
    """
    units = _directions(contrasts)
    n = len(units)
    mean = units.mean(axis=0)
    left, singular, right = np.linalg.svd(units - mean, full_matrices=False)
    rank = int((singular > 1e-6 * max(1.0, float(np.sqrt(n)))).sum())
    most = min(max_k, n // (2 * _SMALLEST))
    if n < _FEWEST or rank == 0 or most < 2:
        return Clusters(1, np.zeros(n, dtype=np.int64), 1.0, 1.0, {}, {})
    rng = np.random.default_rng(seed)
    width = min(_DIMENSIONS, rank)
    scores = left[:, :width] * singular[:width]
    cloud = _matching_cloud(mean, singular[:rank], right[:rank], n, rng)
    ks = range(2, most + 1)
    parts = _parts(n, _PARTS, rng)
    # On one thread: fits this small gain nothing by more, and sums in another order are other numbers.
    # Fewer distinct points than clusters are no fault: such a k explains no more than the one before it.
    with threadpool_limits(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        observed = _by_k(scores, parts, ks, rng)
        nulls = [
            _by_k(_with_spectrum(cloud.draw(n, rng), singular[:width]), parts, ks, rng)
            for _ in range(_NULL_DRAWS)
        ]
        return _concluded(scores, parts, ks, observed, nulls, rng)


def _concluded(
    scores: Doubles, parts: Bools, ks: range, observed: _ByK, nulls: list[_ByK], rng: np.random.Generator
) -> Clusters:
    """The clusters of the k that is best supported, or one cluster where none is."""
    explained = np.array([null.explained for null in nulls])
    p_value = _p_value(observed.explained, explained)
    stable = _stabilities(observed, parts)
    one = np.zeros(len(scores), dtype=np.int64)
    if p_value > SIGNIFICANCE:
        return Clusters(1, one, 1.0, p_value, _keyed(ks, stable), {})
    null_stable = np.mean([_stabilities(null, parts) for null in nulls], axis=0)
    careful = {k: _careful_stability(scores, k, rng) for k in ks}
    labels = {k: _labels(scores, k, rng) for k in np.array(ks)[stable > null_stable].tolist()}
    fitting = [k for k in labels if np.bincount(labels[k], minlength=k).min() >= _SMALLEST]
    if not fitting:
        return Clusters(1, one, 1.0, p_value, careful, _keyed(ks, null_stable))
    gaps = _keyed(ks, observed.explained - explained.mean(axis=0))
    k = _choose(fitting, careful, gaps, _keyed(ks, explained.std(axis=0, ddof=1)))
    return Clusters(k, labels[k], careful[k], p_value, careful, _keyed(ks, null_stable))


def _keyed(ks: range, values: Doubles) -> dict[int, float]:
    return {k: float(value) for k, value in zip(ks, values, strict=True)}


def _directions(contrasts: npt.NDArray[np.floating]) -> Doubles:
    """Contrasts scaled to unit length; one of length zero stays as it is. Raises DataError."""
    if contrasts.ndim != 2 or 0 in contrasts.shape:
        raise DataError(
            f"contrasts must be a matrix [pairs, hidden] with rows, not of shape {contrasts.shape}."
        )
    rows = contrasts.astype(np.float64)
    broken = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(broken):
        raise DataError(
            f"contrast {broken[0]} holds numbers that are not finite: harvest the activations again."
        )
    lengths: Doubles = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1.0)


def _matching_cloud(
    mean: Doubles, singular: Doubles, right: Doubles, n: int, rng: np.random.Generator
) -> _Cloud:
    """The cloud whose directions have the mean and the principal variances of the data, by a fixed point.

    Scaling to unit length flattens a spectrum, so the cloud's own must be steeper than the data's.
    """
    variance = singular**2 / n
    head = min(_HEAD, len(variance))
    target_mean, target = right[:head] @ mean, variance[:head]
    tail = variance[head:]
    rest = max(0.0, float(mean @ mean - target_mean @ target_mean))
    total, squares = float(tail.sum()), float((tail**2).sum())
    cloud = _Cloud(target_mean, target, rest, total, total**2 / (2 * squares) if squares > 0 else 1.0)
    for _ in range(10):
        drawn = cloud.draw(max(n, 2000), rng)
        got = drawn[:, :-1]
        outside = float((drawn[:, -1] ** 2).mean())
        factor = (rest + total) / outside if outside > 1e-9 else 1.0
        cloud = _Cloud(
            cloud.mean + target_mean - got.mean(axis=0),
            cloud.variance * target / np.maximum(got.var(axis=0), 1e-12),
            cloud.rest * factor,
            cloud.spread * factor,
            cloud.shape,
        )
    return cloud


def _with_spectrum(drawn: Doubles, singular: Doubles) -> Doubles:
    """Scores [n, width] of a draw, made uncorrelated and given the data's singular values."""
    scores = drawn[:, : len(singular)]
    basis, _ = np.linalg.qr(scores - scores.mean(axis=0))
    return np.asarray(basis * singular, dtype=np.float64)


def _parts(n: int, count: int, rng: np.random.Generator) -> Bools:
    """Random parts of n points, without replacement: [count, n]."""
    order = rng.random((count, n)).argsort(axis=1)
    return order < round(_PART * n)


def _fit(points: Doubles, k: int, starts: int, rng: np.random.Generator) -> KMeans:
    return KMeans(k, n_init=starts, tol=_TOLERANCE, random_state=int(rng.integers(2**31))).fit(points)


def _by_k(scores: Doubles, parts: Bools, ks: range, rng: np.random.Generator) -> _ByK:
    """Fits of each k on the parts, and what they explain outside them."""
    total = float((scores**2).sum(axis=1).mean())
    labels = np.empty((len(ks), *parts.shape), dtype=np.int64)
    explained = []
    for row, k in enumerate(ks):
        left = np.empty(parts.shape)
        for at, part in enumerate(parts):
            model = _fit(scores[part], k, 1, rng)
            labels[row, at] = model.predict(scores)
            left[at] = ((scores - model.cluster_centers_[labels[row, at]]) ** 2).sum(axis=1)
        explained.append(-np.log(max(float(left[~parts].mean()) / total, 1e-12)))
    return _ByK(labels, np.array(explained))


def _stabilities(fits: _ByK, parts: Bools) -> Doubles:
    """Of each k [ks]: how far its fits on the parts agree."""
    return np.array([_agreement(labels, parts) for labels in fits.labels])


def _agreement(labels: Sequence[Ints] | Ints, parts: Bools) -> float:
    """Mean adjusted Rand index (Hubert and Arabie 1985) over pairs of fits, on the points that both saw."""
    indices = []
    for one, other in combinations(range(len(parts)), 2):
        seen = parts[one] & parts[other]
        indices.append(adjusted_rand_score(labels[one][seen], labels[other][seen]))
    return float(np.mean(indices))


def _p_value(observed: Doubles, nulls: Doubles) -> float:
    """How likely the null is to give as high a largest z over k, from few draws [draws, ks].

    Each draw's own largest z is taken against the other draws; the observed one is placed by Student's
    prediction distribution for one more draw.
    """
    from scipy.stats import t

    count = len(nulls)

    def largest(values: Doubles, others: Doubles) -> float:
        return float(np.max((values - others.mean(axis=0)) / np.maximum(others.std(axis=0, ddof=1), 1e-6)))

    drawn = np.array([largest(nulls[i], np.delete(nulls, i, axis=0)) for i in range(count)])
    width = float(drawn.std(ddof=1)) * np.sqrt(1 + 1 / count)
    return float(t.sf((largest(observed, nulls) - drawn.mean()) / max(width, 1e-6), count - 1))


def _choose(
    ks: list[int], stable: Mapping[int, float], gaps: Mapping[int, float], margins: Mapping[int, float]
) -> int:
    """One of the most stable ks: from the smallest up, as long as the gap to the null grows by a null's spread.

    Two true clusters in one are as stable as they are apart, but explain less; half a true cluster can be
    stable as well, but explains no more than half of any cloud does.
    """
    best = max(stable[k] for k in ks)
    first, *others = [k for k in ks if stable[k] >= best - _AS_STABLE]
    chosen = first
    for k in others:
        if gaps[k] > gaps[chosen] + margins[k]:
            chosen = k
    return chosen


def _careful_stability(scores: Doubles, k: int, rng: np.random.Generator) -> float:
    """Stability of the best of several starts on each of more parts: an unlucky start is not instability."""
    parts = _parts(len(scores), _CAREFUL_PARTS, rng)
    fits = [_fit(scores[part], k, _CAREFUL_STARTS, rng).predict(scores) for part in parts]
    return _agreement(fits, parts)


def _labels(scores: Doubles, k: int, rng: np.random.Generator) -> Ints:
    """Clusters of all points [n], from the best of many starts, the largest cluster first."""
    labels = _fit(scores, k, _FINAL_STARTS, rng).labels_
    order = np.argsort(-np.bincount(labels, minlength=k), kind="stable")
    rank: Ints = np.empty(k, dtype=np.int64)
    rank[order] = np.arange(k)
    relabelled: Ints = rank[labels]
    return relabelled
