"""Prefilled sequences that are kept within so many bytes: found by what they begin with, the oldest let go."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import numpy.typing as npt

from pts.policies.transformers.cache import States
from pts.policies.transformers.prefilled import UNSTEERED, Key, Prefilled, Reading, bytes_of, key_of
from pts.records import TokenIds


class KeptPrefixes:
    """Prefilled sequences, at most `max_bytes` of them where there are several; the least recently used go."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.nbytes = 0
        self.entries: list[Prefilled] = []
        self._found: dict[Key, Prefilled] = {}
        self._keys: dict[Prefilled, list[Key]] = {}

    def known(self, ids: TokenIds, reading: Reading = UNSTEERED) -> Prefilled | None:
        """A sequence that was found to begin with `ids`, by their hash."""
        return self._found.get(key_of(ids, reading))

    def nearest(self, ids: npt.NDArray[np.int64], reading: Reading) -> tuple[Prefilled | None, int]:
        """The sequence with the longest common prefix, now the most recently used, and that length.

        Where the model keeps states: of those from which a pass over `ids` goes on the latest.
        """
        best, longest, latest = None, 0, (0, 0)
        for entry in self.entries:
            shared = entry.shared(ids, reading)
            place = (entry.start(shared), shared)
            if shared and place > latest:
                best, longest, latest = entry, shared, place
        if best is not None:
            self.entries.remove(best)
            self.entries.append(best)
        return best, longest

    def clear(self) -> None:
        """Let all sequences go."""
        while self.entries:
            self._drop(self.entries[0])

    def forget_steered(self) -> None:
        """Let the sequences go that were read by a steering."""
        for entry in [entry for entry in self.entries if entry.reading.variant]:
            self._drop(entry)

    def make_room(self, needed: int | None, base: Prefilled | None) -> None:
        """Let the oldest but `base` go until so many bytes more fit; None for all of them."""
        room = 0 if needed is None else self.max_bytes - needed
        for entry in list(self.entries):
            if self.nbytes <= room:
                return
            if entry is not base:
                self._drop(entry)

    def keep(self, entry: Prefilled) -> None:
        """Keep a sequence in place of those that it extends; the oldest go beyond the memory allowed."""
        replaced = [other for other in self.entries if entry.shared(other.ids, other.reading) == len(other.ids)]
        keys = [key for other in replaced for key in self._drop(other)]
        own = list(entry.states or ())
        self.add(entry)
        for key in keys:
            self._name(entry, key)
        for other in replaced:
            self.give(entry, other.states or {}, own)

    def give(self, entry: Prefilled, states: dict[int, States], wanted: Collection[int]) -> None:
        """Keep states with a sequence; the oldest but the `wanted` go beyond half of the memory."""
        if entry.states is None:
            return
        for at, own in states.items():
            if at not in entry.states:
                entry.states[at] = own
                self.nbytes += bytes_of(own)
        for at in list(entry.states):
            if 2 * sum(map(bytes_of, entry.states.values())) <= self.max_bytes:
                break
            if at not in wanted and at != len(entry.ids):
                self.nbytes -= bytes_of(entry.states.pop(at))

    def add(self, entry: Prefilled) -> None:
        """Keep a sequence beside the others, of which the oldest go beyond the memory allowed."""
        self.entries.append(entry)
        self._keys[entry] = []
        self.name(entry, tuple(entry.ids.tolist()), entry.reading)
        self.nbytes += entry.nbytes
        while len(self.entries) > 1 and self.nbytes > self.max_bytes:
            self._drop(self.entries[0])

    def name(self, entry: Prefilled, ids: TokenIds, reading: Reading) -> None:
        """Have a sequence found at once by what it begins with."""
        self._name(entry, key_of(ids, reading))

    def _name(self, entry: Prefilled, key: Key) -> None:
        if self._found.get(key) is not entry:
            self._found[key] = entry
            self._keys[entry].append(key)

    def _drop(self, entry: Prefilled) -> list[Key]:
        """Let a sequence go; the keys that found it."""
        self.entries.remove(entry)
        self.nbytes -= entry.nbytes
        keys = [key for key in self._keys.pop(entry) if self._found.get(key) is entry]
        for key in keys:
            del self._found[key]
        return keys
