"""What a model keeps of tokens that it has read, held so that several passes can go on from it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch.autograd.graph import saved_tensors_hooks
from transformers.cache_utils import DynamicCache, DynamicLayer

from pts.policies.transformers.model_cache import begin_states, empty_cache, layer_states


@dataclass(frozen=True, slots=True, eq=False)
class ReadLayer:
    """A layer's keys and values [rows, heads, tokens, size], or None; and its recurrent states [rows, ...].

    Each state with the name and number that it has in the layer of transformers' cache.
    """

    keys: torch.Tensor | None = None
    values: torch.Tensor | None = None
    states: tuple[tuple[str, int, torch.Tensor], ...] = ()

    @property
    def nbytes(self) -> int:
        """Bytes of all of it."""
        tensors = [self.keys, self.values, *(state for _, _, state in self.states)]
        return sum(tensor.nbytes for tensor in tensors if tensor is not None)


ReadLayers: TypeAlias = tuple[ReadLayer, ...]
"""What each layer keeps; () where nothing was read."""


def read_layers(cache: DynamicCache, tokens: int | None = None) -> ReadLayers:
    """What a cache holds now, or the keys and values of its first `tokens` tokens.

    Keys and values are its own memory, states are copied: passes change them.
    """
    layers: list[ReadLayer] = []
    for layer in cache.layers:
        states = tuple((name, number, state.clone()) for name, number, state in layer_states(layer))
        keys, values = (getattr(layer, name, None) for name in ("keys", "values"))
        if keys is not None and values is not None:
            keys, values = keys[:, :, :tokens], values[:, :, :tokens]
        layers.append(ReadLayer(keys, values, states))
    return tuple(layers)


def read_cache(model: Any, read: ReadLayers) -> DynamicCache:
    """A cache for one pass after what was read, of which only the states are copied."""
    cache = empty_cache(model)
    if not read:
        return cache
    if not cache.layers:
        cache.layers = [DynamicLayer() for _ in read]  # type: ignore[no-untyped-call]
    for layer, own in zip(cache.layers, read, strict=True):
        held: Any = layer
        if own.keys is not None and own.values is not None:
            DynamicLayer.lazy_initialization(held, own.keys, own.values)
            held.keys, held.values = own.keys, own.values
            held.update = _attending(own)
        begin_states(held, own.states)
        if own.states:
            held.update_recurrent_state = _unchanged
    return cache


def _attending(read: ReadLayer) -> Any:
    """An `update` of a cache's layer that leaves what was read as it is."""

    def update(keys: torch.Tensor, values: torch.Tensor, *_: Any, **__: Any) -> Any:
        assert read.keys is not None
        assert read.values is not None
        return torch.cat([read.keys, keys], dim=-2), torch.cat([read.values, values], dim=-2)

    return update


def _unchanged(states: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
    """An `update_recurrent_state` after which no pass comes: so that gradients can flow, nothing is written."""
    return states


def states_saved(cache: DynamicCache) -> AbstractContextManager[Any]:
    """A context for a pass with gradients, in which a model may overwrite the states that they need.

    Autograd keeps copies of the states then. Nothing is different where there are none.
    """
    states = [state for layer in cache.layers for _, _, state in layer_states(layer)]
    places = {state.untyped_storage().data_ptr() for state in states}
    if not places or not torch.is_grad_enabled():
        return nullcontext()

    def save(tensor: torch.Tensor) -> torch.Tensor:
        mine = tensor.untyped_storage().data_ptr() in places
        return tensor.detach().clone() if mine else tensor.detach()

    return saved_tensors_hooks(save, lambda saved: saved)
