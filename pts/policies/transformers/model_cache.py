"""The cache that a model's own forward pass fills, and what of it a sequence needs to go on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import __version__, cache_utils
from transformers.cache_utils import (
    Cache,
    DynamicCache,
    DynamicLayer,
    DynamicSlidingWindowLayer,
    LinearAttentionAndFullAttentionLayer,
    LinearAttentionAndSlidingWindowAttentionLayer,
    LinearAttentionCacheLayerMixin,
)

from pts.errors import ModelError
from pts.policies.transformers.cache import (
    CacheLayout,
    LayerPlaces,
    Planes,
    PlaneShape,
    StatePlace,
    States,
    StateShape,
)
from pts.policies.transformers.linear_cache import has_linear_cache, with_linear_cache

RECURRENT = ("conv", "linear_attention", "hybrid", "hybrid_sliding")
"""Types of layers whose state transformers keeps in its cache, beside keys and values or instead of them."""
_SCANS_ANEW = ("mamba", "falcon_mamba", "jamba", "zamba")
"""Models whose pass over several tokens begins from nothing: only a step goes on from a state."""
_STATES_FROM = "5.23"
_STATES = ("conv_states", "recurrent_states")


class _NoLayer:
    """In place of transformers' own in versions that have none."""


KEEPS_NOTHING: type[Any] = getattr(cache_utils, "DummyLayer", _NoLayer)
"""The layer of a cache for a layer of a model that keeps nothing in it."""


def keeps_states(model: Any) -> bool:
    """Whether some of a model's layers keep a state in the cache that is not keys and values."""
    types = getattr(model.config.get_text_config(decoder=True), "layer_types", None)
    return any(kind in RECURRENT for kind in types or ())


def goes_on_by_steps(model: Any) -> bool:
    """Whether a model reads on from a state only one token at a time."""
    return model.config.get_text_config(decoder=True).model_type in _SCANS_ANEW


def empty_cache(model: Any) -> DynamicCache:
    """An empty cache for passes of a model, which keeps all keys and values of a layer with a window too.

    Raises ModelError where transformers is too old for the model's states.
    """
    if not keeps_states(model):
        return DynamicCache()
    if KEEPS_NOTHING is _NoLayer:
        raise ModelError(
            f"models with a recurrent state need transformers {_STATES_FROM} or later, and {__version__} is "
            "installed: install it in an environment of its own."
        )
    cache = DynamicCache(config=model.config)
    layers = [_unwindowed(layer) for layer in cache.layers]
    if has_linear_cache(model):
        cache = with_linear_cache(_GivenLayers)()
    cache.layers = layers
    return cache


class _GivenLayers(DynamicCache):
    """A cache that is given its layers."""

    def __init__(self) -> None:
        Cache.__init__(self, layers=[])


def _unwindowed(layer: Any) -> Any:
    """The layer itself, or one that keeps all keys and values: rows begin inside a sequence."""
    if isinstance(layer, LinearAttentionAndSlidingWindowAttentionLayer):
        return LinearAttentionAndFullAttentionLayer(layer.number_of_states)
    return DynamicLayer() if isinstance(layer, DynamicSlidingWindowLayer) else layer  # type: ignore[no-untyped-call]


def cache_layout(cache: DynamicCache) -> CacheLayout:
    """The layout of a cache that a forward pass has filled.

    Raises ModelError where a layer lacks what it should have.
    """
    shapes: list[PlaneShape] = []
    states: list[StateShape] = []
    layers: list[LayerPlaces] = []
    for index, layer in enumerate(cache.layers):
        held = layer_states(layer)
        places = []
        for name, number, state in held:
            places.append(StatePlace(name, number, len(states)))
            states.append(StateShape(tuple(state.shape[1:]), state.dtype, state.device))
        keys = len(shapes) if _attends(layer) else None
        if keys is not None:
            shapes += [_plane_shape(index, getattr(layer, name, None)) for name in ("keys", "values")]
        elif not held and not isinstance(layer, KEEPS_NOTHING):
            raise ModelError(
                f"layer {index} of the model keeps its state in its modules, outside the cache: not supported."
            )
        layers.append(LayerPlaces(keys, tuple(places)))
    if not shapes and not states:
        raise ModelError("the model fills no key-value cache: not supported.")
    return CacheLayout(tuple(shapes), tuple(states), tuple(layers))


def _plane_shape(index: int, states: Any) -> PlaneShape:
    if not isinstance(states, torch.Tensor) or states.dim() != 4:
        raise ModelError(f"layer {index} of the model keeps no keys and values of its own: not supported.")
    return PlaneShape(states.shape[1], states.shape[3], states.dtype, states.device)


def _attends(layer: Any) -> bool:
    """Whether a layer of a cache is for keys and values, perhaps beside a state."""
    if isinstance(layer, LinearAttentionCacheLayerMixin):
        return isinstance(layer, DynamicLayer)
    return not isinstance(layer, KEEPS_NOTHING)


def layer_states(layer: Any) -> list[tuple[str, int, torch.Tensor]]:
    """A layer's states [rows, ...] that a pass has filled, with where they are."""
    if not isinstance(layer, LinearAttentionCacheLayerMixin):
        return []
    return [
        (name, number, state)
        for name in _STATES
        for number, state in getattr(layer, name).items()
        if isinstance(state, torch.Tensor)
    ]


def sequence_planes(cache: DynamicCache) -> Planes:
    """The planes of a cache of one row: the cache's own memory, not a copy."""
    planes: list[torch.Tensor] = []
    for layer in cache.layers:
        if _attends(layer):
            held: Any = layer
            planes += [held.keys[0], held.values[0]]
    return planes


@torch.inference_mode()
def sequence_states(cache: DynamicCache, row: int = 0) -> States:
    """A copy of a row's states: a pass that goes on changes the cache's own."""
    return [state[row].clone() for layer in cache.layers for _, _, state in layer_states(layer)]


@torch.inference_mode()
def split_rows(cache: DynamicCache, lengths: Sequence[int]) -> list[tuple[Planes, States]]:
    """Each row's first tokens as planes of their own, and its states; the cache is used up, layer by layer."""
    states = [sequence_states(cache, row) for row in range(len(lengths))]
    rows: list[list[torch.Tensor]] = [[] for _ in lengths]
    for layer in cache.layers:
        if not _attends(layer):
            continue
        held: Any = layer
        for tensor in (held.keys, held.values):
            for row, length in enumerate(lengths):
                rows[row].append(tensor[row, :, :length].clone())
        held.keys = held.values = None
    return list(zip(rows, states, strict=True))


@torch.inference_mode()
def to_cache(model: Any, layout: CacheLayout, planes: Planes, states: States, tokens: int) -> DynamicCache:
    """The first `tokens` of prefilled planes as a one-row cache that a forward pass can continue.

    `states` are those after these tokens; they are copied.
    """
    cache = empty_cache(model)
    if tokens == 0:
        return cache
    if not states:
        pairs = [plane[None, :, :tokens] for plane in planes]
        return DynamicCache(list(zip(pairs[::2], pairs[1::2], strict=True)))
    for layer, places in zip(cache.layers, layout.layers, strict=True):
        filled: Any = layer
        if places.keys is not None:
            filled.update(planes[places.keys][None, :, :tokens], planes[places.keys + 1][None, :, :tokens])
        begin_states(filled, [(place.name, place.number, states[place.index][None]) for place in places.states])
    return cache


def begin_states(layer: Any, states: Sequence[tuple[str, int, torch.Tensor]]) -> None:
    """Give an empty layer of a cache copies of states, each with its name and number."""
    for name, number, state in states:
        # The layer makes its own memory of the shape, and is then as if it had read tokens.
        layer.lazy_initialization(**{name: state, "state_idx": number})
        getattr(layer, name)[number].copy_(state)
        layer.has_previous_state[number] = True
