"""Runs the searches of many problems over one policy, several in flight so that its batch stays full."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field

from pts.errors import PtsError
from pts.pivot_search.config import Grade, Progress, SearchConfig
from pts.pivot_search.findings import Finding, select_findings
from pts.pivot_search.grades import CompletionGrades
from pts.pivot_search.ledger import Ledger
from pts.pivot_search.problem_rollouts import Answers, Requests
from pts.pivot_search.recorder import RolloutRecorder
from pts.pivot_search.results import ProblemResult
from pts.pivot_search.searcher import ProblemSearch, SearchedTokens
from pts.pivot_search.values import GradedRollout
from pts.policies.protocol import Policy
from pts.records import Problem, Rollout, RolloutRequest, TokenIds

IN_FLIGHT, MOST_IN_FLIGHT = 16, 64
"""Problems searched at once: at least, and at most where the policy's batch has room for more."""
ROWS_EACH = 16
"""Rows of a batch for each problem in flight: a look asks for few completions, and some of them are alike."""


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
    searched_tokens: Mapping[str, ProblemResult] | None = None,
    done: int = 0,
    spent: int = 0,
    ledger: Ledger | None = None,
    recorder: RolloutRecorder | None = None,
    observe: Callable[[Progress], None] | None = None,
) -> Iterator[ProblemResult]:
    """Results as they complete, so that a caller who writes them down loses only what is in flight.

    `given_traces` are completions to search instead of fresh draws, by problem id. `searched_tokens` are
    results of searches of tokens, whose rollouts are recorded: sentences are added to them. `done` and `spent`
    are the problems and tokens of the run so far, the latter counted against `config.max_tokens`, unless
    a `ledger` is given, whose limit may change on the way. `recorder`
    stores every graded rollout. A request whose rollouts it has already is not drawn again. `observe` is called
    after every rollout.
    Each problem's findings depend on its own seed alone, not on what else is in flight (a spending limit
    aside).
    """
    ledger = ledger or Ledger(config.max_tokens, spent, config.sampling.budget)
    source = iter(problems)
    requests = _FlightRequests(recorder)
    drawn = policy.rollouts(requests)
    flights: list[_Flight] = []
    confirmed, begun = 0, False
    total = done + len(problems) if isinstance(problems, Sized) else None

    def tell() -> None:
        if observe is not None and flights:
            oldest, confirming = flights[0].search, sum(f.search.confirmed for f in flights)
            observe(
                Progress(
                    ledger.spent,
                    done,
                    confirmed + confirming,
                    oldest.rollouts.phase,
                    oldest.problem.id,
                    len(flights),
                    sum(flight.tokens for flight in flights),
                    total,
                )
            )

    while True:
        while (
            len(flights) < requests.wanted_flights
            and ledger.begins_another(flights)
            and (problem := next(source, None)) is not None
        ):
            given = given_traces.get(problem.id, ()) if given_traces is not None else None
            grades = CompletionGrades(policy, grader, problem.answer, config.sampling.stop)
            earlier = (searched_tokens or {}).get(problem.id)
            tokens = None
            if earlier is not None and recorder is not None:
                tokens = SearchedTokens(earlier, recorder.screened(problem.id, earlier.prompt))
            search = ProblemSearch(problem, policy, grades, config, given, tokens)
            flight = _Flight(search, grades, ledger, recorder, flights)
            flights.append(flight)
            flight.begin()
            requests.add(flight)
        landed = next((flight for flight in flights if flight.result is not None), None)
        if landed is None:
            if not flights:
                return
            if not begun:
                tell()  # The first rollout may be long in coming.
                begun = True
            flight = requests.next_complete(drawn, tell)
            flight.answer()
            requests.add(flight)
        else:
            flights.remove(landed)
            done += 1
            if landed.result is not None and landed.result.status != "spent":
                ledger.ended += 1
                ledger.ended_tokens += landed.tokens
            confirmed += landed.search.confirmed
            assert landed.result is not None
            yield landed.result


@dataclass(slots=True)
class _Asked:
    """A request of a look: its rollouts as they come, and with their grades once all are there."""

    request: RolloutRequest
    graded: list[GradedRollout] | None
    drawn: list[Rollout] = field(default_factory=list)


class _Flight:
    """A search under way: its coroutine, the look that it waits for, and its result once it has one."""

    def __init__(
        self,
        search: ProblemSearch,
        grades: CompletionGrades,
        ledger: Ledger,
        recorder: RolloutRecorder | None,
        flights: Sequence[_Flight],
    ) -> None:
        self.search = search
        self.result: ProblemResult | None = None
        self.look: dict[str, _Asked] = {}
        self.tokens = 0
        """Generated tokens of the problem so far, those that were recorded too."""
        self._missing = 0
        self._grades = grades
        self._ledger = ledger
        self._recorder = recorder
        self._flights = flights
        """All that are under way, this one too."""
        self._steps: Generator[Requests, Answers, ProblemResult] = search.run()

    def begin(self) -> None:
        """On to the search's first look."""
        self._go(None)

    @property
    def promised(self) -> int:
        """Expected tokens of the look that is under way, and of confirming what the search has advanced."""
        confirming = self.search.tokens_to_confirm()
        if self.search.rollouts.phase == "confirm":
            return confirming
        return confirming + sum(self.search.rollouts.expected_tokens(request) for request in self.missing)

    @property
    def missing(self) -> list[RolloutRequest]:
        """The requests of the look that are not answered yet."""
        return [asked.request for asked in self.look.values() if asked.graded is None]

    def take(self, rollout: Rollout) -> bool:
        """Add a rollout to the look; whether that completes it. Raises PtsError for one too many."""
        asked = self.look[rollout.request.key]
        asked.drawn.append(rollout)
        tokens = rollout.count * (len(rollout.completion) - len(rollout.request.prefix))
        self._ledger.spent += tokens
        self.tokens += tokens
        count = _require_count(asked.request, asked.drawn, complete=False)
        if count < asked.request.n:
            return False
        asked.graded, asked.drawn = self._grades.graded(asked.drawn), []
        # A given trace costs no tokens: it is not recorded, and is requested again on resume.
        if self._recorder is not None and any(each.new_tokens for each in asked.graded):
            self._recorder.record(self.search.problem.id, self.search.rollouts.phase, asked.graded)
        self._missing -= 1
        return self._missing == 0

    def answer(self) -> None:
        """Hand the look to the search, each request's rollouts in the order in which it asked."""
        self._go([asked.graded or [] for asked in self.look.values()])

    def _go(self, answers: Answers) -> None:
        """On to the search's next look of which anything must be drawn, or to its end."""
        begun = answers is not None
        while True:
            self.search.tokens_left = self._left
            try:
                requests = self._steps.send(answers) if begun else next(self._steps)
            except StopIteration as stop:
                self.result, self.look = stop.value, {}
                return
            begun = True
            self.look = {request.key: _Asked(request, self._recall(request)) for request in requests}
            self._missing = len(self.missing)
            if not self._missing:
                answers = [asked.graded or [] for asked in self.look.values()]
            elif self._ledger.exhausted or self._would_take_from_confirmations():
                answers = None
            else:
                return

    def _would_take_from_confirmations(self) -> bool:
        """Whether a look that confirms nothing would spend what confirming advanced tokens will take."""
        if self.search.rollouts.phase == "confirm" or self._left >= self.promised:
            return False
        return any(flight.search.tokens_to_confirm() for flight in self._flights)

    @property
    def _left(self) -> float:
        """Tokens that the limit leaves for this search, after what the others were promised."""
        return self._ledger.left(flight for flight in self._flights if flight is not self)

    def _recall(self, request: RolloutRequest) -> list[GradedRollout] | None:
        if self._recorder is None:
            return None
        recorded = self._recorder.recall(self.search.problem.id, request)
        self.tokens += sum(rollout.new_tokens for rollout in recorded or ())
        return recorded


class _FlightRequests:
    """The requests of all flights, as a source: once a look is complete it has those of the next."""

    def __init__(self, recorder: RolloutRecorder | None) -> None:
        self._recorder = recorder
        self._queue: deque[RolloutRequest] = deque()
        self._owners: dict[str, _Flight] = {}
        self._largest = 0

    @property
    def wanted_flights(self) -> int:
        """Problems to have in flight, by the most requests that the policy had room for at once."""
        return max(IN_FLIGHT, min(MOST_IN_FLIGHT, self._largest // ROWS_EACH))

    def take(self, n: int) -> list[RolloutRequest]:
        """At most `n` requests; those after a look are there once all its rollouts were delivered."""
        self._largest = max(self._largest, n)
        if self._recorder is not None:
            self._recorder.flush()
        return [self._queue.popleft() for _ in range(min(n, len(self._queue)))]

    def add(self, flight: _Flight) -> None:
        """Queue what a flight waits for. Raises PtsError where a request of its name is under way."""
        for request in flight.missing:
            if request.key in self._owners:
                raise PtsError(f"two requests are named {request.key!r}: give every problem an id of its own.")
            self._owners[request.key] = flight
            self._queue.append(request)

    def next_complete(self, drawn: Iterator[Rollout], tell: Callable[[], None]) -> _Flight:
        """The flight whose look is complete next; `tell` is called at each rollout.

        Raises PtsError where the policy gives too few rollouts.
        """
        for rollout in drawn:
            key = rollout.request.key
            flight = self._owners[key]
            complete = flight.take(rollout)
            if flight.look[key].graded is not None:
                del self._owners[key]
            tell()
            if complete:
                return flight
        for key, flight in self._owners.items():
            asked = flight.look[key]
            _require_count(asked.request, asked.drawn, complete=True)
        raise PtsError("the policy stopped before its source had no more requests.")


def _require_count(request: RolloutRequest, drawn: Sequence[Rollout], *, complete: bool) -> int:
    """How many were drawn. Raises PtsError for more than was asked for, or, once complete, fewer."""
    count = sum(rollout.count for rollout in drawn)
    if count > request.n or (complete and count < request.n):
        raise PtsError(
            f"the policy returned {count} rollouts for a request of {request.n}; "
            "over the rollouts of a request the counts must add up to its n."
        )
    return count
