"""A linear probe from the residual stream to success, its layer and penalty chosen on held-out problems."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

PENALTIES = (0.001, 0.01)
"""Inverse strengths of the L2 penalty to choose among."""
INNER_FOLDS = 3
_KEPT_FROM_EDGE = 1e-6


@dataclass(frozen=True, slots=True)
class Readings:
    """Residual streams `states` [n, layers, hidden] of prefixes, and how each went on.

    `success` [n] is a grade, `weight` [n] how often it was drawn, `problem` [n] whose it is.
    """

    states: npt.NDArray[np.float32]
    success: npt.NDArray[np.bool_]
    weight: Floats
    problem: npt.NDArray[np.int64]

    def of(self, rows: npt.NDArray[np.bool_]) -> Readings:
        """Some of the rows."""
        return Readings(self.states[rows], self.success[rows], self.weight[rows], self.problem[rows])


@dataclass(frozen=True, slots=True)
class SuccessProbe:
    """Standardised features of one layer (a place in `states`) to P(success); `loss` is that of its choice."""

    place: int
    penalty: float
    mean: Floats
    scale: Floats
    weight: Floats
    bias: float
    loss: float = float("nan")

    def value(self, states: npt.NDArray[np.float32]) -> Floats:
        """P(success) of prefixes with residual streams [n, layers, hidden]."""
        score = ((states[:, self.place] - self.mean) / self.scale) @ self.weight + self.bias
        value: Floats = 1.0 / (1.0 + np.exp(-score))
        return value


def fit_probe(readings: Readings, seed: int) -> SuccessProbe:
    """The probe of the layer and penalty with the least loss on problems that it was not fitted on."""
    folds = problem_folds(readings.problem, INNER_FOLDS, seed)
    best = (float("inf"), 0, PENALTIES[0])
    for place in range(readings.states.shape[1]):
        for penalty in PENALTIES:
            losses = [
                _loss(_fitted(readings.of(folds != fold), place, penalty), readings.of(folds == fold))
                for fold in range(INNER_FOLDS)
            ]
            best = min(best, (float(np.mean(losses)), place, penalty))
    loss, place, penalty = best
    fitted = _fitted(readings, place, penalty)
    return SuccessProbe(place, penalty, fitted.mean, fitted.scale, fitted.weight, fitted.bias, loss)


def problem_folds(
    problem: Sequence[int] | npt.NDArray[np.int64], folds: int, seed: int
) -> npt.NDArray[np.int64]:
    """The fold of each row; all rows of a problem are in one."""
    names, rows = np.unique(np.asarray(problem), return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(names))
    chosen: npt.NDArray[np.int64] = (order % folds)[rows]
    return chosen


def _fitted(readings: Readings, place: int, penalty: float) -> SuccessProbe:
    from sklearn.linear_model import LogisticRegression

    states = readings.states[:, place].astype(np.float64)
    mean, scale = states.mean(axis=0), states.std(axis=0) + _KEPT_FROM_EDGE
    model = LogisticRegression(C=penalty, max_iter=300)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # A fit that has not quite converged is judged by its loss like others.
        model.fit((states - mean) / scale, readings.success, sample_weight=readings.weight)
    return SuccessProbe(place, penalty, mean, scale, model.coef_[0], float(model.intercept_[0]))


def _loss(probe: SuccessProbe, readings: Readings) -> float:
    """Mean negative log-likelihood, in nats."""
    value = np.clip(probe.value(readings.states), _KEPT_FROM_EDGE, 1 - _KEPT_FROM_EDGE)
    nats = -np.log(np.where(readings.success, value, 1 - value))
    return float(np.average(nats, weights=readings.weight))
