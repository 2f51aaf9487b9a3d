"""Runs the searches of many problems over one policy, several in flight so that its batch stays full."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pts.errors import PtsError
from pts.policies.protocol import Policy
from pts.records import Problem, ProblemResult, Rollout, RolloutRequest, TokenIds
from pts.search.config import Grade, Progress, SearchConfig
from pts.search.findings import Finding, select_findings
from pts.search.ledger import Ledger
from pts.search.searcher import Answers, ProblemSearch, Requests

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
    hears of every round. Each problem's findings depend on its own seed alone, not on what else is in flight
    (a spending limit aside).
    """
    ledger = Ledger(config.max_tokens, spent)
    source = iter(problems)
    flights: list[_Flight] = []
    while True:
        while len(flights) < IN_FLIGHT and (problem := next(source, None)) is not None:
            given = given_traces.get(problem.id, ()) if given_traces is not None else None
            flights.append(_Flight(ProblemSearch(problem, policy, grader, config, ledger, given)))
        if not flights:
            return
        oldest = flights[0].search
        _round([flight for flight in flights if flight.result is None], policy)
        if observe is not None:
            confirmed = sum(flight.search.confirmed for flight in flights)
            observe(Progress(ledger.spent, done, confirmed, oldest.phase, oldest.problem.id))
        landed = [flight.result for flight in flights if flight.result is not None]
        flights = [flight for flight in flights if flight.result is None]
        done += len(landed)
        yield from landed


class _Flight:
    """A search under way: its coroutine, what it waits for, and its result once it has one."""

    def __init__(self, search: ProblemSearch) -> None:
        self.search = search
        self.result: ProblemResult | None = None
        self.waiting: Requests = []
        self._steps: Generator[Requests, Answers, ProblemResult] = search.run()
        self.send(None)

    def send(self, answers: Answers | None) -> None:
        try:
            self.waiting = next(self._steps) if answers is None else self._steps.send(answers)
        except StopIteration as stop:
            self.result = stop.value


def _round(flights: Sequence[_Flight], policy: Policy) -> None:
    """Draws what all the flights wait for in one call, and hands each its own in the order it asked."""
    requests = [request for flight in flights for request in flight.waiting]
    answers: dict[RolloutRequest, list[Rollout]] = {request: [] for request in requests}
    for rollout in policy.rollouts(requests):
        answers[rollout.request].append(rollout)
    for request, rollouts in answers.items():
        drawn = sum(r.count for r in rollouts)
        if drawn != request.n:
            raise PtsError(
                f"the policy returned {drawn} rollouts for a request of {request.n}; "
                "over the rollouts of a request the counts must add up to its n."
            )
        # As they finish is no order to rely on: sorted, the same draws give the same search.
        rollouts.sort(key=lambda r: r.completion)
    for flight in flights:
        flight.send([answers[request] for request in flight.waiting])
