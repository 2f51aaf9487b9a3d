"""Graders that a package brings along, by the name that users give."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pts.graders.protocol import Grader
from pts.registered import lookup


@dataclass(frozen=True, slots=True)
class RegisteredGrader:
    """A grader by its name: how it is made, what ends the thinking that it skips, and what it can read."""

    make: Callable[[], Grader]
    think_end: str | None
    reads: Callable[[str], bool]


_GRADERS: Mapping[str, str] = {"demo": "pts.demo.registration:GRADER"}
"""Where each is declared; imported when it is looked up."""


def registered_grader(name: str) -> RegisteredGrader | None:
    """The grader of a name; None for one of `pts.graders` itself."""
    return lookup(RegisteredGrader, _GRADERS, name)


def registered_graders() -> tuple[str, ...]:
    """The names of all registered graders."""
    return tuple(_GRADERS)
