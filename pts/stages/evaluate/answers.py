"""Answers of an evaluation: requested, graded, written down as they are done, and reported."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pts.evaluation.items import Item, Key
from pts.problems import problem_digest
from pts.records import Problem
from pts.runs.directory import RunDirectory
from pts.runs.journal import Journal
from pts.seeds import derive_seed

if TYPE_CHECKING:
    from pts.decoding import Answer, Session
    from pts.decoding.strategies import Strategy
    from pts.graders import Grader

CHUNK = 1024
"""Questions that a strategy is given at once: many enough to keep a batch full."""
KEPT_EVERY = 0.25
"""Seconds after which finished answers are written, so that a kill loses little."""
DIGEST_LENGTH = 16
"""Characters of a problem's digest that an item keeps."""


@dataclass(frozen=True, slots=True)
class EvaluationProgress:
    """Answers done and to be done, this session's tokens, and the system that is under way.

    Before the first system `line` is None, and it is prompts that are read.
    """

    done: int
    total: int
    tokens: int
    line: str | None


Observe = Callable[[EvaluationProgress], None]


@dataclass(slots=True)
class Answering:
    """Keeps answers as they are done: in `items`, by key, and in the run's directory.

    `total` is how many there will be.
    """

    items: dict[Key, Item]
    directory: RunDirectory
    total: int
    observe: Observe | None = None
    done: int = 0
    tokens: int = 0

    def keep(self, items: Iterable[Item]) -> None:
        """Take all of these."""
        with _kept(self.directory) as keep:
            for item in items:
                self.items[item.key] = item
                keep(item)
                self._tell(item.line, item.ledger.total)

    def _tell(self, system: str, tokens: int) -> None:
        self.done += 1
        self.tokens += tokens
        if self.observe is not None:
            self.observe(EvaluationProgress(self.done, self.total, self.tokens, system))


def graded_answers(
    system: str,
    strategy: Strategy,
    wanted: Sequence[tuple[Problem, int]],
    session: Session,
    *,
    seed: int,
    grader: Grader,
    grader_name: str,
    variant: int = 0,
    shares: Mapping[str, float] | None = None,
) -> Iterator[Item]:
    """Each problem's answer with its seed (from 0), under a system's name, graded, as it is done.

    Questions are asked in chunks. `seed` is the evaluation's, `variant` the session's steering of all answers,
    `shares` are those of a random router.
    """
    from pts.decoding import Question

    for start in range(0, len(wanted), CHUNK):
        chunk = wanted[start : start + CHUNK]
        questions = [
            Question(
                problem.id,
                problem.query,
                # The same for every system: they are paired.
                seed=derive_seed(seed + k, "evaluate", problem.id),
                variant=variant,
            )
            for problem, k in chunk
        ]
        session.begin()
        for index, answer in strategy.answers(session, questions):
            yield _item(system, *chunk[index], answer, grader, grader_name, shares)


def _item(
    system: str,
    problem: Problem,
    k: int,
    answer: Answer,
    grader: Grader,
    grader_name: str,
    shares: Mapping[str, float] | None,
) -> Item:
    """An answer, graded: one that a limit cut has failed."""
    from pts.graders.readable import is_readable
    from pts.graders.undecided import undecided_by

    ended = answer.usage.ended
    undecided = undecided_by(grader)
    success = ended and grader(answer.answer, problem.answer)
    return Item(
        line=system,
        problem=problem.id,
        seed=k,
        digest=item_digest(problem),
        success=success,
        readable=is_readable(grader_name, answer.answer),
        answer=answer.answer,
        reference=problem.answer,
        ledger=answer.usage,
        route=answer.route,
        confidence=answer.confidence,
        router_shares=shares,
        undecided=undecided_by(grader) > undecided,
        thought=answer.thought,
    )


def item_digest(problem: Problem) -> str:
    """What an item keeps of its problem's digest."""
    return problem_digest(problem)[:DIGEST_LENGTH]


@contextmanager
def _kept(directory: RunDirectory) -> Iterator[Callable[[Item], None]]:
    """Write items to the shard every few seconds and, whatever happens, at the end."""
    journal = Journal(directory.shard, Item)
    waiting: list[Item] = []
    written = time.monotonic()

    def keep(item: Item) -> None:
        nonlocal written
        waiting.append(item)
        if time.monotonic() - written >= KEPT_EVERY:
            journal.append(*waiting)
            waiting.clear()
            written = time.monotonic()

    try:
        yield keep
    finally:
        if waiting:
            journal.append(*waiting)
