"""Runs the searches of many problems over one policy, several in flight so that its batch stays full."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pts.errors import PtsError
from pts.pivot_search.config import Grade, Progress, SearchConfig
from pts.pivot_search.findings import Finding, select_findings
from pts.pivot_search.ledger import Ledger
from pts.pivot_search.searcher import Answers, ProblemSearch, Requests
from pts.policies.protocol import Policy
from pts.records import Problem, ProblemResult, Rollout, RolloutRequest, TokenIds

IN_FLIGHT = 16
"""Problems searched at once: a kill loses at most these."""


@dataclass(frozen=True)
class SearchResult:
    """What the search of one problem gave: the whole record, and the findings by its candidates alone."""

    problem: ProblemResult
    findings: tuple[Finding, ...]


def find_pivotal_tokens(
    problem: Problem, policy: Policy, grader: Grade, config: SearchConfig | None = None
) -> SearchResult:
    """Searches one problem with any policy; false discoveries are controlled over its own candidates.

    Over many problems use `search_problems` and `select_findings`, which control them over the run.
    """
    config = config or SearchConfig()
    (result,) = search_problems([problem], policy, grader, config)
    return SearchResult(result, tuple(select_findings([result], config.fdr)))


def search_problems(
    problems: Iterable[Problem],
    policy: Policy,
    grader: Grade,
    config: SearchConfig,
    *,
    given_traces: Mapping[str, Sequence[TokenIds]] | None = None,
    done: int = 0,
    spent: int = 0,
    observe: Callable[[Progress], None] | None = None,
) -> Iterator[ProblemResult]:
    """Results as they complete, so that a caller who writes them down loses only what is in flight.

    `given_traces` are completions to search instead of fresh draws, by problem id; `done` and `spent` are the
    problems and tokens that the run has behind it, the latter counted against `config.max_tokens`; `observe`
    hears of every look. Each problem's findings depend on its own seed alone, not on what else is in flight
    (a spending limit aside).
    """
    ledger = Ledger(config.max_tokens, spent)
    source = iter(problems)
    requests = _FlightRequests()
    drawn = policy.rollouts(requests)
    flights: list[_Flight] = []
    confirmed = 0
    while True:
        while len(flights) < IN_FLIGHT and (problem := next(source, None)) is not None:
            given = given_traces.get(problem.id, ()) if given_traces is not None else None
            flights.append(_Flight(ProblemSearch(problem, policy, grader, config, ledger, given)))
            requests.add(flights[-1])
        landed = next((flight for flight in flights if flight.result is not None), None)
        if landed is None:
            if not flights:
                return
            flight = requests.next_complete(drawn)
            flight.answer()
            requests.add(flight)
            if observe is not None:
                oldest, confirming = flights[0].search, sum(f.search.confirmed for f in flights)
                observe(Progress(ledger.spent, done, confirmed + confirming, oldest.phase, oldest.problem.id))
        else:
            flights.remove(landed)
            done += 1
            confirmed += landed.search.confirmed
            assert landed.result is not None
            yield landed.result


class _Flight:
    """A search under way: its coroutine, the look that it waits for, and its result once it has one."""

    def __init__(self, search: ProblemSearch) -> None:
        self.search = search
        self.result: ProblemResult | None = None
        self.look: dict[str, tuple[RolloutRequest, list[Rollout]]] = {}
        self._missing = 0
        self._steps: Generator[Requests, Answers, ProblemResult] = search.run()
        self._go(None)

    def take(self, rollout: Rollout) -> bool:
        """Add a rollout to the look; whether that completes it. Raises PtsError for one too many."""
        request, drawn = self.look[rollout.request.key]
        drawn.append(rollout)
        self._missing -= rollout.count
        _require_count(request, drawn, complete=False)
        return self._missing == 0

    def answer(self) -> None:
        """Hand the look to the search, each request's rollouts in the order in which it asked."""
        for _, drawn in self.look.values():
            # As they finish is no order to rely on: sorted, the same draws give the same search.
            drawn.sort(key=lambda rollout: rollout.completion)
        self._go([drawn for _, drawn in self.look.values()])

    def _go(self, answers: Answers | None) -> None:
        """On to the search's next look that asks for anything, or to its end."""
        self.look = {}
        while self.result is None and not self.look:
            try:
                asked = next(self._steps) if answers is None else self._steps.send(answers)
            except StopIteration as stop:
                self.result = stop.value
                return
            self.look = {request.key: (request, []) for request in asked}
            self._missing = sum(request.n for request in asked)
            answers = []


class _FlightRequests:
    """The requests of all flights, as a source: once a look is complete it has those of the next."""

    def __init__(self) -> None:
        self._queue: deque[RolloutRequest] = deque()
        self._owners: dict[str, _Flight] = {}

    def take(self, n: int) -> list[RolloutRequest]:
        """At most `n` requests; those after a look are there once all its rollouts were delivered."""
        return [self._queue.popleft() for _ in range(min(n, len(self._queue)))]

    def add(self, flight: _Flight) -> None:
        """Queue the look that a flight waits for. Raises PtsError where a request of its name is under way."""
        for request, _ in flight.look.values():
            if request.key in self._owners:
                raise PtsError(f"two requests are named {request.key!r}: give every problem an id of its own.")
            self._owners[request.key] = flight
            self._queue.append(request)

    def next_complete(self, drawn: Iterator[Rollout]) -> _Flight:
        """The flight whose look is complete next. Raises PtsError where the policy gives too few rollouts."""
        for rollout in drawn:
            flight = self._owners[rollout.request.key]
            if flight.take(rollout):
                for key in flight.look:
                    del self._owners[key]
                return flight
        for key, flight in self._owners.items():
            _require_count(*flight.look[key], complete=True)
        raise PtsError("the policy stopped before its source had no more requests.")


def _require_count(request: RolloutRequest, drawn: Sequence[Rollout], *, complete: bool) -> None:
    """Raise PtsError where a request's rollouts are more than it asked for, or, once complete, fewer."""
    count = sum(rollout.count for rollout in drawn)
    if count > request.n or (complete and count < request.n):
        raise PtsError(
            f"the policy returned {count} rollouts for a request of {request.n}; "
            "over the rollouts of a request the counts must add up to its n."
        )
