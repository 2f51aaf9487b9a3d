"""Fits a router's probe: logistic regressions from the residual stream to each budget's measured success."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import expit
from threadpoolctl import threadpool_limits

from pts.decoding.limits import ThinkingBudget
from pts.decoding.routers.fitted import ClassQuality, Probe, RouterClass
from pts.decoding.routers.protocol import ClassBudgets
from pts.errors import DataError
from pts.evaluation.outcomes import Outcomes
from pts.setting_names import setting

Floats = npt.NDArray[np.float64]
States = npt.NDArray[np.floating]
Ints = npt.NDArray[np.int64]
Folds = Sequence[tuple[Ints, Ints]]

FOLDS = 5
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Inverse strengths of the logistic regressions' penalty that cross-validation chooses from."""
PENALTIES = (1.0, 10.0, 100.0, 1000.0, 10000.0)
"""Penalties of the ridge regressions of tokens."""
PRICES = (0.0, *(round(float(price), 6) for price in np.geomspace(2e-4, 2e-2, 41)))
"""Prices of a token, in success, that are tried."""
SAVING = 1 / 6
"""Share of the reference's tokens that routing should save."""
_LARGE_PRODUCT = 4_000_000
"""Entries of a layer's states from which on linear algebra shares its work among threads."""
_SMOOTHING = 0.05
"""Successes and failures added to every problem's: a class that always succeeds can be fitted too."""


@dataclass(frozen=True, slots=True, eq=False)
class Measurements:
    """The residual stream at the prompts' ends [problems, layers, hidden], and each class's outcomes on them.

    `layers` names those of `states`; problems with one entry in `groups` [problems] are held out together.
    """

    states: States
    layers: tuple[int, ...]
    groups: Ints
    outcomes: Mapping[str, Outcomes]


@dataclass(frozen=True, slots=True, eq=False)
class _Fitted:
    """One regression at one layer: its penalty, held-out loss, and held-out predictions [problems]."""

    penalty: float
    loss: float
    held_out: Floats


@dataclass(frozen=True, slots=True, eq=False)
class _ClassFit:
    """Held-out predictions of a class's success and tokens [problems], and the weight and bias of each."""

    success: Floats
    tokens: Floats
    success_line: tuple[Floats, float]
    tokens_line: tuple[Floats, float]
    quality: ClassQuality

    def as_class(self, name: str, budget: ThinkingBudget) -> RouterClass:
        """The class as a router holds it."""
        (success, success_bias), (tokens, tokens_bias) = self.success_line, self.tokens_line
        return RouterClass(
            name,
            budget,
            torch.from_numpy(success).float(),
            success_bias,
            torch.from_numpy(tokens).float(),
            tokens_bias,
            self.quality,
        )


def fit_probe(
    measured: Measurements,
    budgets: ClassBudgets,
    total: int,
    price: float | None = None,
    patterns: Mapping[str, float] | None = None,
    seed: int = 0,
    reference: Outcomes | None = None,
) -> Probe:
    """The probe of one steering: layer and penalties by held-out loss, calibrated on the held-out predictions.

    `price` is None for the fitted one (`choose_price`), by `reference`, or by the dearest class where that is
    None. Raises DataError for too few problems to hold any out.
    """
    folds = _folds(measured.groups, seed)
    outcomes = list(measured.outcomes.values())
    with threadpool_limits(limits=_threads(measured)):
        by_layer = [
            [_best_logistic(_widened(measured, at), each, folds) for each in outcomes]
            for at in range(len(measured.layers))
        ]
    at = int(np.argmin([sum(fitted.loss for fitted in fits) for fits in by_layer]))
    states = _widened(measured, at)
    fits = [
        _fit_class(states, each, logistic, folds) for each, logistic in zip(outcomes, by_layer[at], strict=True)
    ]
    success = np.stack([fit.success for fit in fits], axis=1)
    tokens = np.clip(np.stack([fit.tokens for fit in fits], axis=1), 1, total)
    if reference is None:
        reference = dearest(outcomes)
    chosen = choose_price(success, tokens, outcomes, reference) if price is None else price
    routed = _routed(success, tokens, chosen)
    brought, spent = _brought(routed, outcomes)
    shares = {f"share_{name}": float((routed == at).mean()) for at, name in enumerate(measured.outcomes)}
    return Probe(
        measured.layers[at],
        tuple(fit.as_class(name, budgets[name]) for name, fit in zip(measured.outcomes, fits, strict=True)),
        chosen,
        {"success": brought, "tokens": spent, **shares},
        patterns or {},
    )


def _threads(measured: Measurements) -> int | None:
    """One thread for the many regressions of a small width, None for all where a product of theirs is large.

    What threads save on a small product is lost in waiting for each other, tenfold where the machine is busy.
    """
    problems, _, hidden = measured.states.shape
    return 1 if problems * hidden < _LARGE_PRODUCT else None


def _widened(measured: Measurements, at: int) -> Floats:
    """One layer's states in float64 [problems, hidden]: of all layers they would be twice what was measured."""
    return measured.states[:, at].astype(np.float64)


def dearest(outcomes: Iterable[Outcomes]) -> Outcomes:
    """The class with the highest token count."""
    return max(outcomes, key=lambda each: each.tokens_each)


def choose_price(success: Floats, tokens: Floats, outcomes: Sequence[Outcomes], reference: Outcomes) -> float:
    """The price of a token at which held-out routing saves tokens and loses no success.

    Of the prices that bring at least the success of `reference`: the lowest that saves `SAVING` of its tokens,
    or the one that takes the fewest; 0 where none does. `success` and `tokens` are held-out predictions
    [problems, classes] of the classes with `outcomes`.
    """
    kept = []
    for price in PRICES:
        brought, spent = _brought(_routed(success, tokens, price), outcomes)
        if brought >= reference.success:
            kept.append((price, spent))
    enough = [price for price, spent in kept if spent <= (1 - SAVING) * reference.tokens_each]
    if enough:
        return enough[0]
    return min(kept, key=lambda entry: entry[1])[0] if kept else 0.0


def _fit_class(states: Floats, outcomes: Outcomes, logistic: _Fitted, folds: Folds) -> _ClassFit:
    """One class at the chosen layer: its success calibrated on held-out predictions, and its tokens."""
    slope, shift = _platt(logistic.held_out, outcomes)
    spent = outcomes.tokens / outcomes.samples
    ridge = _best_ridge(states, spent, folds)
    weight, bias = _logistic(states, outcomes, logistic.penalty)
    success = expit(slope * logistic.held_out + shift)
    return _ClassFit(
        success,
        ridge.held_out,
        (slope * weight, slope * bias + shift),
        _ridge(states, spent, ridge.penalty),
        _quality(outcomes, success),
    )


def _routed(success: Floats, tokens: Floats, price: float) -> Ints:
    """The class of each problem [problems]."""
    return np.asarray((success - price * tokens).argmax(axis=1), dtype=np.int64)


def _brought(routed: Ints, outcomes: Sequence[Outcomes]) -> tuple[float, float]:
    """Mean success and tokens of problems routed so, as they were measured."""
    rows = np.arange(len(routed))
    rates = np.stack([each.rates for each in outcomes], axis=1)[rows, routed]
    tokens = np.stack([each.tokens / each.samples for each in outcomes], axis=1)[rows, routed]
    return float(rates.mean()), float(tokens.mean())


def _folds(groups: Ints, seed: int) -> Folds:
    from sklearn.model_selection import GroupKFold

    distinct = len(set(groups.tolist()))
    if distinct < 2 * FOLDS:
        raise DataError(
            f"{distinct} different problems are too few to fit a router: at least "
            f"{2 * FOLDS} are needed, and many hundreds for a good one "
            f"({setting('problems')})."
        )
    return list(GroupKFold(FOLDS, shuffle=True, random_state=seed % 2**32).split(groups, groups=groups))


def _best_logistic(states: Floats, outcomes: Outcomes, folds: Folds) -> _Fitted:
    tried = []
    for penalty in STRENGTHS:
        held_out = np.empty(len(states))
        for train, test in folds:
            weight, bias = _logistic(states[train], _part(outcomes, train), penalty)
            held_out[test] = states[test] @ weight + bias
        tried.append(_Fitted(penalty, _log_loss(outcomes, expit(held_out)), held_out))
    return min(tried, key=lambda fitted: fitted.loss)


def _best_ridge(states: Floats, tokens: Floats, folds: Folds) -> _Fitted:
    tried = []
    for penalty in PENALTIES:
        held_out = np.empty(len(states))
        for train, test in folds:
            weight, bias = _ridge(states[train], tokens[train], penalty)
            held_out[test] = states[test] @ weight + bias
        tried.append(_Fitted(penalty, float(((held_out - tokens) ** 2).mean()), held_out))
    return min(tried, key=lambda fitted: fitted.loss)


def _logistic(states: Floats, outcomes: Outcomes, strength: float) -> tuple[Floats, float]:
    """Weight [hidden] and bias, in the units of the states, of a regression on standardised ones."""
    from sklearn.linear_model import LogisticRegression

    mean, scale = _standard(states)
    features = np.concatenate([(states - mean) / scale] * 2)
    labels = np.repeat([1, 0], len(states))
    regression = LogisticRegression(C=strength, max_iter=2000)
    regression.fit(features, labels, sample_weight=_weights(outcomes))
    weight = regression.coef_[0] / scale
    return weight, float(regression.intercept_[0] - weight @ mean)


def _ridge(states: Floats, targets: Floats, penalty: float) -> tuple[Floats, float]:
    from sklearn.linear_model import Ridge

    mean, scale = _standard(states)
    regression = Ridge(alpha=penalty).fit((states - mean) / scale, targets)
    weight = regression.coef_ / scale
    return weight, float(regression.intercept_ - weight @ mean)


def _platt(logits: Floats, outcomes: Outcomes) -> tuple[float, float]:
    """Slope and shift that calibrate held-out logits (Platt, 1999)."""
    from sklearn.linear_model import LogisticRegression

    regression = LogisticRegression(C=1e6, max_iter=2000)
    regression.fit(
        np.concatenate([logits, logits])[:, None],
        np.repeat([1, 0], len(logits)),
        sample_weight=_weights(outcomes),
    )
    slope = float(regression.coef_[0, 0])
    # A probe that sees nothing may come out reversed on held-out problems: then the mean is all that is known.
    if slope <= 0:
        share = (outcomes.successes.sum() + _SMOOTHING) / (outcomes.samples * len(logits) + 2 * _SMOOTHING)
        return 0.0, float(np.log(share / (1 - share)))
    return slope, float(regression.intercept_[0])


def _quality(outcomes: Outcomes, predicted: Floats) -> ClassQuality:
    from sklearn.metrics import roc_auc_score

    rates, weights = outcomes.rates, np.concatenate([outcomes.rates, 1 - outcomes.rates])
    labels = np.repeat([1, 0], len(rates))
    mixed = 0 < outcomes.success < 1
    scores = np.concatenate([predicted, predicted])
    return ClassQuality(
        success=outcomes.success,
        tokens=outcomes.tokens_each,
        brier=float((weights * (labels - scores) ** 2).sum() / len(rates)),
        log_loss=_log_loss(outcomes, predicted),
        base_log_loss=_log_loss(outcomes, np.full(len(rates), outcomes.success)),
        auc=float(roc_auc_score(labels, scores, sample_weight=weights)) if mixed else None,
    )


def _log_loss(outcomes: Outcomes, predicted: Floats) -> float:
    """Mean over completions, in nats."""
    p = np.clip(predicted, 1e-6, 1 - 1e-6)
    return float(-(outcomes.rates * np.log(p) + (1 - outcomes.rates) * np.log(1 - p)).mean())


def _weights(outcomes: Outcomes) -> Floats:
    """Weights of the problems as successes, then as failures [2 × problems]."""
    failures = outcomes.samples - outcomes.successes
    return np.concatenate([outcomes.successes + _SMOOTHING, failures + _SMOOTHING])


def _part(outcomes: Outcomes, rows: Ints) -> Outcomes:
    return Outcomes(outcomes.samples, outcomes.successes[rows], outcomes.tokens[rows], outcomes.cut[rows])


def _standard(states: Floats) -> tuple[Floats, Floats]:
    scale = states.std(axis=0)
    return states.mean(axis=0), np.where(scale > 1e-6, scale, 1.0)
