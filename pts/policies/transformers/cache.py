"""Keys and values of many rows of different lengths, and of prefilled sequences that rows start from.

Each layer's keys, and its values, are a *plane* of their own. So memory grows plane by plane: beside what is
stored there is never more than one plane's copy. Rows are left-aligned: column c of a row holds its token c,
and what lies behind a row's own length is never read, because the masks exclude it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache

from pts.errors import ModelError

_COPY_BYTES = 16 << 20
"""Bytes of keys or values on their way from rows to other rows at once."""


@dataclass(frozen=True, slots=True)
class PlaneShape:
    """What a plane holds for one token of one row: heads, head size, dtype and device."""

    heads: int
    size: int
    dtype: torch.dtype
    device: torch.device

    @property
    def bytes_per_token(self) -> int:
        """Bytes that one token of one row takes."""
        return self.heads * self.size * self.dtype.itemsize


Planes: TypeAlias = Sequence[torch.Tensor]
"""One sequence's keys and values, a plane each: [heads, tokens, size]."""


@dataclass(frozen=True, slots=True)
class CacheLayout:
    """The planes of a model: `shapes[2 * layer]` is a layer's keys, `shapes[2 * layer + 1]` its values."""

    shapes: tuple[PlaneShape, ...]

    @property
    def bytes_per_token(self) -> int:
        """Bytes that one token of one row takes, in all planes together."""
        return sum(shape.bytes_per_token for shape in self.shapes)

    @property
    def layers(self) -> int:
        """Number of layers that hold keys and values."""
        return len(self.shapes) // 2


def cache_layout(cache: DynamicCache) -> CacheLayout:
    """The layout of a cache that a forward pass has filled.

    Raises ModelError where a layer lacks keys or values.
    """
    shapes: list[PlaneShape] = []
    for index, layer in enumerate(cache.layers):
        for states in (getattr(layer, "keys", None), getattr(layer, "values", None)):
            if not isinstance(states, torch.Tensor) or states.dim() != 4:
                raise ModelError(
                    f"layer {index} of the model keeps no keys and values of its own: not supported."
                )
            shapes.append(PlaneShape(states.shape[1], states.shape[3], states.dtype, states.device))
    if not shapes:
        raise ModelError("the model fills no key-value cache: not supported.")
    return CacheLayout(tuple(shapes))


def sequence_planes(cache: DynamicCache) -> Planes:
    """The planes of a cache of one row: the cache's own memory, not a copy."""
    planes: list[torch.Tensor] = []
    for layer in cache.layers:
        held: Any = layer
        planes += [held.keys[0], held.values[0]]
    return planes


@torch.inference_mode()
def split_rows(cache: DynamicCache, lengths: Sequence[int]) -> list[Planes]:
    """Each row's first tokens as planes of their own; the cache is used up, layer by layer."""
    rows: list[list[torch.Tensor]] = [[] for _ in lengths]
    for layer in cache.layers:
        held: Any = layer
        for states in (held.keys, held.values):
            for row, length in enumerate(lengths):
                rows[row].append(states[row, :, :length].clone())
        held.keys = held.values = None
    return list(rows)


def to_cache(planes: Planes, tokens: int) -> DynamicCache:
    """The first `tokens` of prefilled planes as a one-row cache that a forward pass can continue."""
    if tokens == 0:
        return DynamicCache()
    states = [plane[None, :, :tokens] for plane in planes]
    return DynamicCache(list(zip(states[::2], states[1::2], strict=True)))


class RowStore:
    """A plane [rows, columns, heads, size] for each layer's keys and values; grows and shrinks as rows need."""

    def __init__(self, layout: CacheLayout) -> None:
        self.layout = layout
        self.planes: list[torch.Tensor] = []

    @property
    def rows(self) -> int:
        """Rows that all planes have room for."""
        return min((plane.shape[0] for plane in self.planes), default=0)

    @property
    def columns(self) -> int:
        """Columns that all planes have room for."""
        return min((plane.shape[1] for plane in self.planes), default=0)

    @property
    def nbytes(self) -> int:
        """Bytes that the planes take."""
        return sum(plane.nbytes for plane in self.planes)

    def reserve(self, rows: int, columns: int) -> None:
        """Make room for at least so many rows and columns; what is stored stays."""
        if rows > self.rows or columns > self.columns:
            self.resize(max(rows, self.rows), max(columns, self.columns))

    @torch.inference_mode()
    def resize(self, rows: int, columns: int) -> None:
        """Give every plane so many rows and columns; what is stored in them stays.

        One plane after another, so that only one has its old and its new memory at once. Where memory runs out
        on the way, the planes differ in size and all that was stored is still there.
        """
        if not self.planes:
            self.planes = [
                torch.empty((0, 0, shape.heads, shape.size), dtype=shape.dtype, device=shape.device)
                for shape in self.layout.shapes
            ]
        for place, old in enumerate(self.planes):
            if old.shape[:2] == (rows, columns):
                continue
            new = torch.empty((rows, columns, *old.shape[2:]), dtype=old.dtype, device=old.device)
            kept, width = min(rows, old.shape[0]), min(columns, old.shape[1])
            new[:kept, :width] = old[:kept, :width]
            # Columns that no row has written yet are multiplied by attention weights of 0: they must be finite.
            new[:kept, width:] = 0
            new[kept:] = 0
            self.planes[place] = new
            del old, new

    def release(self) -> None:
        """Let go of all memory."""
        self.planes = []

    @torch.inference_mode()
    def load(self, planes: Planes, rows: list[int], tokens: int) -> None:
        """Write the first `tokens` of a prefilled sequence to `rows`."""
        for stored, plane in zip(self.planes, planes, strict=True):
            source = plane[:, :tokens].transpose(0, 1)
            if len(rows) == 1:
                stored[rows[0], :tokens] = source
            else:
                stored[rows, :tokens] = source

    @torch.inference_mode()
    def copy(self, sources: list[int], targets: list[int], tokens: int) -> None:
        """Copy the first `tokens` columns of rows to other rows, none of which is a source."""
        for stored, shape in zip(self.planes, self.layout.shapes, strict=True):
            together = max(1, _COPY_BYTES // max(1, tokens * shape.bytes_per_token))
            for start in range(0, len(sources), together):
                part = slice(start, start + together)
                stored[targets[part], :tokens] = stored[sources[part], :tokens]


class RowCache(Cache):
    """The view of a RowStore that one decoding step of `rows` rows writes to and attends over."""

    def __init__(self, store: RowStore) -> None:
        self.store = store
        self.width = 0
        self._positions: torch.Tensor = torch.empty(0)
        self._written: dict[tuple[torch.device, int], torch.Tensor] = {}
        self._rows = 0
        super().__init__(layers=[_RowLayer(self, index) for index in range(store.layout.layers)])

    def begin_step(self, positions: torch.Tensor, width: int) -> None:
        """Set where the next token of each row goes (`positions` [rows]), and the columns attended to."""
        self.width, self._rows = width, len(positions)
        self._positions, self._written = positions, {}

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
