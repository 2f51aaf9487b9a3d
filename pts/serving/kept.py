"""What a server keeps for its clients: by a hash of the content, for as long as one of them wants it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

LEASE = 600.0
"""Seconds after which a client that is no longer heard of wants nothing more."""


@dataclass(slots=True, eq=False)
class _Entry:
    content: Any
    drop: Callable[[], None]
    heard: dict[str, float] = field(default_factory=dict)


class Kept:
    """Contents by name, each with the clients that want it and when they were last heard of.

    `clock` tells the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._entries: dict[str, _Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, name: str | None) -> Any:
        """The content of that name; None where there is none."""
        entry = None if name is None else self._entries.get(name)
        return None if entry is None else entry.content

    def names(self) -> Mapping[str, Any]:
        """All contents by name."""
        return {name: entry.content for name, entry in self._entries.items()}

    def put(self, name: str, client: str, make: Callable[[], tuple[Any, Callable[[], None]]]) -> None:
        """Keep a content for a client. Where there is none of that name, `make` gives it and what drops it."""
        if name not in self._entries:
            self._entries[name] = _Entry(*make())
        self._entries[name].heard[client] = self._clock()

    def hear(self, client: str) -> list[str]:
        """Note that a client is there; what it wants is kept on. Returns the names of that."""
        mine = [name for name, entry in self._entries.items() if client in entry.heard]
        for name in mine:
            self._entries[name].heard[client] = self._clock()
        return mine

    def release(self, client: str, names: Iterable[str] | None = None) -> None:
        """Have a client want some contents no more, or none at all."""
        for name in list(self._entries) if names is None else names:
            if name in self._entries:
                self._entries[name].heard.pop(client, None)
                self._drop_unwanted(name)

    def expire(self, in_use: Iterable[str]) -> None:
        """Drop what no client wants that was heard of within the lease, but for what is in use."""
        used, now = set(in_use), self._clock()
        for name, entry in list(self._entries.items()):
            if name not in used:
                entry.heard = {client: at for client, at in entry.heard.items() if now - at <= LEASE}
            self._drop_unwanted(name)

    def _drop_unwanted(self, name: str) -> None:
        if not self._entries[name].heard:
            self._entries.pop(name).drop()
