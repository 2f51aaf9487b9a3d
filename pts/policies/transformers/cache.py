"""Keys and values of many rows of different lengths, and of prefilled sequences that rows start from.

All layers' keys and values of one shape are *planes* of one tensor, so that starting or copying a row is one
operation, not two a layer. Rows are left-aligned: column c of a row holds its token c, and what lies behind a
row's own length is never read, because the masks exclude it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache

from pts.errors import ModelError


@dataclass(frozen=True, slots=True)
class PlaneShape:
    """What planes of one tensor have in common: heads, head size, dtype and device."""

    heads: int
    size: int
    dtype: torch.dtype
    device: torch.device


Planes: TypeAlias = dict[PlaneShape, torch.Tensor]


@dataclass(frozen=True, slots=True)
class CacheLayout:
    """Where each layer's keys and values are: `places[2 * layer]` and `places[2 * layer + 1]`.

    A place is the shape's group and the plane's index in it.
    """

    places: tuple[tuple[PlaneShape, int], ...]

    @property
    def bytes_per_token(self) -> int:
        """Bytes that one token of one row takes."""
        return sum(shape.heads * shape.size * shape.dtype.itemsize for shape, _ in self.places)

    @property
    def groups(self) -> dict[PlaneShape, int]:
        """The number of planes of each shape."""
        counts: dict[PlaneShape, int] = {}
        for shape, _ in self.places:
            counts[shape] = counts.get(shape, 0) + 1
        return counts

    @property
    def layers(self) -> int:
        """Number of layers that hold keys and values."""
        return len(self.places) // 2


def cache_layout(cache: DynamicCache) -> CacheLayout:
    """The layout of a cache that a forward pass has filled.

    Raises ModelError where a layer lacks keys or values.
    """
    places: list[tuple[PlaneShape, int]] = []
    counts: dict[PlaneShape, int] = {}
    for index, layer in enumerate(cache.layers):
        for states in (getattr(layer, "keys", None), getattr(layer, "values", None)):
            if not isinstance(states, torch.Tensor) or states.dim() != 4:
                raise ModelError(
                    f"layer {index} of the model keeps no keys and values of its own: not supported."
                )
            shape = PlaneShape(states.shape[1], states.shape[3], states.dtype, states.device)
            places.append((shape, counts.get(shape, 0)))
            counts[shape] = counts.get(shape, 0) + 1
    if not places:
        raise ModelError("the model fills no key-value cache: not supported.")
    return CacheLayout(tuple(places))


def to_planes(cache: DynamicCache, layout: CacheLayout, row: int = 0, tokens: int | None = None) -> Planes:
    """A row of a cache, its first `tokens` or all, as planes [planes, tokens, heads, size] by shape."""
    grouped: dict[PlaneShape, list[torch.Tensor]] = {shape: [] for shape in layout.groups}
    for index, (shape, _) in enumerate(layout.places):
        layer: Any = cache.layers[index // 2]
        states = layer.values if index % 2 else layer.keys
        grouped[shape].append(states[row, :, :tokens].transpose(0, 1))
    return {shape: torch.stack(states) for shape, states in grouped.items()}


def to_cache(planes: Planes, layout: CacheLayout, tokens: int) -> DynamicCache:
    """The first `tokens` of prefilled planes as a one-row cache that a forward pass can continue."""
    if tokens == 0:
        return DynamicCache()
    states = [planes[shape][index, :tokens].transpose(0, 1)[None] for shape, index in layout.places]
    return DynamicCache(list(zip(states[::2], states[1::2], strict=True)))


class RowStore:
    """Planes [planes, rows, columns, heads, size] by shape; grows as rows and columns are needed."""

    def __init__(self, layout: CacheLayout) -> None:
        self.layout = layout
        self.rows = 0
        self.columns = 0
        self.planes: Planes = {}

    @torch.inference_mode()
    def reserve(self, rows: int, columns: int) -> None:
        """Make room for at least so many rows and columns; what is stored stays."""
        if rows <= self.rows and columns <= self.columns:
            return
        rows, columns = max(rows, self.rows), max(columns, self.columns)
        for shape, count in self.layout.groups.items():
            grown = torch.empty(
                (count, rows, columns, shape.heads, shape.size), dtype=shape.dtype, device=shape.device
            )
            # Columns that no row has written yet are multiplied by attention weights of 0: they must be finite.
            grown.zero_()
            if shape in self.planes:
                grown[:, : self.rows, : self.columns] = self.planes[shape]
            self.planes[shape] = grown
        self.rows, self.columns = rows, columns

    def release(self) -> None:
        """Let go of all memory."""
        self.rows = self.columns = 0
        self.planes = {}

    @torch.inference_mode()
    def load(self, planes: Planes, rows: list[int], tokens: int) -> None:
        """Write the first `tokens` of a prefilled sequence to `rows`."""
        for shape, stored in self.planes.items():
            stored[:, rows, :tokens] = planes[shape][:, None, :tokens]

    @torch.inference_mode()
    def copy(self, sources: list[int], targets: list[int], tokens: int) -> None:
        """Copy the first `tokens` columns of rows to other rows."""
        for stored in self.planes.values():
            stored[:, targets, :tokens] = stored[:, sources, :tokens]


class RowCache(Cache):
    """The view of a RowStore that one decoding step of `rows` rows writes to and attends over."""

    def __init__(self, store: RowStore) -> None:
        self.store = store
        self.width = 0
        self._written: dict[torch.device, torch.Tensor] = {}
        self._rows = 0
        super().__init__(layers=[_RowLayer(self, index) for index in range(store.layout.layers)])

    def begin_step(self, positions: torch.Tensor, width: int) -> None:
        """Set where the next token of each row goes (`positions` [rows]), and the columns attended to."""
        self.width, self._rows = width, len(positions)
        flat = torch.arange(len(positions), device=positions.device) * self.store.columns + positions
        self._written = {shape.device: flat.to(shape.device) for shape in self.store.planes}

    def write(self, place: int, states: torch.Tensor) -> torch.Tensor:
        """Store `states` [rows, heads, 1, size] at a place; return its columns [rows, heads, width, size]."""
        shape, index = self.store.layout.places[place]
        plane = self.store.planes[shape][index]
        plane.view(-1, shape.heads, shape.size).index_copy_(0, self._written[shape.device], states.squeeze(2))
        return plane[: self._rows, : self.width].transpose(1, 2)


class _RowLayer(CacheLayerMixin):  # type: ignore[no-untyped-call]
    """One layer of a RowCache."""

    is_sliding = False

    def __init__(self, cache: RowCache, index: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._cache = cache
        self._index = index
        self.is_initialized = True

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Nothing to do: the store holds the memory."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the step's keys and values [rows, heads, 1, size]; return all that is attended to."""
        keys = self._cache.write(2 * self._index, key_states)
        return keys, self._cache.write(2 * self._index + 1, value_states)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:  # noqa: ARG002
        """Columns attended to, and the offset of the first."""
        return self._cache.width, 0

    def get_seq_length(self) -> int:
        """Columns before the step's own."""
        return self._cache.width - 1

    def get_max_length(self) -> int:
        """No maximum."""
        return -1
