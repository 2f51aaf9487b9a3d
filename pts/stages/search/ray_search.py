"""A search on Ray: this process hands out the problems and writes the run, workers hold the engines."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from pts.pivot_search.config import Progress
from pts.pivot_search.drive import MOST_IN_FLIGHT
from pts.pivot_search.results import ProblemResult
from pts.records import Problem
from pts.runs.rollout_journal import RolloutJournal
from pts.stages.search.engine import Searched, SearchTask
from pts.stages.search.plan import SearchPlan
from pts.stages.search.ray_worker import Allowance, Drawn, Given, SearchEngine, SearchFound
from pts.stages.shared.ray_pool import Pool, PoolWorker, dated

_GIVEN_AT_ONCE = 4
"""Problems that a worker is given when it has room."""


class SearchOnRay:
    """A search whose engines are Ray's actors. Findings are those of one process, whatever the workers.

    What a worker draws is written down here, as it comes. A worker that dies is replaced, and its problems go
    on from what was written. `resolved`, `device` and `sandbox` are those of all workers. A limit of tokens
    holds for what all have told of: each hears what it leaves. Raises PtsError where the cluster cannot be
    used, or an engine cannot be opened.
    """

    def __init__(self, task: SearchTask, problems: int) -> None:
        inputs = task.inputs
        task = replace(task, recorded=dated(task.recorded))
        self._max_tokens = inputs.token_limit
        self._allowed: dict[object, Allowance] = {}
        self._pool: Pool[Problem] = Pool(inputs, partial(SearchEngine, task), inputs.device, problems)
        found = self._pool.found
        assert isinstance(found, SearchFound)
        self.resolved, self.device, self.sandbox = found.resolved, found.device, found.sandbox

    def __enter__(self) -> SearchOnRay:
        return self

    def __exit__(self, *_: object) -> None:
        """End the workers, and leave the cluster."""
        self._pool.close()

    def search(
        self, plan: SearchPlan, rollouts: RolloutJournal, observe: Callable[[Progress], None] | None = None
    ) -> Iterator[Searched]:
        """The results of what is to do, as they come from any worker."""
        pool = self._pool
        pool.packed = partial(_given, rollouts, plan.searched_tokens)
        waiting = deque(plan.todo)
        done, spent = plan.done, plan.spent
        drawn: Counter[object] = Counter()
        self._allow(spent, drawn)
        self._hand_out(pool.open_workers, waiting)
        while pool.busy or waiting:
            for worker, report in pool.reports():
                for event in report.events:
                    if isinstance(event, Drawn):
                        rollouts.record(event.problem_id, event.phase, event.rollouts)
                        tokens = sum(rollout.new_tokens for rollout in event.rollouts)
                        spent += tokens
                        drawn[worker.actor] += tokens
                        continue
                    del worker.jobs[event.result.problem_id]
                    done += 1
                    yield event
                # A worker that died left some: they are the oldest.
                waiting.extendleft(problem for _, problem in pool.returned())
                if report.wants:
                    self._allow(spent, drawn)
                    self._hand_out([worker], waiting)
            self._allow(spent, drawn)
            rollouts.flush()
            if observe is not None:
                observe(self._progress(done, spent, len(plan.todo) + plan.done))

    def _allow(self, spent: int, drawn: Mapping[object, int]) -> None:
        """Let each worker hear what the others leave it; `drawn` has the tokens that each has told of."""
        if self._max_tokens is None:
            return
        every = self._pool.open_workers
        for worker in every:
            others = spent - drawn[worker.actor]
            allowance = Allowance(self._max_tokens - others, len(every))
            if self._allowed.get(worker.actor) != allowance:
                self._allowed[worker.actor] = allowance
                self._pool.give(worker, {}, allowance)

    def _hand_out(self, workers: Sequence[PoolWorker[Problem]], waiting: deque[Problem]) -> None:
        """Give problems to workers with room, so that none has more than its share of what is left."""
        every = self._pool.open_workers
        left = len(waiting) + sum(len(worker.jobs) for worker in every)
        share = min(MOST_IN_FLIGHT, -(-left // len(every)))
        for worker in workers:
            count = min(_GIVEN_AT_ONCE, share - len(worker.jobs), len(waiting))
            problems = [waiting.popleft() for _ in range(count)]
            self._pool.give(worker, {problem.id: problem for problem in problems})

    def _progress(self, done: int, spent: int, total: int) -> Progress:
        """How far all workers are together; where the first one is."""
        told: list[Progress] = [worker.progress for worker in self._pool.workers if worker.progress is not None]
        first = told[0] if told else None
        return Progress(
            tokens_generated=spent,
            problems_done=done,
            candidates_confirmed=sum(each.candidates_confirmed for each in told),
            phase="range" if first is None else first.phase,
            problem_id="the first problems" if first is None else first.problem_id,
            in_flight=sum(each.in_flight for each in told),
            tokens_in_flight=sum(each.tokens_in_flight for each in told),
            problems=total,
        )


def _given(rollouts: RolloutJournal, tokens: Mapping[str, ProblemResult], problem: Problem) -> Given:
    """What a worker gets of a problem: all that is recorded of it so far, too."""
    return Given(problem, rollouts.recorded(problem.id), tokens.get(problem.id))
