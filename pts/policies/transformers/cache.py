"""What rows of different lengths keep of what they have read: keys and values, and states that have no length.

Each layer's keys, and its values, are a *plane* of their own. So memory grows plane by plane: beside what is
stored there is never more than one plane's copy. Rows are left-aligned: column c of a row holds its token c,
and what lies behind a row's own length is never read, because the masks exclude it.

A recurrent layer keeps a *state* instead: a tensor that each token changes, and that no slice takes back. A
row's states are those after all the tokens in its cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import TypeAlias

import torch

_COPY_BYTES = 16 << 20
"""Bytes of keys, values or states on their way from rows to other rows at once."""


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


@dataclass(frozen=True, slots=True)
class StateShape:
    """What a recurrent layer keeps for one row, whatever its length: a tensor's shape, dtype and device."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device

    @property
    def bytes_per_row(self) -> int:
        """Bytes that it takes."""
        return prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class StatePlace:
    """Where a cache's layer has a state (`name` is an attribute, `number` a key of it), and its index here."""

    name: str
    number: int
    index: int


@dataclass(frozen=True, slots=True)
class LayerPlaces:
    """What one layer keeps: the plane of its keys, before that of its values, or None; and its states."""

    keys: int | None
    states: tuple[StatePlace, ...] = ()


Planes: TypeAlias = Sequence[torch.Tensor]
"""One sequence's keys and values, a plane each: [heads, tokens, size]."""

States: TypeAlias = Sequence[torch.Tensor]
"""One sequence's states after all its tokens, in the order of the layout; () where a model keeps none."""


@dataclass(frozen=True, slots=True)
class CacheLayout:
    """The planes and states of a model.

    `shapes[2 * layer]` is an attention layer's keys, `shapes[2 * layer + 1]` its values. `by_layer` says what
    each of the model's layers keeps; by default all are attention.
    """

    shapes: tuple[PlaneShape, ...]
    states: tuple[StateShape, ...] = ()
    by_layer: tuple[LayerPlaces, ...] = ()

    @property
    def bytes_per_token(self) -> int:
        """Bytes that one token of one row takes, in all planes together."""
        return sum(shape.bytes_per_token for shape in self.shapes)

    @property
    def state_bytes(self) -> int:
        """Bytes that the states of one row take."""
        return sum(shape.bytes_per_row for shape in self.states)

    @property
    def largest_plane(self) -> int:
        """Bytes that one token of one row takes in the largest plane."""
        return max((shape.bytes_per_token for shape in self.shapes), default=0)

    @property
    def largest_state(self) -> int:
        """Bytes of the largest of one row's states."""
        return max((shape.bytes_per_row for shape in self.states), default=0)

    @property
    def layers(self) -> tuple[LayerPlaces, ...]:
        """What each layer of the model keeps."""
        return self.by_layer or tuple(LayerPlaces(place) for place in range(0, len(self.shapes), 2))

    def sequence_bytes(self, tokens: int) -> int:
        """Bytes that a sequence of so many tokens takes, with the states at its end."""
        return tokens * self.bytes_per_token + self.state_bytes


class RowStore:
    """A plane [rows, columns, heads, size] for each layer's keys and values, and the rows' states [rows, ...].

    It grows and shrinks as rows need.
    """

    def __init__(self, layout: CacheLayout) -> None:
        self.layout = layout
        self.planes: list[torch.Tensor] = []
        self.states: list[torch.Tensor] = []
        self._columns = 0

    @property
    def rows(self) -> int:
        """Rows that all planes and states have room for."""
        return min((stored.shape[0] for stored in (*self.planes, *self.states)), default=0)

    @property
    def columns(self) -> int:
        """Columns that all planes have room for."""
        return min((plane.shape[1] for plane in self.planes), default=self._columns)

    @property
    def nbytes(self) -> int:
        """Bytes that planes and states take."""
        return sum(stored.nbytes for stored in (*self.planes, *self.states))

    def reserve(self, rows: int, columns: int) -> None:
        """Make room for at least so many rows and columns; what is stored stays."""
        if rows > self.rows or columns > self.columns:
            self.resize(max(rows, self.rows), max(columns, self.columns))

    @torch.inference_mode()
    def resize(self, rows: int, columns: int) -> None:
        """Give every plane so many rows and columns, and the states so many rows; what is stored in them stays.

        One after another, so that only one has its old and its new memory at once. Where memory runs out
        on the way, they differ in size and all that was stored is still there.
        """
        if not self.planes and not self.states:
            self.planes = [
                torch.empty((0, 0, shape.heads, shape.size), dtype=shape.dtype, device=shape.device)
                for shape in self.layout.shapes
            ]
            self.states = [
                torch.empty((0, *shape.shape), dtype=shape.dtype, device=shape.device)
                for shape in self.layout.states
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
        resize_states(self.states, rows)
        self._columns = columns

    def release(self) -> None:
        """Let go of all memory."""
        self.planes, self.states, self._columns = [], [], 0

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
    def load_states(self, states: States, row: int) -> None:
        """Give a row the states of a sequence; none for a row that has read nothing."""
        for place, stored in enumerate(self.states):
            if states:
                stored[row] = states[place]
            else:
                stored[row] = 0

    @torch.inference_mode()
    def copy(self, sources: list[int], targets: list[int], tokens: int) -> None:
        """Copy the first `tokens` columns of rows to other rows, none of which is a source."""
        for stored, shape in zip(self.planes, self.layout.shapes, strict=True):
            for part in copied_at_once(len(sources), tokens * shape.bytes_per_token):
                stored[targets[part], :tokens] = stored[sources[part], :tokens]

    def copy_states(self, sources: list[int], targets: list[int]) -> None:
        """Copy the states of rows to other rows, none of which is a source."""
        copy_states(self.states, sources, self.states, targets)


def copied_at_once(count: int, each: int) -> Iterator[slice]:
    """Slices of `count` things of `each` bytes: so many go from place to place at once."""
    together = max(1, _COPY_BYTES // max(1, each))
    for start in range(0, count, together):
        yield slice(start, start + together)


@torch.inference_mode()
def resize_states(states: list[torch.Tensor], rows: int) -> None:
    """Give states [rows, ...] so many rows, one tensor after another; new rows are zero."""
    for place, old in enumerate(states):
        if len(old) != rows:
            new = torch.zeros((rows, *old.shape[1:]), dtype=old.dtype, device=old.device)
            kept = min(rows, len(old))
            new[:kept] = old[:kept]
            states[place] = new
            del old, new


@torch.inference_mode()
def copy_states(
    source: Sequence[torch.Tensor], rows: list[int], target: Sequence[torch.Tensor], places: list[int]
) -> None:
    """Copy rows of states [rows, ...] to places in others, or in the same where no place is among the rows."""
    for read, written in zip(source, target, strict=True):
        for part in copied_at_once(len(rows), read[0].nbytes if rows else 1):
            written[places[part]] = read[rows[part]]
