"""Example continuations of findings, from the run's journal: how the model went on with a token, or without."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from pts.records import TokenIds
from pts.runs.rollout_parts import read_parts
from pts.runs.search_run import ROLLOUTS, SearchResults

EXAMPLES = 2
"""Continuations that are kept of each kind: with the token and without, right and wrong."""
BEGINNING, END = 600, 300
"""Characters of a long continuation that are kept, from its beginning and from its end."""

Place: TypeAlias = tuple[str, int, int, int | None]
"""A problem's id, a trace, a position, and the token after a sentence's last; None for a token."""
_KEY = re.compile(
    r"/(?:confirm|audit)/(?P<trace>\d+)/\d+/(?P<position>\d+)(?:-(?P<end>\d+))?/(?P<side>on|off)(?:/\d+)?$"
)
"""The name of a confirmation's request: trace, look, position, and the side of the token (or sentence)."""
_READ = ("problem", "key", "prefix", "completion", "count", "cut", "success")


@dataclass(frozen=True, slots=True)
class Continuation:
    """A completion from a pivot on: `taken` with the trace's token or sentence or without, `count` equal ones.

    `first` is the token (or the sentence; without it, as far as the first other token) and `rest` what
    followed, shortened in the middle where it is long.
    """

    taken: bool
    success: bool
    first: str
    rest: str
    cut: bool
    count: int


def example_continuations(
    run: SearchResults, decode: Callable[[TokenIds], str]
) -> dict[Place, tuple[Continuation, ...]]:
    """A few continuations of each finding, of the confirmation's rollouts, in the order they were drawn.

    Different first tokens come before a second continuation by the same one. Raises RunError.
    """
    places = {
        (f.problem.problem_id, f.candidate.trace, f.candidate.position, f.candidate.end) for f in run.findings
    }
    drawn: dict[Place, dict[tuple[bool, bool], list[dict[str, Any]]]] = {}
    problems = {problem for problem, *_ in places}
    for table in read_parts(run.path / ROLLOUTS, _READ) if places else ():
        for row in table.to_pylist():
            named = _KEY.search(row["key"]) if row["problem"] in problems else None
            if named is None:
                continue
            end = named["end"] and int(named["end"])
            place = (row["problem"], int(named["trace"]), int(named["position"]), end)
            if place in places:
                kind = (named["side"] == "on", row["success"])
                drawn.setdefault(place, {}).setdefault(kind, []).append(row)
    return {place: _examples(place, kinds, decode) for place, kinds in drawn.items()}


def _examples(
    place: Place,
    kinds: Mapping[tuple[bool, bool], list[dict[str, Any]]],
    decode: Callable[[TokenIds], str],
) -> tuple[Continuation, ...]:
    """Examples of each kind: with the pivot and without, right and wrong."""
    _, _, position, end = place
    examples: list[Continuation] = []
    for (taken, success), rows in sorted(kinds.items(), reverse=True):
        for row in _varied(rows)[:EXAMPLES]:
            before, ids = tuple(row["prefix"]), tuple(row["completion"])
            shown = (before + ids)[: (end or position + 1)] if taken else (*before, *ids[:1])
            start, first = len(decode(before[:position])) if position else 0, decode(shown)
            text = decode(before + ids)
            rest = shortened(text[len(first) :])
            examples.append(
                Continuation(taken, success, text[start : len(first)], rest, row["cut"], row["count"])
            )
    return tuple(examples)


def _varied(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with those first that begin with a token that no earlier one began with."""
    seen: set[int] = set()
    new: list[dict[str, Any]] = []
    again: list[dict[str, Any]] = []
    for row in rows:
        first = row["completion"][0] if row["completion"] else -1
        (again if first in seen else new).append(row)
        seen.add(first)
    return new + again


def shortened(text: str) -> str:
    """A long text without its middle."""
    return text if len(text) <= BEGINNING + END + 1 else f"{text[:BEGINNING]} … {text[-END:]}"
