"""A sequence that a model has read: its ids, what the model keeps of it, and how it was steered meanwhile."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from pts.policies.guide import Guide
from pts.policies.transformers.cache import Planes, States
from pts.records import RolloutRequest, TokenIds


@dataclass(frozen=True, slots=True)
class Reading:
    """By which steering a sequence is read: `variant` from position `start` on, the model as it is before.

    Neither is what stands at the positions `skipped`.
    """

    variant: int = 0
    start: int = 0
    skipped: tuple[int, ...] = ()

    @classmethod
    def of(cls, request: RolloutRequest, guide: Guide | None = None) -> Reading:
        """How what a request's rollouts begin with is read: a prompt is never steered.

        `guide` has heard of the prefix, and knows where in it steering was on.
        """
        if not request.variant:
            return cls()
        start = len(request.prompt)
        if guide is None:
            return cls(request.variant, start)
        skipped = tuple(start + position for position in guide.skipped)
        return cls(guide.steered(request.variant) or request.variant, start, skipped)

    def alike(self, other: Reading) -> int | None:
        """How many tokens the two read alike; None for all."""
        if self == other:
            return None
        if (self.variant, self.start) == (other.variant, other.start):
            return min(set(self.skipped) ^ set(other.skipped))
        return min(reading.start for reading in (self, other) if reading.variant)


UNSTEERED = Reading()
"""By the model as it is."""


@dataclass(frozen=True, slots=True, eq=False)
class Prefilled:
    """The keys and values of a sequence of token ids [tokens], as `reading` has it.

    `states` are a recurrent model's after some of its beginnings, by their number of tokens: those at which
    something starts. None for a model that keeps none: then any beginning is a slice.
    """

    ids: npt.NDArray[np.int64]
    planes: Planes
    reading: Reading = UNSTEERED
    states: dict[int, States] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes that the keys and values take, and the states."""
        held = sum(plane.nbytes for plane in self.planes)
        return self.ids.nbytes + held + sum(bytes_of(states) for states in (self.states or {}).values())

    def start(self, tokens: int) -> int:
        """How many of the first `tokens` a pass can go on from: all, or up to the last state among them."""
        if self.states is None:
            return tokens
        return max((length for length in self.states if length <= tokens), default=0)

    def lacks(self, lengths: Collection[int]) -> list[int]:
        """At which of these lengths there is no state, ascending; none for a model that keeps no states."""
        return [] if self.states is None else sorted(set(lengths) - {0} - self.states.keys())

    def states_at(self, tokens: int) -> States:
        """The states after the first `tokens`; () where there is nothing that a slice does not give."""
        return () if self.states is None or tokens == 0 else self.states[tokens]

    def shared(self, ids: npt.NDArray[np.int64], reading: Reading) -> int:
        """How many tokens this and `ids` begin with alike, read alike."""
        alike = self.reading.alike(reading)
        size = min(len(self.ids), len(ids)) if alike is None else min(len(self.ids), len(ids), alike)
        differs = self.ids[:size] != ids[:size]
        return int(differs.argmax()) if differs.any() else size


def bytes_of(states: States) -> int:
    """Bytes that states take."""
    return sum(state.nbytes for state in states)


Key: TypeAlias = tuple[int, int, Reading]
"""What a sequence is found by: hash and length of its ids, and its reading. The ids themselves would take more
memory than is counted: a trace is asked for by each of its beginnings."""


def key_of(ids: TokenIds, reading: Reading) -> Key:
    """What a sequence of ids is found by."""
    return hash(ids), len(ids), reading


def sweeps(wanted: Sequence[tuple[TokenIds, Reading]]) -> list[list[int]]:
    """Sequences by index, together with those that they begin with: reading the first gives all.

    A sequence comes before its beginnings in `wanted`.
    """
    found: list[tuple[npt.NDArray[np.int64], Reading, list[int]]] = []
    for place, (ids, reading) in enumerate(wanted):
        own = np.asarray(ids, dtype=np.int64)
        for first, read, places in found:
            if Prefilled(first, (), read).shared(own, reading) == len(own):
                places.append(place)
                break
        else:
            found.append((own, reading, [place]))
    return [places for _, _, places in found]
