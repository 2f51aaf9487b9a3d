"""A sequence that a model has read: its ids, its keys and values, and how it was steered meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from pts.policies.guide import Guide
from pts.policies.transformers.cache import Planes
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
    """The keys and values of a sequence of token ids [tokens], as `reading` has it."""

    ids: npt.NDArray[np.int64]
    planes: Planes
    reading: Reading = UNSTEERED

    @property
    def nbytes(self) -> int:
        """Bytes that the keys and values take."""
        return self.ids.nbytes + sum(states.nbytes for states in self.planes)

    def shared(self, ids: npt.NDArray[np.int64], reading: Reading) -> int:
        """How many tokens this and `ids` begin with alike, read alike."""
        alike = self.reading.alike(reading)
        size = min(len(self.ids), len(ids)) if alike is None else min(len(self.ids), len(ids), alike)
        differs = self.ids[:size] != ids[:size]
        return int(differs.argmax()) if differs.any() else size


Key: TypeAlias = tuple[int, int, Reading]
"""What a sequence is found by: hash and length of its ids, and its reading. The ids themselves would take more
memory than is counted: a trace is asked for by each of its beginnings."""


def key_of(ids: TokenIds, reading: Reading) -> Key:
    """What a sequence of ids is found by."""
    return hash(ids), len(ids), reading
