"""What a worker on Ray does in a search: it searches the problems that it is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pts.pivot_search.config import Phase, Progress
from pts.pivot_search.ledger import Ledger
from pts.pivot_search.results import ProblemResult
from pts.pivot_search.values import GradedRollout
from pts.records import Problem, RolloutRequest, TokenIds
from pts.runs.rollout_journal import RecalledRollouts
from pts.runs.search_run import SearchResolved
from pts.stages.search.engine import Searched, SearchHere, SearchTask
from pts.stages.shared.ray_worker import Feed


@dataclass(frozen=True, slots=True)
class SearchFound:
    """What a worker's engine turned out to be."""

    resolved: SearchResolved
    device: str
    sandbox: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Given:
    """A problem to search, with a table of its recorded rollouts and a result of its tokens, or None."""

    problem: Problem
    recorded: Any
    tokens: ProblemResult | None


@dataclass(frozen=True, slots=True)
class Drawn:
    """All rollouts of one request, to be written down."""

    problem_id: str
    phase: Phase
    rollouts: Sequence[GradedRollout]


@dataclass(frozen=True, slots=True)
class Allowance:
    """The run's limit of tokens less what the others have generated, and how many share what is left."""

    limit: int
    sharers: int


class SearchEngine:
    """The engine of a worker. What it hears is its allowance, where the run has a limit of tokens."""

    def __init__(self, task: SearchTask) -> None:
        self._here = SearchHere(task)
        # Which of a machine's GPUs it is, is Ray's affair.
        device = self._here.device.partition(":")[0]
        self.found = SearchFound(self._here.resolved, device, self._here.sandbox)
        self.progress: Progress | None = None
        inputs = task.inputs
        self._ledger = Ledger(inputs.token_limit, budget=inputs.sampling().budget)

    def hear(self, told: Allowance) -> None:
        """Take a new limit."""
        self._ledger.limit, self._ledger.sharers = told.limit, told.sharers

    def work(self, jobs: Feed[Given], send: Callable[[Drawn | Searched], None]) -> None:
        """Search the problems; rollouts and results are sent as they come."""
        rollouts = SentRollouts(send)
        problems = _Problems(jobs, rollouts)
        for searched in self._here.searched(
            problems, rollouts, self._note, searched_tokens=problems.tokens, ledger=self._ledger
        ):
            jobs.landed()
            rollouts.recalled.pop(searched.result.problem_id, None)
            send(searched)

    def _note(self, progress: Progress) -> None:
        self.progress = progress


class SentRollouts:
    """A recorder whose journal is in another process: it sends what it records, and recalls what it got."""

    def __init__(self, send: Callable[[Drawn], None]) -> None:
        self.recalled: dict[str, RecalledRollouts] = {}
        self._send = send

    def recall(self, problem_id: str, request: RolloutRequest) -> list[GradedRollout] | None:
        """All rollouts that were recorded for the very same request, or None."""
        known = self.recalled.get(problem_id)
        return None if known is None else known.of(request)

    def record(self, problem_id: str, phase: Phase, rollouts: Sequence[GradedRollout]) -> None:
        """Send the rollouts of one request."""
        self._send(Drawn(problem_id, phase, tuple(rollouts)))

    def screened(self, problem_id: str, prompt: TokenIds) -> list[GradedRollout]:
        """All rollouts of a problem's screen that were recorded, in order."""
        known = self.recalled.get(problem_id)
        return [] if known is None else known.screened(prompt)

    def flush(self) -> None:
        """Nothing: what was recorded is on its way."""


class _Problems:
    """The problems of a feed, what comes with each put where the search looks for it."""

    def __init__(self, feed: Feed[Given], rollouts: SentRollouts) -> None:
        self.tokens: dict[str, ProblemResult] = {}
        self._feed, self._rollouts = feed, rollouts

    def __iter__(self) -> _Problems:
        return self

    def __next__(self) -> Problem:
        given = next(self._feed)
        problem = given.problem
        if given.recorded is not None:
            self._rollouts.recalled[problem.id] = RecalledRollouts(given.recorded)
        if given.tokens is not None:
            self.tokens[problem.id] = given.tokens
        return problem
