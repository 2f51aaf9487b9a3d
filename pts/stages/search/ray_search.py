"""A search on Ray: this process hands out the problems and writes the run, workers hold the engines."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from pts.errors import ModelError, PtsError, RunError, one_line
from pts.pivot_search.config import Progress
from pts.pivot_search.drive import MOST_IN_FLIGHT
from pts.records import Problem, ProblemResult
from pts.runs.rollout_journal import RolloutJournal
from pts.setting_names import current_naming
from pts.stages.search.engine import Searched, SearchTask
from pts.stages.search.plan import SearchPlan
from pts.stages.search.ray_cluster import CPUS_EACH, interruptible, joined, place
from pts.stages.search.ray_worker import Described, Drawn, SearchWorker, WorkerReport

logger = logging.getLogger(__name__)

DEATHS = 3
"""Deaths of a worker in a row, with nothing told in between, after which the search gives up."""
_GIVEN_AT_ONCE = 4
"""Problems that a worker is given when it has room."""
_POLL_SECONDS = 0.1


@dataclass(slots=True)
class _Worker:
    """A worker as this process sees it: its actor, the report under way, and its problems."""

    number: int
    actor: Any
    report: Any
    problems: dict[str, Problem] = field(default_factory=dict)
    described: Described | None = None
    progress: Progress | None = None
    deaths: int = 0


class SearchOnRay:
    """A search whose engines are Ray's actors. Findings are those of one process, whatever the workers.

    What a worker draws is written down here, as it comes. A worker that dies is replaced, and its problems go
    on from what was written. `resolved`, `device` and `sandbox` are those of all workers. Raises PtsError where
    the cluster cannot be used, or an engine cannot be opened.
    """

    def __init__(self, task: SearchTask, problems: int) -> None:
        inputs = task.inputs
        assert inputs.ray is not None
        if task.recorded.prompt_date is None:
            # One date for the prompts of all workers, where the template writes one.
            now = datetime.now().isoformat(timespec="seconds")
            task = replace(task, recorded=replace(task.recorded, prompt_date=now))
        self._task = task
        self._searched_tokens: Mapping[str, ProblemResult] = {}
        self._stack = ExitStack()
        with self._stack as stack:
            self._ray = stack.enter_context(joined(inputs.ray, inputs.workers))
            nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
            placed = place(nodes, inputs.workers, inputs.gpus_per_worker, inputs.device, problems)
            self._gpus = placed.gpus
            self._workers = [self._begin(number + 1) for number in range(placed.workers)]
            stack.callback(self._end_all)
            self._described = self._open()
            self._stack = stack.pop_all()
        self.resolved, self.device = self._described.resolved, self._described.device
        self.sandbox = self._described.sandbox
        if not inputs.verify:  # The workers' own logs stay with them.
            logger.warning("%s was not verified, as requested.", self.resolved.model_id)
        logger.info("%d workers on Ray at %s, with %g of a GPU each.", placed.workers, inputs.ray, placed.gpus)

    def __enter__(self) -> SearchOnRay:
        return self

    def __exit__(self, *_: object) -> None:
        """End the workers, and leave the cluster."""
        self._stack.close()

    def search(
        self, plan: SearchPlan, rollouts: RolloutJournal, observe: Callable[[Progress], None] | None = None
    ) -> Iterator[Searched]:
        """The results of what is to do, as they come from any worker."""
        self._searched_tokens = plan.searched_tokens
        waiting = deque(plan.todo)
        done, spent = plan.done, plan.spent
        self._hand_out(self._workers, waiting, rollouts)
        while any(worker.problems for worker in self._workers):
            for worker, report in self._reports(rollouts):
                for event in report.events:
                    if isinstance(event, Drawn):
                        rollouts.record(event.problem_id, event.phase, event.rollouts)
                        spent += sum(rollout.new_tokens for rollout in event.rollouts)
                        continue
                    del worker.problems[event.result.problem_id]
                    done += 1
                    yield event
                if report.wants:
                    self._hand_out([worker], waiting, rollouts)
            rollouts.flush()
            if observe is not None:
                observe(self._progress(done, spent, len(plan.todo) + plan.done))

    def _begin(self, number: int) -> _Worker:
        """A new actor, which opens its engine, wherever Ray finds a place for it."""
        remote = self._ray.remote(SearchWorker)
        options = {"num_cpus": CPUS_EACH, "num_gpus": self._gpus, "max_concurrency": 3}
        actor = remote.options(scheduling_strategy="SPREAD", **options).remote(self._task, current_naming())
        actor.run.remote()
        return _Worker(number, actor, actor.report.remote())

    def _open(self) -> Described:
        """Wait until all engines are open; what they are. Raises PtsError where they differ."""
        began = time.monotonic()
        while any(worker.described is None for worker in self._workers):
            for _ in self._reports(None):
                pass
            if time.monotonic() - began > 60:
                logger.info("waiting for %d workers.", sum(w.described is None for w in self._workers))
                began = time.monotonic()
        first = self._workers[0].described
        assert first is not None
        return first

    def _reports(self, rollouts: RolloutJournal | None) -> Iterator[tuple[_Worker, WorkerReport]]:
        """The reports that have come; a worker that died is replaced."""
        by_report = {worker.report: worker for worker in self._workers}
        with interruptible():
            ready, _ = self._ray.wait(list(by_report), num_returns=len(by_report), timeout=_POLL_SECONDS)
        for each in ready:
            worker = by_report[each]
            try:
                with interruptible():
                    report: WorkerReport = self._ray.get(each)
            except self._ray.exceptions.RayActorError as error:
                self._replace(worker, error, rollouts)
                continue
            except self._ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, PtsError):
                    raise error.cause from None
                raise
            worker.report = worker.actor.report.remote()
            self._take(worker, report)
            yield worker, report

    def _take(self, worker: _Worker, report: WorkerReport) -> None:
        """Note what a worker's engine is, and how far it is. Raises ModelError where it is another one."""
        worker.progress = report.progress
        if report.events:
            worker.deaths = 0
        if worker.described is None and report.described is not None:
            worker.described = report.described
            known = next(each.described for each in self._workers if each.described is not None)
            if known != report.described:
                raise ModelError(
                    f"two workers have different engines ({known.resolved} on {known.device}, and "
                    f"{report.described.resolved} on {report.described.device}): give all machines of "
                    "the cluster the same model and the same packages."
                )

    def _replace(self, worker: _Worker, error: Exception, rollouts: RolloutJournal | None) -> None:
        """Begin another actor in place of one that died, with its problems and what was drawn for them."""
        worker.deaths += 1
        cause = one_line(error)
        if worker.deaths >= DEATHS:
            raise RunError(
                f"worker {worker.number} died {worker.deaths} times in a row ({cause}): see Ray's logs on "
                "its machine. What was drawn is kept; the same command continues."
            )
        logger.warning(
            "worker %d died (%s): its %d problems go on in a new one.",
            worker.number,
            cause,
            len(worker.problems),
        )
        self._end(worker)
        new = self._begin(worker.number)
        worker.actor, worker.report, worker.described, worker.progress = new.actor, new.report, None, None
        if rollouts is not None:
            self._give(worker, list(worker.problems.values()), rollouts)

    def _hand_out(self, workers: Sequence[_Worker], waiting: deque[Problem], rollouts: RolloutJournal) -> None:
        """Give problems to workers with room, so that none has more than its share of what is left."""
        left = len(waiting) + sum(len(worker.problems) for worker in self._workers)
        share = min(MOST_IN_FLIGHT, -(-left // len(self._workers)))
        for worker in workers:
            count = min(_GIVEN_AT_ONCE, share - len(worker.problems), len(waiting))
            self._give(worker, [waiting.popleft() for _ in range(count)], rollouts)

    def _give(self, worker: _Worker, problems: Sequence[Problem], rollouts: RolloutJournal) -> None:
        worker.problems |= {problem.id: problem for problem in problems}
        if problems:
            tokens = self._searched_tokens
            given = [(each, rollouts.recorded(each.id), tokens.get(each.id)) for each in problems]
            worker.actor.give.remote(given)

    def _progress(self, done: int, spent: int, total: int) -> Progress:
        """How far all workers are together; where the first one is."""
        told = [worker.progress for worker in self._workers if worker.progress is not None]
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

    def _end(self, worker: _Worker) -> None:
        self._ray.kill(worker.actor, no_restart=True)

    def _end_all(self) -> None:
        for worker in self._workers:
            self._end(worker)
