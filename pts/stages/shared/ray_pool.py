"""Workers on Ray, each with an engine: begun, checked against each other, and replaced where one dies."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Generic, TypeVar

from pts.errors import ModelError, PtsError, RunError, one_line
from pts.runs.codec import to_json
from pts.runs.manifest import differences
from pts.setting_names import current_naming
from pts.stages.shared.ray_cluster import CPUS_EACH, interruptible, joined, place
from pts.stages.shared.ray_inputs import RayInputs
from pts.stages.shared.ray_worker import EngineWorker, Found, OpenEngine, WorkerReport
from pts.stages.shared.recorded import Recorded

logger = logging.getLogger(__name__)

Job = TypeVar("Job")

DEATHS = 3
"""Deaths of a worker in a row, with nothing told in between, after which the stage gives up."""
AHEAD = 2
"""Jobs that a worker has which does one after the other, so that it need not wait for the next."""
_POLL_SECONDS = 0.1


@dataclass(slots=True)
class PoolWorker(Generic[Job]):
    """A worker as this process sees it: its actor, the report under way, and its jobs by name."""

    number: int
    actor: Any
    report: Any
    jobs: dict[str, Job] = field(default_factory=dict)
    found: Found | None = None
    progress: Any = None
    deaths: int = 0


class Pool(Generic[Job]):
    """Workers on Ray that do jobs. A worker that dies is replaced, and its jobs go to the new one.

    `opens` opens a worker's engine there, `device` is the one that was named, and there are at most `most`
    workers. `packed` makes what is sent of a job, at the time: of one whose worker died, what is left to do.
    `found` is what all engines turned out to be. Raises PtsError where the cluster cannot be used, an engine
    cannot be opened, or two differ.
    """

    def __init__(
        self,
        settings: RayInputs,
        opens: OpenEngine,
        device: str,
        most: int,
        packed: Callable[[Job], Any] = lambda job: job,
    ) -> None:
        assert settings.ray is not None
        self.packed = packed
        self._opens = opens
        self._said: set[str] = set()
        self._stack = ExitStack()
        with self._stack as stack:
            self._ray = stack.enter_context(joined(settings.ray, settings.workers))
            nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
            placed = place(nodes, settings.workers, settings.gpus_per_worker, device, most)
            self._gpus = placed.gpus
            self.workers: list[PoolWorker[Job]] = [self._begin(1 + each) for each in range(placed.workers)]
            stack.callback(self._end_all)
            self.found = self._open()
            self._stack = stack.pop_all()
        logger.info("%d workers on Ray at %s, with %g of a GPU each.", placed.workers, settings.ray, self._gpus)

    def close(self) -> None:
        """End the workers, and leave the cluster."""
        self._stack.close()

    @property
    def busy(self) -> bool:
        """Whether any worker has a job."""
        return any(worker.jobs for worker in self.workers)

    def give(self, worker: PoolWorker[Job], jobs: Mapping[str, Job], told: Any = None) -> None:
        """Give a worker jobs, and let its engine hear something besides."""
        worker.jobs |= jobs
        if jobs or told is not None:
            worker.actor.give.remote([self.packed(job) for job in jobs.values()], told)

    def each_in_turn(self, jobs: Iterator[tuple[str, Job]]) -> Iterator[tuple[PoolWorker[Job], Any]]:
        """What the workers send while they do jobs one after the other, until all are done.

        Whoever takes this says that a job is done by taking it off its worker.
        """
        for worker in self.workers:
            self._fill(worker, jobs)
        while self.busy:
            for worker, report in self.reports():
                for event in report.events:
                    yield worker, event
                self._fill(worker, jobs)

    def reports(self) -> Iterator[tuple[PoolWorker[Job], WorkerReport]]:
        """The reports that have come; a worker that died is replaced."""
        by_report = {worker.report: worker for worker in self.workers}
        with interruptible():
            ready, _ = self._ray.wait(list(by_report), num_returns=len(by_report), timeout=_POLL_SECONDS)
        for each in ready:
            worker = by_report[each]
            try:
                with interruptible():
                    report: WorkerReport = self._ray.get(each)
            except self._ray.exceptions.RayActorError as error:
                self._replace(worker, error)
                continue
            except self._ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, PtsError):
                    raise error.cause from None
                raise
            worker.report = worker.actor.report.remote()
            self._take(worker, report)
            yield worker, report

    def _fill(self, worker: PoolWorker[Job], jobs: Iterator[tuple[str, Job]]) -> None:
        while len(worker.jobs) < AHEAD and (job := next(jobs, None)) is not None:
            self.give(worker, dict([job]))

    def _begin(self, number: int) -> PoolWorker[Job]:
        """A new actor, which opens its engine, wherever Ray finds a place for it."""
        remote = self._ray.remote(EngineWorker)
        options = {"num_cpus": CPUS_EACH, "num_gpus": self._gpus, "max_concurrency": 3}
        made = remote.options(scheduling_strategy="SPREAD", **options)
        actor = made.remote(self._opens, current_naming(), os.getcwd())
        actor.run.remote()
        return PoolWorker(number, actor, actor.report.remote())

    def _open(self) -> Found:
        """Wait until all engines are open; what they are. Raises PtsError where they differ."""
        began = time.monotonic()
        while any(worker.found is None for worker in self.workers):
            for _ in self.reports():
                pass
            if time.monotonic() - began > 60:
                logger.info("waiting for %d workers.", sum(w.found is None for w in self.workers))
                began = time.monotonic()
        first = self.workers[0].found
        assert first is not None
        return first

    def _take(self, worker: PoolWorker[Job], report: WorkerReport) -> None:
        """Note what a worker's engine is, and how far it is. Raises ModelError where it is another one."""
        worker.progress = report.progress
        if report.events:
            worker.deaths = 0
        for text in report.said:
            if text not in self._said:  # Each worker says the same.
                self._said.add(text)
                logger.warning("%s", text)
        if worker.found is None and report.found is not None:
            worker.found = report.found
            known = next(each.found for each in self.workers if each.found is not None)
            if known != report.found:
                raise ModelError(
                    f"two workers have different engines ({'; '.join(other_engine(known, report.found))}): "
                    "give all machines of the cluster the same model and the same packages."
                )

    def _replace(self, worker: PoolWorker[Job], error: Exception) -> None:
        """Begin another actor in place of one that died, with what is left of its jobs."""
        worker.deaths += 1
        cause = one_line(error)
        if worker.deaths >= DEATHS:
            raise RunError(
                f"worker {worker.number} died {worker.deaths} times in a row ({cause}): see Ray's logs on "
                "its machine. What was drawn is kept; the same command continues."
            )
        logger.warning("worker %d died (%s): its work goes on in a new one.", worker.number, cause)
        self._end(worker)
        new = self._begin(worker.number)
        worker.actor, worker.report, worker.found, worker.progress = new.actor, new.report, None, None
        self.give(worker, dict(worker.jobs))

    def _end(self, worker: PoolWorker[Job]) -> None:
        self._ray.kill(worker.actor, no_restart=True)

    def _end_all(self) -> None:
        for worker in self.workers:
            self._end(worker)


def other_engine(one: Any, other: Any) -> list[str]:
    """What differs between two engines, as `name this → that`."""
    return differences(_fields(one), _fields(other))


def dated(recorded: Recorded) -> Recorded:
    """What was recorded, with one date for the prompts of all workers where the template writes one."""
    if recorded.prompt_date is not None:
        return recorded
    return replace(recorded, prompt_date=datetime.now().isoformat(timespec="seconds"))


def _fields(found: Any) -> Mapping[str, object]:
    fields = to_json(found)
    assert isinstance(fields, dict)
    return fields
