"""Vector sets added, scaled and compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch.nn.functional import normalize

from pts.errors import DataError
from pts.setting_names import setting
from pts.steering.vector_set import SteeredModel, SteeringVector, VectorError, VectorSet


def require_fits(vectors: VectorSet, loaded: Any, *, same_shape: bool = False) -> None:
    """Raise VectorError where a set belongs to another model than `loaded` (pts.models.load.LoadedModel).

    `same_shape` accepts another id or revision, such as a fine-tune; width and layers must fit all the same.
    """
    here = described(loaded)
    _require_shape(vectors.model, here)
    if not same_shape:
        require_model(vectors, here.id, here.revision)


def require_model(vectors: VectorSet, model_id: str, revision: str | None) -> None:
    """Raise VectorError where a set was made for another model than that of an id and a revision."""
    known = vectors.model
    if known.revision not in (None, revision) if revision is not None else known.id != model_id:
        raise VectorError(
            f"the vectors were made for {known.id} (revision {known.revision}), and the "
            f"model is {model_id} (revision {revision}): use that model, or accept "
            f"another one of the same shape ({setting('same_shape')})."
        )


def require_shape(vectors: VectorSet, model: Any) -> None:
    """Raise VectorError where a set's width or layers are not those of a transformers model."""
    _require_shape(vectors.model, _steered_model(model, str(model.config.name_or_path or "this model"), None))


def described(loaded: Any) -> SteeredModel:
    """What says which model `loaded` (pts.models.load.LoadedModel) is."""
    return _steered_model(loaded.model, loaded.model_id, loaded.revision)


def added(first: VectorSet, second: VectorSet) -> VectorSet:
    """The two sets' additions as one set, pattern by pattern; a pattern of one set alone stays as it is.

    Both must steer a shared pattern at the same layer, by gates of the same kind; the first one's gate is kept.
    No effect is kept: nobody measured the sum. Raises VectorError where the sets do not fit together.
    """
    _require_shape(first.model, second.model)
    names = [*first.vectors, *(name for name in second.vectors if name not in first.vectors)]
    vectors = {name: _sum(first, second, name) for name in names}
    return replace(first, vectors=vectors, effects={}, controls=())


def control_sets(vectors: VectorSet, pattern: str) -> list[VectorSet]:
    """A set of one pattern for each of the set's calibrated controls, in the place of a pattern."""
    return [
        replace(vectors, vectors={pattern: control}, effects={}, controls=()) for control in vectors.controls
    ]


def cosines(first: VectorSet, second: VectorSet) -> Mapping[tuple[str, str, int], float]:
    """Cosine of every two directions of the sets at layers that both have, by (pattern, pattern, layer)."""
    _require_shape(first.model, second.model)
    return {
        (left.pattern, right.pattern, layer): float(direction @ right.directions[layer])
        for left in first.vectors.values()
        for right in second.vectors.values()
        for layer, direction in sorted(left.directions.items())
        if layer in right.directions
    }


def _steered_model(model: Any, model_id: str, revision: str | None) -> SteeredModel:
    config = model.config.get_text_config(decoder=True)
    return SteeredModel(model_id, revision, int(config.hidden_size), int(config.num_hidden_layers))


def _sum(first: VectorSet, second: VectorSet, name: str) -> SteeringVector:
    if name not in second.vectors or name not in first.vectors:
        return (first if name in first.vectors else second).vectors[name]
    left, right = first.vectors[name], second.vectors[name]
    if left.places.keys() != right.places.keys() or left.gate.kind != right.gate.kind:
        raise VectorError(
            f"pattern {name} is added at {left.layers_named} by a gate of kind {left.gate.kind} in one set, "
            f"and at {right.layers_named} by {right.gate.kind} in the other: such vectors cannot be added."
        )
    # In multiples of the first set's mean norms.
    totals = {
        layer: first.added(name, layer) / first.residual_norms[layer]
        + second.added(name, layer) / second.residual_norms[layer]
        for layer in left.places
    }
    norms = {layer: float(total.norm()) for layer, total in totals.items()}
    strength = sum(norms.values())
    if strength == 0.0:
        raise VectorError(f"the two vectors of pattern {name} cancel: their sum has no direction.")
    directions = {layer: normalize(totals[layer], dim=0) for layer, norm in norms.items() if norm}
    return replace(
        left,
        method="sum",
        directions=directions,
        layer=left.layer if left.layer in directions else min(directions),
        strength=strength,
        evidence={},
        shares={layer: norms[layer] / strength for layer in directions} if left.shares else {},
    )


def _require_shape(one: SteeredModel, other: SteeredModel) -> None:
    if (one.hidden_size, one.layers) != (other.hidden_size, other.layers):
        raise VectorError(
            f"{one.id} has {one.layers} layers of width {one.hidden_size}, {other.id} {other.layers} of width "
            f"{other.hidden_size}: the vectors do not fit."
        )


def unit_direction(vector: torch.Tensor, method: str, layer: int) -> torch.Tensor:
    """A method's vector [hidden] at norm 1. Raises DataError for one that is zero or not finite."""
    if not torch.isfinite(vector).all() or float(vector.norm()) == 0.0:
        raise DataError(f"the {method} direction at layer {layer} is zero or not finite: it needs more pairs.")
    return normalize(vector.float(), dim=0)
