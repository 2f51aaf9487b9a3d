"""The rows' caches as one decoding step of the model sees them."""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin, LinearAttentionLayer

from pts.policies.transformers.cache import LayerPlaces, RowStore
from pts.policies.transformers.linear_cache import has_linear_cache, with_linear_cache
from pts.policies.transformers.model_cache import KEEPS_NOTHING


class RowCache(Cache):
    """The view of a RowStore that one decoding step of `rows` rows writes to and attends over."""

    def __init__(self, store: RowStore) -> None:
        self.store = store
        self.width = 0
        self._positions: torch.Tensor = torch.empty(0)
        self._written: dict[tuple[torch.device, int], torch.Tensor] = {}
        self._rows = 0
        Cache.__init__(self, layers=[_layer(self, places) for places in store.layout.layers])

    def begin_step(self, positions: torch.Tensor, width: int) -> None:
        """Set where the next token of each row goes (`positions` [rows]), and the columns attended to."""
        self.width, self._rows = width, len(positions)
        self._positions, self._written = positions, {}
        for layer in self.layers:
            if isinstance(layer, _StateLayer):
                layer.begin_step(self.store.states, self._rows)

    def end_step(self) -> None:
        """Let go of the store's memory: it can grow then without being there twice."""
        for layer in self.layers:
            if isinstance(layer, _StateLayer):
                layer.end_step()

    def write(self, place: int, states: torch.Tensor) -> torch.Tensor:
        """Store `states` [rows, heads, 1, size] at a place; return its columns [rows, heads, width, size]."""
        plane = self.store.planes[place]
        where = self._written_places(plane)
        plane.view(-1, *plane.shape[2:]).index_copy_(0, where, states.squeeze(2))
        return plane[: self._rows, : self.width].transpose(1, 2)

    def _written_places(self, plane: torch.Tensor) -> torch.Tensor:
        """Where the step's tokens go in a plane taken as one list of tokens [rows]; planes alike share it."""
        kind = (plane.device, plane.shape[1])
        if kind not in self._written:
            starts = torch.arange(self._rows, device=self._positions.device) * plane.shape[1]
            self._written[kind] = (starts + self._positions).to(plane.device)
        return self._written[kind]


def row_cache(model: Any, store: RowStore) -> RowCache:
    """The view of a store that a model takes for its cache."""
    cache: RowCache = with_linear_cache(RowCache)(store) if has_linear_cache(model) else RowCache(store)
    return cache


class _KeyLayer(CacheLayerMixin):  # type: ignore[no-untyped-call]
    """A layer of attention: its keys and values are written to the store's planes."""

    is_sliding = False

    def __init__(self, cache: RowCache, keys: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._cache = cache
        self._keys = keys
        self.is_initialized = True

    def lazy_initialization(self, *_: Any, **__: Any) -> None:
        """Nothing to do: the store holds the memory."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the step's keys and values [rows, heads, 1, size]; return all that is attended to."""
        keys = self._cache.write(self._keys, key_states)
        return keys, self._cache.write(self._keys + 1, value_states)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:  # noqa: ARG002
        """Columns attended to, and the offset of the first."""
        return self._cache.width, 0

    def get_seq_length(self) -> int:
        """Columns before the step's own."""
        return self._cache.width - 1

    def get_max_length(self) -> int:
        """No maximum."""
        return -1


class _StateLayer(LinearAttentionLayer):
    """A recurrent layer: the model changes the rows' states where the store has them."""

    def __init__(self, places: LayerPlaces) -> None:
        numbers = 1 + max(place.number for place in places.states)
        LinearAttentionLayer.__init__(self, numbers)
        self._places = places.states

    def begin_step(self, states: list[torch.Tensor], rows: int) -> None:
        """Take the states of the first `rows` rows for the step's; rows that have read nothing have zeros."""
        for place in self._places:
            own = states[place.index][:rows]
            getattr(self, place.name)[place.number] = own
            getattr(self, f"is_{place.name}_initialized")[place.number] = True
            self.has_previous_state[place.number] = True
            if place.name == "conv_states":
                self.conv_kernel_size[place.number] = own.shape[-1]

    def end_step(self) -> None:
        """Forget the states."""
        for place in self._places:
            getattr(self, place.name)[place.number] = None


class _KeyAndStateLayer(_StateLayer, _KeyLayer):  # type: ignore[override, no-untyped-call]
    """A layer that attends and keeps a state, side by side."""

    def __init__(self, cache: RowCache, keys: int, places: LayerPlaces) -> None:
        _KeyLayer.__init__(self, cache, keys)
        _StateLayer.__init__(self, places)

    def get_max_length(self) -> int:
        """No maximum."""
        return -1


def _layer(cache: RowCache, places: LayerPlaces) -> Any:
    """The view of what one layer of the model keeps."""
    if places.keys is None:
        return _StateLayer(places) if places.states else KEEPS_NOTHING()
    if places.states:
        return _KeyAndStateLayer(cache, places.keys, places)
    return _KeyLayer(cache, places.keys)
