"""A search that was stopped goes on from what was recorded, to the same result, and draws nothing twice."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from shapes import ChainShape, chain

from pts.pivot_search import SearchConfig, search_problems
from pts.pivot_search.config import Phase
from pts.pivot_search.results import ProblemResult
from pts.pivot_search.values import GradedRollout
from pts.policies.source import RolloutRequests
from pts.policies.tabular import TabularPolicy
from pts.records import Problem, Rollout, RolloutRequest

PROBLEMS = [Problem(f"p{i}", "q", "a") for i in range(3)]


class Killed(Exception):
    """What stands for a kill."""


class Counted(TabularPolicy):
    """Draws request by request, counts how often each was drawn, and is killed after some."""

    def __init__(self, root, dies_after: int | None = None) -> None:
        super().__init__(root)
        self.drawn: Counter[str] = Counter()
        self.dies_after = dies_after

    def rollouts(self, requests: RolloutRequests) -> Iterator[Rollout]:
        while taken := requests.take(1):
            for request in taken:
                if self.drawn.total() == self.dies_after:
                    raise Killed
                self.drawn[request.key] += 1
                yield from self._request(request)


@dataclass
class InMemory:
    """A recorder that forgets nothing."""

    kept: dict[tuple[str, RolloutRequest], list[GradedRollout]] = field(default_factory=dict)
    phases: set[Phase] = field(default_factory=set)

    def recall(self, problem_id: str, request: RolloutRequest) -> list[GradedRollout] | None:
        return self.kept.get((problem_id, request))

    def record(self, problem_id: str, phase: Phase, rollouts: Sequence[GradedRollout]) -> None:
        assert (problem_id, rollouts[0].request) not in self.kept
        self.kept[problem_id, rollouts[0].request] = list(rollouts)
        self.phases.add(phase)

    def flush(self) -> None: ...


def tree(seed: int = 3):
    rng = np.random.default_rng(seed)
    while True:
        policy = TabularPolicy(chain(ChainShape(length=60), rng))
        if 0.3 < policy.value(()) < 0.7:
            return policy.root


ROOT = tree()


def search(policy, recorder, config=None, **more) -> list[ProblemResult]:
    return sorted(
        search_problems(PROBLEMS, policy, policy.grade, config or SearchConfig(), recorder=recorder, **more),
        key=lambda result: result.problem_id,
    )


def test_stopped_after_any_number_of_requests_it_ends_the_same_and_draws_no_look_twice() -> None:
    whole = Counted(ROOT)
    expected = search(whole, InMemory())
    assert whole.drawn.total() > 40
    # Two in three of the numbers: the phases are all much longer.
    for stop in (number for number in range(whole.drawn.total()) if number % 3):
        recorder, first = InMemory(), Counted(ROOT, dies_after=stop)
        with pytest.raises(Killed):
            search(first, recorder)
        second = Counted(ROOT)
        assert search(second, recorder) == expected
        assert first.drawn + second.drawn == whole.drawn


def test_killed_again_and_again_it_still_gets_there() -> None:
    expected = search(Counted(ROOT), InMemory())
    recorder, drawn = InMemory(), Counter()
    for _ in range(1000):
        policy = Counted(ROOT, dies_after=9)
        try:
            results = search(policy, recorder)
        except Killed:
            drawn += policy.drawn
            continue
        break
    assert results == expected
    assert max((drawn + policy.drawn).values()) == 1
    assert recorder.phases == {"range", "traces", "screen", "confirm"}


def test_a_lower_threshold_draws_only_what_was_not_drawn() -> None:
    recorder = InMemory()
    search(Counted(ROOT), recorder, SearchConfig(threshold=0.3))
    again, anew = Counted(ROOT), Counted(ROOT)
    lower = SearchConfig(threshold=0.2)
    assert search(again, recorder, lower) == search(anew, InMemory(), lower)
    assert again.drawn.total() < anew.drawn.total()
    assert not any("/range/" in key or "/traces/" in key for key in again.drawn)


def test_more_traces_draw_no_earlier_trace_again() -> None:
    recorder = InMemory()
    search(Counted(ROOT), recorder, SearchConfig(traces=1))
    again, anew = Counted(ROOT), Counted(ROOT)
    more = SearchConfig(traces=2)
    assert search(again, recorder, more) == search(anew, InMemory(), more)
    assert {key for key in again.drawn if "/traces/" in key} == {f"{p.id}/traces/1" for p in PROBLEMS}


def test_what_is_recalled_is_not_spent_again() -> None:
    recorder, policy = InMemory(), Counted(ROOT)
    results = search(policy, recorder)
    paid = sum(result.tokens_generated for result in results)
    seen = []
    again = search(Counted(ROOT, dies_after=0), recorder, observe=seen.append, spent=paid)
    assert again == results
    assert seen == []
    # With nothing left to spend, what is recorded is still free.
    limited = SearchConfig(max_tokens=paid)
    assert search(Counted(ROOT, dies_after=0), recorder, limited, spent=paid) == results


def test_progress_hears_of_every_rollout() -> None:
    seen = []
    results = search(Counted(ROOT), None, observe=seen.append)
    completions = sum(sum(c.drawn for c in result.completions.values()) for result in results)
    assert len(seen) > completions / 10  # Equal completions come as one rollout.
    tokens = [progress.tokens_generated for progress in seen]
    assert tokens == sorted(tokens)
    assert tokens[-1] == sum(result.tokens_generated for result in results)
    assert {progress.in_flight for progress in seen} <= {1, 2, 3}
    assert {progress.problems for progress in seen} == {3}
    assert seen[0].tokens_generated == 0  # Told before the first rollout, which may be long in coming.
    assert all(progress.tokens_in_flight <= progress.tokens_generated for progress in seen)


def test_a_search_that_ends_early_leaves_the_recorder_whole_requests_only() -> None:
    recorder = InMemory()
    policy = Counted(ROOT)
    results = search_problems(PROBLEMS, policy, policy.grade, SearchConfig(), recorder=recorder)
    next(results)
    assert all(sum(r.count for r in rollouts) == request.n for (_, request), rollouts in recorder.kept.items())
    assert recorder.kept
