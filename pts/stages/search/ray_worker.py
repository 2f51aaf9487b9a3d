"""A worker of a search on Ray: an actor that holds an engine and searches the problems that it is given."""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pts.errors import ModelError
from pts.pivot_search.config import Phase, Progress
from pts.pivot_search.values import GradedRollout
from pts.records import Problem, ProblemResult, RolloutRequest, TokenIds
from pts.runs.rollout_journal import RecalledRollouts
from pts.runs.search_run import SearchResolved
from pts.setting_names import Naming, in_python, named_as
from pts.stages.search.engine import Searched, SearchHere, SearchTask

REPORT_SECONDS = 0.5
"""How long a report waits for something to say."""


@dataclass(frozen=True, slots=True)
class Described:
    """What a worker's engine turned out to be."""

    resolved: SearchResolved
    device: str
    sandbox: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Drawn:
    """All rollouts of one request, to be written down."""

    problem_id: str
    phase: Phase
    rollouts: Sequence[GradedRollout]


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """What happened in a worker since its last report: rollouts and results in the order in which they came.

    `described` is there once the engine is open, and `wants` says that it has room for another problem.
    """

    events: tuple[Drawn | Searched, ...]
    described: Described | None
    progress: Progress | None
    wants: bool


class SearchWorker:
    """The actor. `run` opens the engine and searches; `give` and `report` are called while it does."""

    def __init__(self, task: SearchTask, naming: Naming = in_python) -> None:
        self._task = task
        self._naming = naming
        self._rollouts = SentRollouts()
        self._feed = Feed()
        self._searched_tokens: dict[str, ProblemResult] = {}
        self._described: Described | None = None
        self._progress: Progress | None = None
        self._failure: Exception | None = None

    def run(self) -> None:
        """Search what is given, until the actor is ended. The next report raises what failed."""
        try:
            with named_as(self._naming):
                self._search()
        except Exception as error:
            self._failure = error

    def give(self, problems: Sequence[tuple[Problem, Any, ProblemResult | None]]) -> None:
        """Add problems, each with a table of its recorded rollouts and a result of its tokens, or None."""
        for problem, recorded, tokens in problems:
            if recorded is not None:
                self._rollouts.recalled[problem.id] = RecalledRollouts(recorded)
            if tokens is not None:
                self._searched_tokens[problem.id] = tokens
            self._feed.add(problem)

    def report(self) -> WorkerReport:
        """What happened since the last report; it waits for half a second where nothing did."""
        events = self._rollouts.taken(REPORT_SECONDS)
        if self._failure is not None:
            raise self._failure
        return WorkerReport(events, self._described, self._progress, self._feed.wants)

    def _search(self) -> None:
        engine = SearchHere(self._task)
        _require_gpu(engine.device)
        # Which of a machine's GPUs it is, is Ray's affair.
        device = engine.device.partition(":")[0]
        self._described = Described(engine.resolved, device, engine.sandbox)
        for searched in engine.searched(
            self._feed, self._rollouts, self._hear, searched_tokens=self._searched_tokens
        ):
            self._feed.landed()
            self._rollouts.send(searched)

    def _hear(self, progress: Progress) -> None:
        self._progress = progress


class SentRollouts:
    """A recorder whose journal is in another process: it sends what it records, and recalls what it got."""

    def __init__(self) -> None:
        self.recalled: dict[str, RecalledRollouts] = {}
        self._events: queue.SimpleQueue[Drawn | Searched] = queue.SimpleQueue()

    def recall(self, problem_id: str, request: RolloutRequest) -> list[GradedRollout] | None:
        """All rollouts that were recorded for the very same request, or None."""
        known = self.recalled.get(problem_id)
        return None if known is None else known.of(request)

    def record(self, problem_id: str, phase: Phase, rollouts: Sequence[GradedRollout]) -> None:
        """Send the rollouts of one request."""
        self._events.put(Drawn(problem_id, phase, tuple(rollouts)))

    def screened(self, problem_id: str, prompt: TokenIds) -> list[GradedRollout]:
        """All rollouts of a problem's screen that were recorded, in order."""
        known = self.recalled.get(problem_id)
        return [] if known is None else known.screened(prompt)

    def flush(self) -> None:
        """Nothing: what was recorded is on its way."""

    def send(self, searched: Searched) -> None:
        """Send a result, after all its rollouts."""
        self.recalled.pop(searched.result.problem_id, None)
        self._events.put(searched)

    def taken(self, seconds: float) -> tuple[Drawn | Searched, ...]:
        """All that waits to be sent, the first of it within so many seconds."""
        try:
            events = [self._events.get(timeout=seconds)]
        except queue.Empty:
            return ()
        while not self._events.empty():
            events.append(self._events.get())
        return tuple(events)


class Feed:
    """The problems of a worker, as they are given: it seems at its end while others are under way.

    A search asks again whenever it has room, so that a problem which comes later is taken then. Where nothing
    is under way, it waits.
    """

    def __init__(self) -> None:
        self.wants = False
        self._queue: queue.SimpleQueue[Problem] = queue.SimpleQueue()
        self._under_way = 0
        self._lock = threading.Lock()

    def __iter__(self) -> Feed:
        return self

    def __next__(self) -> Problem:
        with self._lock:
            self.wants, waits = self._queue.empty(), self._under_way == 0
        try:
            problem = self._queue.get(block=waits)
        except queue.Empty:
            raise StopIteration from None
        self._under_way += 1
        return problem

    def add(self, problem: Problem) -> None:
        """Let the search have another problem."""
        with self._lock:
            self._queue.put(problem)
            self.wants = False

    def landed(self) -> None:
        """Hear that a problem's search has ended."""
        self._under_way -= 1


def _require_gpu(device: str) -> None:
    """Raise ModelError where Ray gave a GPU that the engine does not use."""
    import ray

    if ray.get_gpu_ids() and not device.startswith("cuda"):
        raise ModelError(
            f"the worker on {socket.gethostname()} was given a GPU and computes on {device}: install a torch "
            "for its GPU there, or give its workers none."
        )
