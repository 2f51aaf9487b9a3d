"""The methods that make a direction: measured pairs to a unit vector at a layer, each one short function.

Every method returns the direction whose *addition* should raise success. `preference`, `gradient` and `outcome`
run the model; the rest read the harvest alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TypeAlias

import numpy as np
import torch
from torch.nn.functional import logsigmoid

from pts.errors import ConfigError, DataError
from pts.steering.fitting_data import FittingData
from pts.steering.outcome import outcome_direction, outcome_vectors
from pts.steering.pairs import Pair
from pts.steering.prefixes import PrefixBatch
from pts.steering.vector_algebra import unit_direction

NORM_CAP = 0.4
"""Largest norm of a fitted vector, in multiples of the residual stream's mean norm; of several layers' vectors
together, each an equal part."""
STEPS = 70
_CAP_REACHED_IN = 10
"""Steps in which Adam, going straight, reaches the cap."""


Method: TypeAlias = Callable[[FittingData, int], torch.Tensor]


def preference_direction(data: FittingData, layer: int) -> torch.Tensor:
    """The vector that, added before the choice, raises log p(better) − log p(worse) over the model's own."""
    return unit_direction(preference_vectors(data, (layer,))[layer], "preference", layer)


def preference_vectors(data: FittingData, layers: Sequence[int]) -> dict[int, torch.Tensor]:
    """Vectors by layer [hidden], trained together: each is added at its layer, all of them before the choice.

    A DPO loss at β = 1 whose only parameters are the vectors (BiPO, Cao et al. 2024, with one), Adam, pairs
    weighted by their gap in value, each norm clipped to its part of `NORM_CAP` of the residual stream's.
    """
    width = int(data.model.config.get_text_config(decoder=True).hidden_size)
    caps = {layer: NORM_CAP / len(layers) * data.norm(layer) for layer in layers}
    vectors = {layer: torch.zeros(width, device=data.model.device, requires_grad=True) for layer in layers}
    rate = 1 / (_CAP_REACHED_IN * width**0.5)
    optimiser = torch.optim.Adam([{"params": [vectors[layer]], "lr": rate * caps[layer]} for layer in layers])
    steps = data.steps()
    with torch.no_grad():
        before = [[data.preference(batch) for batch in step] for step in steps]
    for number in range(STEPS):
        step = steps[number % len(steps)]
        weight = torch.stack([batch.weights.sum() for batch in step]).sum()
        optimiser.zero_grad()
        for batch, unsteered in zip(step, before[number % len(steps)], strict=True):
            losses = -logsigmoid(data.preference(batch, vectors) - unsteered)
            loss = (losses * batch.weights).sum() / weight
            loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        with torch.no_grad():
            for layer, vector in vectors.items():
                vector *= min(1.0, caps[layer] / max(float(vector.norm()), 1e-12))
    return {layer: vector.detach().cpu() for layer, vector in vectors.items()}


def screened_direction(data: FittingData, layer: int) -> torch.Tensor:
    """`preference`, fitted to the pairs at forks that were screened and not reported besides."""
    pairs = [*data.pairs, *screened_beside(data)]
    return unit_direction(preference_vectors(data.of(pairs), (layer,))[layer], "screened", layer)


def screened_beside(data: FittingData) -> list[Pair]:
    """The pairs that `screened` has beside those of the data. Raises ConfigError where there is no journal."""
    if data.rollouts is None:
        raise ConfigError("the method screened reads a run's graded rollouts, and there are pairs alone.")
    return data.rollouts.screened(data.pairs)


def gradient_direction(data: FittingData, layer: int) -> torch.Tensor:
    """The mean gradient of log p(better) − log p(worse) by the residual stream before the choice."""
    width = int(data.model.config.get_text_config(decoder=True).hidden_size)
    vector = torch.zeros(width, device=data.model.device, requires_grad=True)
    for batch in _all(data):
        total = (data.preference(batch, {layer: vector}) * batch.weights).sum()
        total.backward()  # type: ignore[no-untyped-call]
    assert vector.grad is not None
    return unit_direction(vector.grad.cpu(), "gradient", layer)


def decision_direction(data: FittingData, layer: int) -> torch.Tensor:
    """Mean activation before the choice where the better token was taken, minus where the worse one was."""
    before = data.activations(layer).before
    taken = torch.tensor([pair.taken_better for pair in data.pairs])
    if taken.all() or not taken.any():
        raise DataError(
            "the decision direction needs pivots of both kinds: some that helped and some that harmed."
        )
    return unit_direction(before[taken].mean(0) - before[~taken].mean(0), "decision", layer)


def contrast_direction(data: FittingData, layer: int) -> torch.Tensor:
    """Mean activation after the better token minus after the worse (CAA, Rimsky et al. 2024)."""
    return unit_direction(_contrasts(data, layer).mean(0), "contrast", layer)


def pca_direction(data: FittingData, layer: int) -> torch.Tensor:
    """First right singular vector of the contrasts, uncentred, turned towards their mean."""
    contrasts = _contrasts(data, layer)
    first = torch.linalg.svd(contrasts, full_matrices=False).Vh[0]
    return unit_direction(first * torch.sign(first @ contrasts.mean(0)), "pca", layer)


def logistic_direction(data: FittingData, layer: int) -> torch.Tensor:
    """Weights of a logistic probe that tells activations after better tokens from those after worse ones."""
    from sklearn.linear_model import LogisticRegression

    here = data.activations(layer)
    features = torch.cat([here.better, here.worse]).numpy() / data.norm(layer)
    labels = np.repeat([1, 0], len(here.better))
    probe = LogisticRegression(C=1.0, max_iter=1000).fit(features, labels)
    return unit_direction(torch.from_numpy(probe.coef_[0]).float(), "logistic", layer)


def ridge_direction(data: FittingData, layer: int) -> torch.Tensor:
    """Weights of a ridge regression from the activation after a token to the value measured there."""
    from sklearn.linear_model import Ridge

    here = data.activations(layer)
    features = torch.cat([here.better, here.worse]).numpy() / data.norm(layer)
    values = [pair.better.value for pair in data.pairs] + [pair.worse.value for pair in data.pairs]
    probe = Ridge(alpha=1.0).fit(features, values)
    return unit_direction(torch.from_numpy(probe.coef_).float(), "ridge", layer)


PAIR_METHODS: Mapping[str, Method] = {
    "preference": preference_direction,
    "gradient": gradient_direction,
    "decision": decision_direction,
    "contrast": contrast_direction,
    "pca": pca_direction,
    "logistic": logistic_direction,
    "ridge": ridge_direction,
}
"""The methods that pairs are enough for."""
ROLLOUT_METHODS: Mapping[str, Method] = {"screened": screened_direction, "outcome": outcome_direction}
"""The methods that take a run's graded rollouts."""
METHODS: Mapping[str, Method] = {**PAIR_METHODS, **ROLLOUT_METHODS}


LayersMethod: TypeAlias = Callable[[FittingData], Mapping[int, torch.Tensor]]
"""A method that makes vectors of several layers at once, by layer [hidden]."""


def methods_of_layers(layers: Sequence[int]) -> Mapping[str, LayersMethod]:
    """The methods that train vectors of several layers together, by layer [hidden], for these layers."""
    return {
        "preference": partial(preference_vectors, layers=layers),
        "outcome": partial(outcome_vectors, layers=layers),
    }


@torch.no_grad()
def preference_shift(data: FittingData, vectors: Mapping[int, torch.Tensor]) -> torch.Tensor:
    """What adding `vectors` [hidden] at their layers does to log p(better) − log p(worse): nats [pairs].

    They are added before the choice.
    """
    shifts = torch.zeros(len(data.pairs))
    placed = {layer: vector.to(data.model.device) for layer, vector in vectors.items()}
    for batch in _all(data):
        before, after = data.preference(batch), data.preference(batch, placed)
        shifts[batch.choices] = (after - before).cpu()
    return shifts


def _contrasts(data: FittingData, layer: int) -> torch.Tensor:
    here = data.activations(layer)
    return here.better - here.worse


def _all(data: FittingData) -> Iterator[PrefixBatch]:
    return (batch for step in data.steps() for batch in step)
