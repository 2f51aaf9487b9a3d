"""The methods that make a direction: measured pairs to a unit vector at a layer, each one short function.

Every method returns the direction whose *addition* should raise success. `preference` and `gradient` run the
model; the rest read the harvest alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
from torch.nn.functional import logsigmoid, normalize

from pts.errors import DataError
from pts.models.decoder_layers import adding, decoder_layers
from pts.steering.harvest import Activations, Harvest
from pts.steering.pairs import Pair
from pts.steering.prefixes import (
    KeyValues,
    PrefixBatch,
    decision_logits,
    preference,
    read_prefixes,
    step_batches,
)
from pts.steering.reading_memory import OwnersCache, ReadingMemory

NORM_CAP = 0.4
"""Largest norm of a fitted vector, in multiples of the residual stream's mean norm."""
STEPS, STEP_PAIRS = 70, 48
_CAP_REACHED_IN = 10
"""Steps in which Adam, going straight, reaches the cap."""


@dataclass(slots=True)
class FittingData:
    """What a direction is fitted to: pairs, with the model and the harvest of their activations.

    `memory_bytes` is what reading the pairs may take (by default half of what is free). What is kept between
    steps, keys and values and activations, is bounded for all that `of` makes of one together.
    """

    model: Any
    pairs: list[Pair]
    harvest: Harvest
    seed: int = 0
    layers_path: str | None = None
    memory_bytes: int | None = None
    _steps: list[list[PrefixBatch]] = field(default_factory=list)
    _memory: ReadingMemory | None = None
    _cache: OwnersCache | None = None
    _self: object = field(default_factory=object)

    def of(self, pairs: list[Pair]) -> FittingData:
        """The same of other pairs, with which this shares its memory."""
        return FittingData(
            self.model,
            pairs,
            self.harvest,
            self.seed,
            self.layers_path,
            self.memory_bytes,
            _memory=self.memory,
            _cache=self.cache,
        )

    @property
    def memory(self) -> ReadingMemory:
        """What reading may take."""
        if self._memory is None:
            self._memory = ReadingMemory.of(self.model, self.memory_bytes)
        return self._memory

    @property
    def cache(self) -> OwnersCache:
        """What is kept between steps."""
        if self._cache is None:
            self._cache = OwnersCache(self.memory.cache_bytes)
        return self._cache

    @property
    def blocks(self) -> Any:
        """The model's decoder blocks."""
        return decoder_layers(self.model, self.layers_path)

    def norm(self, layer: int) -> float:
        """The residual stream's mean norm at a layer."""
        return self.harvest.residual_norms[layer]

    def activations(self, layer: int) -> Activations:
        """The pairs' activations at a layer, in the pairs' order; ordinary positions of these pairs alone."""
        indices = [pair.index for pair in self.pairs]
        return self.cache.get(
            self._self, layer, lambda: self.harvest.of(layer, indices), lambda found: found.nbytes
        )

    def steps(self) -> list[list[PrefixBatch]]:
        """The pairs of each step, shuffled once: one batch, or several where memory is short."""
        if not self._steps:
            order = np.random.default_rng(self.seed).permutation(len(self.pairs)).tolist()
            self._steps = [
                step_batches(self.model, self.pairs, order[start : start + STEP_PAIRS], self.memory)
                for start in range(0, len(order), STEP_PAIRS)
            ]
        return self._steps

    def read(self, batch: PrefixBatch) -> KeyValues:
        """Keys and values of a batch of `steps`, kept or read anew."""
        return self.cache.get(
            self._self, id(batch), partial(read_prefixes, self.model, batch, self.memory), _nbytes
        )

    def preference(
        self, batch: PrefixBatch, layer: int | None = None, vector: torch.Tensor | None = None
    ) -> torch.Tensor:
        """log p(better) − log p(worse) at a batch's choices [rows], in nats.

        `vector` [hidden] is added at `layer` where the choice is made; what stands before it is read without.
        """
        read = self.read(batch)
        if layer is None or vector is None:
            return preference(decision_logits(self.model, batch, read), batch)
        with adding(self.blocks[layer], vector):
            return preference(decision_logits(self.model, batch, read), batch)


Method: TypeAlias = Callable[[FittingData, int], torch.Tensor]


def preference_direction(data: FittingData, layer: int) -> torch.Tensor:
    """The vector that, added before the choice, raises log p(better) − log p(worse) over the model's own.

    A DPO loss at β = 1 whose only parameter is the vector (BiPO, Cao et al. 2024), Adam, pairs weighted by
    their gap in value, the norm clipped to `NORM_CAP` of the residual stream's.
    """
    cap = NORM_CAP * data.norm(layer)
    width = int(data.model.config.get_text_config(decoder=True).hidden_size)
    vector = torch.zeros(width, device=data.model.device, requires_grad=True)
    optimiser = torch.optim.Adam([vector], lr=cap / (_CAP_REACHED_IN * width**0.5))
    steps = data.steps()
    with torch.no_grad():
        before = [[data.preference(batch) for batch in step] for step in steps]
    for number in range(STEPS):
        step = steps[number % len(steps)]
        weight = torch.stack([batch.weights.sum() for batch in step]).sum()
        optimiser.zero_grad()
        for batch, unsteered in zip(step, before[number % len(steps)], strict=True):
            losses = -logsigmoid(data.preference(batch, layer, vector) - unsteered)
            loss = (losses * batch.weights).sum() / weight
            loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        with torch.no_grad():
            vector *= min(1.0, cap / max(float(vector.norm()), 1e-12))
    return _unit(vector.detach().cpu(), "preference", layer)


def gradient_direction(data: FittingData, layer: int) -> torch.Tensor:
    """The mean gradient of log p(better) − log p(worse) by the residual stream before the choice."""
    width = int(data.model.config.get_text_config(decoder=True).hidden_size)
    vector = torch.zeros(width, device=data.model.device, requires_grad=True)
    for batch in _all(data):
        total = (data.preference(batch, layer, vector) * batch.weights).sum()
        total.backward()  # type: ignore[no-untyped-call]
    assert vector.grad is not None
    return _unit(vector.grad.cpu(), "gradient", layer)


def decision_direction(data: FittingData, layer: int) -> torch.Tensor:
    """Mean activation before the choice where the better token was taken, minus where the worse one was."""
    before = data.activations(layer).before
    taken = torch.tensor([pair.taken_better for pair in data.pairs])
    if taken.all() or not taken.any():
        raise DataError(
            "the decision direction needs pivots of both kinds: some that helped and some that harmed."
        )
    return _unit(before[taken].mean(0) - before[~taken].mean(0), "decision", layer)


def contrast_direction(data: FittingData, layer: int) -> torch.Tensor:
    """Mean activation after the better token minus after the worse (CAA, Rimsky et al. 2024)."""
    return _unit(_contrasts(data, layer).mean(0), "contrast", layer)


def pca_direction(data: FittingData, layer: int) -> torch.Tensor:
    """First right singular vector of the contrasts, uncentred, turned towards their mean."""
    contrasts = _contrasts(data, layer)
    first = torch.linalg.svd(contrasts, full_matrices=False).Vh[0]
    return _unit(first * torch.sign(first @ contrasts.mean(0)), "pca", layer)


def logistic_direction(data: FittingData, layer: int) -> torch.Tensor:
    """Weights of a logistic probe that tells activations after better tokens from those after worse ones."""
    from sklearn.linear_model import LogisticRegression

    here = data.activations(layer)
    features = torch.cat([here.better, here.worse]).numpy() / data.norm(layer)
    labels = np.repeat([1, 0], len(here.better))
    probe = LogisticRegression(C=1.0, max_iter=1000).fit(features, labels)
    return _unit(torch.from_numpy(probe.coef_[0]).float(), "logistic", layer)


def ridge_direction(data: FittingData, layer: int) -> torch.Tensor:
    """Weights of a ridge regression from the activation after a token to the value measured there."""
    from sklearn.linear_model import Ridge

    here = data.activations(layer)
    features = torch.cat([here.better, here.worse]).numpy() / data.norm(layer)
    values = [pair.better.value for pair in data.pairs] + [pair.worse.value for pair in data.pairs]
    probe = Ridge(alpha=1.0).fit(features, values)
    return _unit(torch.from_numpy(probe.coef_).float(), "ridge", layer)


METHODS: Mapping[str, Method] = {
    "preference": preference_direction,
    "gradient": gradient_direction,
    "decision": decision_direction,
    "contrast": contrast_direction,
    "pca": pca_direction,
    "logistic": logistic_direction,
    "ridge": ridge_direction,
}


@torch.no_grad()
def preference_shift(data: FittingData, layer: int, vector: torch.Tensor) -> torch.Tensor:
    """What adding `vector` [hidden] before the choice does to log p(better) − log p(worse): nats [pairs]."""
    shifts = torch.zeros(len(data.pairs))
    placed = vector.to(data.model.device)
    for batch in _all(data):
        before, after = data.preference(batch), data.preference(batch, layer, placed)
        shifts[batch.choices] = (after - before).cpu()
    return shifts


def _contrasts(data: FittingData, layer: int) -> torch.Tensor:
    here = data.activations(layer)
    return here.better - here.worse


def _all(data: FittingData) -> Iterator[PrefixBatch]:
    return (batch for step in data.steps() for batch in step)


def _nbytes(read: KeyValues) -> int:
    return sum(keys.nbytes + values.nbytes for keys, values in read)


def _unit(vector: torch.Tensor, method: str, layer: int) -> torch.Tensor:
    """The vector at norm 1. Raises DataError for one that is zero or not finite."""
    if not torch.isfinite(vector).all() or float(vector.norm()) == 0.0:
        raise DataError(f"the {method} direction at layer {layer} is zero or not finite: it needs more pairs.")
    return normalize(vector.float(), dim=0)
