"""Ways to a direction: from measured pairs to a unit vector at a layer, each one short function.

Every way returns the direction whose *addition* should raise success. `preference` and `gradient` run the
model; the rest read the harvest alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import torch
from torch.nn.functional import logsigmoid, normalize

from pts.errors import DataError
from pts.models.decoder_layers import decoder_layers, residual_of, with_residual
from pts.steering.harvest import Activations, Harvest
from pts.steering.pairs import Pair
from pts.steering.prefixes import (
    KeyValues,
    PrefixBatch,
    decision_logits,
    preference,
    prefix_batch,
    read_prefixes,
)

NORM_CAP = 0.4
"""Largest norm of a fitted vector, in multiples of the residual stream's mean norm."""
STEPS, STEP_PAIRS = 70, 48
_CAP_REACHED_IN = 10
"""Steps in which Adam, going straight, reaches the cap."""
_READ_BYTES = 1 << 30
"""Keys and values of the pairs' prefixes that are kept between steps; beyond, prefixes are read again."""


@dataclass(slots=True)
class Material:
    """What directions are made of: the model, the pairs to fit on, and their places in the harvest."""

    model: Any
    pairs: list[Pair]
    harvest: Harvest
    seed: int = 0
    layers_path: str | None = None
    _batches: list[tuple[PrefixBatch, KeyValues | None]] = field(default_factory=list)
    _layers: dict[int, Activations] = field(default_factory=dict)

    @property
    def blocks(self) -> Any:
        """The model's decoder blocks."""
        return decoder_layers(self.model, self.layers_path)

    def norm(self, layer: int) -> float:
        """The residual stream's mean norm at a layer."""
        return self.harvest.residual_norms[layer]

    def activations(self, layer: int) -> Activations:
        """The pairs' activations at a layer, in the pairs' order; ordinary positions of these pairs alone."""
        if layer not in self._layers:
            self._layers[layer] = self.harvest.of(layer, [pair.index for pair in self.pairs])
        return self._layers[layer]

    def batches(self) -> list[tuple[PrefixBatch, KeyValues | None]]:
        """The pairs in batches of one step, shuffled once, with what was read of them where it is kept."""
        if not self._batches:
            order = np.random.default_rng(self.seed).permutation(len(self.pairs)).tolist()
            kept = 0
            for start in range(0, len(order), STEP_PAIRS):
                batch = prefix_batch(self.model, self.pairs, order[start : start + STEP_PAIRS])
                read = read_prefixes(self.model, batch) if kept < _READ_BYTES else None
                kept += sum(keys.nbytes + values.nbytes for keys, values in read or ())
                self._batches.append((batch, read))
        return self._batches


Way: TypeAlias = Callable[[Material, int], torch.Tensor]


def preference_direction(material: Material, layer: int) -> torch.Tensor:
    """The vector that, added before the choice, raises log p(better) − log p(worse) over the model's own.

    A DPO loss at β = 1 whose only parameter is the vector (BiPO, Cao et al. 2024), Adam, pairs weighted by
    their gap in value, the norm clipped to `NORM_CAP` of the residual stream's.
    """
    cap = NORM_CAP * material.norm(layer)
    width = int(material.model.config.get_text_config(decoder=True).hidden_size)
    vector = torch.zeros(width, device=material.model.device, requires_grad=True)
    optimiser = torch.optim.Adam([vector], lr=cap / (_CAP_REACHED_IN * width**0.5))
    batches = material.batches()
    before = [_unsteered(material, batch, read) for batch, read in batches]
    with _adding(material.blocks[layer], lambda: vector):
        for step in range(STEPS):
            batch, read = batches[step % len(batches)]
            steered = preference(decision_logits(material.model, batch, _read(material, batch, read)), batch)
            losses = -logsigmoid(steered - before[step % len(batches)])
            loss = (losses * batch.weights).sum() / batch.weights.sum()
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            with torch.no_grad():
                vector *= min(1.0, cap / max(float(vector.norm()), 1e-12))
    return _unit(vector.detach().cpu(), "preference", layer)


def gradient_direction(material: Material, layer: int) -> torch.Tensor:
    """The mean gradient of log p(better) − log p(worse) by the residual stream before the choice."""
    width = int(material.model.config.get_text_config(decoder=True).hidden_size)
    vector = torch.zeros(width, device=material.model.device, requires_grad=True)
    with _adding(material.blocks[layer], lambda: vector):
        for batch, read in material.batches():
            shift = preference(decision_logits(material.model, batch, _read(material, batch, read)), batch)
            (shift * batch.weights).sum().backward()  # type: ignore[no-untyped-call]
    assert vector.grad is not None
    return _unit(vector.grad.cpu(), "gradient", layer)


def decision_direction(material: Material, layer: int) -> torch.Tensor:
    """Mean activation before the choice where the better token was taken, minus where the worse one was."""
    before = material.activations(layer).before
    taken = torch.tensor([pair.taken_better for pair in material.pairs])
    if taken.all() or not taken.any():
        raise DataError(
            "the decision direction needs pivots of both kinds: some that helped and some that harmed."
        )
    return _unit(before[taken].mean(0) - before[~taken].mean(0), "decision", layer)


def contrast_direction(material: Material, layer: int) -> torch.Tensor:
    """Mean activation after the better token minus after the worse (CAA, Rimsky et al. 2024)."""
    return _unit(_contrasts(material, layer).mean(0), "contrast", layer)


def pca_direction(material: Material, layer: int) -> torch.Tensor:
    """First right singular vector of the contrasts, uncentred, turned towards their mean."""
    contrasts = _contrasts(material, layer)
    first = torch.linalg.svd(contrasts, full_matrices=False).Vh[0]
    return _unit(first * torch.sign(first @ contrasts.mean(0)), "pca", layer)


def logistic_direction(material: Material, layer: int) -> torch.Tensor:
    """Weights of a logistic probe that tells activations after better tokens from those after worse ones."""
    from sklearn.linear_model import LogisticRegression

    here = material.activations(layer)
    features = torch.cat([here.better, here.worse]).numpy() / material.norm(layer)
    labels = np.repeat([1, 0], len(here.better))
    probe = LogisticRegression(C=1.0, max_iter=1000).fit(features, labels)
    return _unit(torch.from_numpy(probe.coef_[0]).float(), "logistic", layer)


def ridge_direction(material: Material, layer: int) -> torch.Tensor:
    """Weights of a ridge regression from the activation after a token to the value measured there."""
    from sklearn.linear_model import Ridge

    here = material.activations(layer)
    features = torch.cat([here.better, here.worse]).numpy() / material.norm(layer)
    values = [pair.better.value for pair in material.pairs] + [pair.worse.value for pair in material.pairs]
    probe = Ridge(alpha=1.0).fit(features, values)
    return _unit(torch.from_numpy(probe.coef_).float(), "ridge", layer)


WAYS: Mapping[str, Way] = {
    "preference": preference_direction,
    "gradient": gradient_direction,
    "decision": decision_direction,
    "contrast": contrast_direction,
    "pca": pca_direction,
    "logistic": logistic_direction,
    "ridge": ridge_direction,
}


@torch.no_grad()
def preference_shift(material: Material, layer: int, vector: torch.Tensor) -> torch.Tensor:
    """What adding `vector` [hidden] before the choice does to log p(better) − log p(worse): nats [pairs]."""
    shifts = torch.zeros(len(material.pairs))
    placed = vector.to(material.model.device)
    for batch, read in material.batches():
        cached = _read(material, batch, read)
        before = preference(decision_logits(material.model, batch, cached), batch)
        with _adding(material.blocks[layer], lambda: placed):
            after = preference(decision_logits(material.model, batch, cached), batch)
        shifts[batch.choices] = (after - before).cpu()
    return shifts


def _contrasts(material: Material, layer: int) -> torch.Tensor:
    here = material.activations(layer)
    return here.better - here.worse


@torch.no_grad()
def _unsteered(material: Material, batch: PrefixBatch, read: KeyValues | None) -> torch.Tensor:
    return preference(decision_logits(material.model, batch, _read(material, batch, read)), batch)


def _read(material: Material, batch: PrefixBatch, read: KeyValues | None) -> KeyValues:
    return read_prefixes(material.model, batch) if read is None else read


@contextmanager
def _adding(block: Any, vector: Callable[[], torch.Tensor]) -> Iterator[None]:
    """Add a vector [hidden] to a block's output at every position of the passes made inside."""

    def add(_module: Any, _args: Any, output: Any) -> Any:
        hidden = residual_of(output)
        return with_residual(output, hidden + vector().to(hidden))

    handle = block.register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()


def _unit(vector: torch.Tensor, way: str, layer: int) -> torch.Tensor:
    """The vector at norm 1. Raises DataError for one that is zero or not finite."""
    if not torch.isfinite(vector).all() or float(vector.norm()) == 0.0:
        raise DataError(f"the {way} direction at layer {layer} is zero or not finite: more pairs are needed.")
    return normalize(vector.float(), dim=0)
