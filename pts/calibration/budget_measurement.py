"""Budgets measured on problems, each measurement kept in a journal so that a stopped one goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pts.decoding.limits import ThinkingBudget
from pts.decoding.session import Question, Session
from pts.decoding.strategies import Plain
from pts.errors import RunError
from pts.evaluation.outcomes import Outcomes
from pts.pivot_search.config import Grade
from pts.records import Problem
from pts.runs.journal import Journal
from pts.runs.manifest import differences
from pts.seeds import derive_seed
from pts.setting_names import setting

CHUNK = 128
"""Problems of one stream of requests: what a kill may lose."""

Key = tuple[bool, str, int]
"""Whether steered, the budget's name, and the first problem of a chunk."""


@dataclass(frozen=True, slots=True)
class BudgetOutcomes:
    """A budget's outcomes on a chunk of problems: sums for each. `arm` is the key that journals have."""

    steered: bool
    arm: str
    first: int
    successes: tuple[int, ...]
    tokens: tuple[int, ...]
    cut: tuple[int, ...]


@dataclass(slots=True)
class BudgetMeasurement:
    """Measures budgets on problems, each with the same seeds.

    `journal` begins with a line of `settings`, which says what is measured; what else stands in it is not
    measured again. `observe` hears of tokens as they come, `answered` counts completions, those of the journal
    too. Raises RunError for a journal of another measurement.
    """

    problems: Sequence[Problem]
    grade: Grade
    samples: int
    seed: int
    journal: Path
    settings: Mapping[str, object]
    observe: Callable[[int], None] | None = None
    answered: int = 0
    _journal: Journal[BudgetOutcomes] = field(init=False)
    _known: dict[Key, Outcomes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._journal = budgets_journal(self.journal)
        if not self.journal.exists():
            self._journal.begin(dict(sorted(self.settings.items())))
            return
        changed = _changed(self._journal.header(), self.settings)
        if changed:
            raise RunError(
                f"{self.journal} holds measurements with other settings, another model or other vectors "
                f"({changed}): give another {setting('output')}, or {setting('fresh', True)} to delete them "
                "and start again."
            )
        self._known = dict(_outcomes(each, self.samples) for each in self._journal.read())

    def __call__(self, session: Session, name: str, budget: ThinkingBudget, variant: int) -> Outcomes:
        """A budget's outcomes on all problems, steered by a variant of the session (0: the model as it is)."""
        outcomes = [
            self._chunk(session, name, budget, variant, first) for first in range(0, len(self.problems), CHUNK)
        ]
        joined = outcomes[0]
        for more in outcomes[1:]:
            joined = joined.joined(more)
        return joined

    def _chunk(self, session: Session, name: str, budget: ThinkingBudget, variant: int, first: int) -> Outcomes:
        key = (variant > 0, name, first)
        if key not in self._known:
            outcomes = self._measure(session, Plain(name, budget), variant, first)
            self._journal.append(_measurement(key, outcomes))
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
            ended = answer.usage.ended
            success = ended and self.grade(answer.text, problems[place].answer)
            sums[:, place] += (success, answer.usage.total, not ended)
            self.answered += 1
            if self.observe is not None:
                self.observe(answer.usage.total)
        return Outcomes(self.samples, *sums)


def _measurement(key: Key, outcomes: Outcomes) -> BudgetOutcomes:
    return BudgetOutcomes(*key, *outcomes.sums)


def _outcomes(measured: BudgetOutcomes, samples: int) -> tuple[Key, Outcomes]:
    sums = (measured.successes, measured.tokens, measured.cut)
    outcomes = Outcomes.of(samples, *sums)
    return (measured.steered, measured.arm, measured.first), outcomes


def budgets_journal(path: Path) -> Journal[BudgetOutcomes]:
    """The journal of measured budgets, whose header says what is measured."""
    return Journal(path, BudgetOutcomes, headed=True, remedy="delete the file to measure again")


def _changed(before: Mapping[str, object] | None, settings: Mapping[str, object]) -> str:
    """What differs between a journal's header and what is measured now, in words; empty for nothing.

    What an earlier version did not record is unknown, and no difference.
    """
    if not before:
        return "its first line says nothing of them"
    return "; ".join(differences(before, {key: value for key, value in settings.items() if key in before}))
