"""Example continuations of findings, from the run's journal: how the model went on with a token, or without."""

from __future__ import annotations

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
_FRESH = ("confirm", "audit")
"""The phases whose rollouts are of one finding alone."""
_READ = ("problem", "phase", "prefix", "forced", "avoided", "completion", "count", "cut", "success")


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
    wanted: dict[tuple[str, TokenIds], list[tuple[Place, int, bool]]] = {}
    for finding in run.findings:
        problem, candidate = finding.problem, finding.candidate
        ids = problem.traces[candidate.trace].completion
        place = (problem.problem_id, candidate.trace, candidate.position, candidate.end)
        last = (candidate.end or candidate.position + 1) - 1
        for position in range(candidate.position, last + 1):
            rows = wanted.setdefault((problem.problem_id, ids[:position]), [])
            # A sentence is left at any of its tokens, and taken by forcing its last.
            rows.append((place, ids[position], position == last))
    drawn: dict[Place, dict[tuple[bool, bool], list[dict[str, Any]]]] = {}
    problems = {problem for problem, _ in wanted}
    for table in read_parts(run.path / ROLLOUTS, _READ) if wanted else ():
        for row in table.to_pylist():
            if row["phase"] not in _FRESH or row["problem"] not in problems:
                continue
            for place, token, last in wanted.get((row["problem"], tuple(row["prefix"])), ()):
                if row["avoided"] == token or (last and row["forced"] == token):
                    kind = (row["forced"] == token, row["success"])
                    drawn.setdefault(place, {}).setdefault(kind, []).append(row)
    return {place: _examples(place[2], kinds, decode) for place, kinds in drawn.items()}


def _examples(
    position: int,
    kinds: Mapping[tuple[bool, bool], list[dict[str, Any]]],
    decode: Callable[[TokenIds], str],
) -> tuple[Continuation, ...]:
    """Examples of each kind: with the pivot at `position` and without, right and wrong."""
    examples: list[Continuation] = []
    for (taken, success), rows in sorted(kinds.items(), reverse=True):
        for row in _varied(rows)[:EXAMPLES]:
            before, ids = tuple(row["prefix"]), tuple(row["completion"])
            start, first = len(decode(before[:position])) if position else 0, decode((*before, *ids[:1]))
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
