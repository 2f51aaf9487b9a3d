"""Budgets measured on problems, each measurement kept in a journal so that a stopped one goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pts.decoding.limits import Budget
from pts.decoding.session import Question, Session
from pts.decoding.strategies import Plain
from pts.errors import RunError
from pts.evaluation.outcomes import Outcomes
from pts.pivot_search.config import Grade
from pts.records import Problem
from pts.runs.codec import to_json
from pts.runs.files import append_bytes, replace_text
from pts.runs.manifest import differences
from pts.seeds import derive_seed

CHUNK = 128
"""Problems of one stream of requests: what a kill may lose."""

Key = tuple[bool, str, int]
"""Whether steered, the arm, and the first problem of a chunk."""


@dataclass(slots=True)
class ArmMeasurement:
    """Measures arms, each a budget, on problems; every arm with the same seeds.

    `journal` begins with a line of `asked`, which says what is measured; what else stands in it is not measured
    again. `observe` hears of tokens as they come, `answered` counts completions, those of the journal too.
    Raises RunError for a journal of another measurement.
    """

    problems: Sequence[Problem]
    grade: Grade
    samples: int
    seed: int
    journal: Path
    asked: Mapping[str, object]
    observe: Callable[[int], None] | None = None
    answered: int = 0
    _known: dict[Key, Outcomes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.journal.exists():
            replace_text(self.journal, json.dumps(to_json(self.asked), sort_keys=True) + "\n")
            return
        self._known = _read_journal(self.journal, self.asked, self.samples)

    def __call__(self, session: Session, arm: str, budget: Budget, variant: int) -> Outcomes:
        """The arm's outcomes on all problems, steered by a variant of the session (0: the model as it is)."""
        outcomes = [
            self._chunk(session, arm, budget, variant, first) for first in range(0, len(self.problems), CHUNK)
        ]
        joined = outcomes[0]
        for more in outcomes[1:]:
            joined = joined.joined(more)
        return joined

    def _chunk(self, session: Session, arm: str, budget: Budget, variant: int, first: int) -> Outcomes:
        key = (variant > 0, arm, first)
        if key not in self._known:
            outcomes = self._measure(session, Plain(arm, budget), variant, first)
            append_bytes(self.journal, _line(key, outcomes))
            self._known[key] = outcomes
        else:
            self.answered += self._known[key].samples * len(self._known[key].successes)
        return self._known[key]

    def _measure(self, session: Session, strategy: Plain, variant: int, first: int) -> Outcomes:
        problems = self.problems[first : first + CHUNK]
        questions = [
            Question(
                problem.id, problem.query, derive_seed(self.seed, "fit router", problem.id, sample), variant
            )
            for problem in problems
            for sample in range(self.samples)
        ]
        sums = np.zeros((3, len(problems)), dtype=np.int64)
        session.begin()
        for index, answer in strategy.answers(session, questions):
            place = index // self.samples
            ended = answer.ledger.ended
            success = ended and self.grade(answer.text, problems[place].answer)
            sums[:, place] += (success, answer.ledger.total, not ended)
            self.answered += 1
            if self.observe is not None:
                self.observe(answer.ledger.total)
        return Outcomes(self.samples, *sums)


def _line(key: Key, outcomes: Outcomes) -> bytes:
    steered, arm, first = key
    entry = {
        "steered": steered,
        "arm": arm,
        "first": first,
        "successes": outcomes.successes.tolist(),
        "tokens": outcomes.tokens.tolist(),
        "cut": outcomes.cut.tolist(),
    }
    return json.dumps(entry, separators=(",", ":")).encode() + b"\n"


def journal_asked(path: Path) -> Mapping[str, object]:
    """What a journal's first line says is measured; nothing where there is no journal, or no such line."""
    if not path.exists():
        return {}
    with path.open("rb") as lines:
        return _asked(lines.readline())


def _asked(header: bytes) -> Mapping[str, object]:
    try:
        asked = json.loads(header)
    except ValueError:
        return {}
    return asked if isinstance(asked, dict) else {}


def _changed(header: bytes, asked: Mapping[str, object]) -> str:
    """What differs between a journal's first line and what is measured now, in words; empty for nothing.

    What an earlier version did not record is unknown, and no difference.
    """
    before = _asked(header)
    if not before:
        return "its first line says nothing of them"
    return "; ".join(differences(before, {key: value for key, value in asked.items() if key in before}))


def _read_journal(path: Path, asked: Mapping[str, object], samples: int) -> dict[Key, Outcomes]:
    """What a journal holds; a last line without its newline is what a kill leaves, and is cut off the file."""
    header, *lines, half = path.read_bytes().split(b"\n")
    changed = _changed(header, asked)
    if changed:
        raise RunError(
            f"{path} holds measurements with other settings, another model or other vectors ({changed}): give "
            "another --output, or --fresh to delete them and start anew."
        )
    if half:
        os.truncate(path, path.stat().st_size - len(half))
    known: dict[Key, Outcomes] = {}
    for number, line in enumerate(lines, start=2):
        try:
            entry = json.loads(line)
            sums = (np.asarray(entry[name], dtype=np.int64) for name in ("successes", "tokens", "cut"))
            known[bool(entry["steered"]), str(entry["arm"]), int(entry["first"])] = Outcomes(samples, *sums)
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(
                f"{path} line {number} cannot be read ({error}); delete the file to measure anew."
            ) from error
    return known
