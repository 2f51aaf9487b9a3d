"""Workers on Ray, each with an engine: begun, checked against each other, and replaced where one dies."""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import chain, islice
from typing import Any, Generic, TypeVar

from pts.errors import ModelError, PtsError, RunError, one_line
from pts.runs.codec import to_json
from pts.runs.manifest import differences
from pts.setting_names import current_naming
from pts.stages.shared.ray_cluster import interruptible, joined, needs_of, place
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
_AGAIN_AFTER = 30.0
"""Seconds before a worker that died twice in a row begins again: until Ray sees that a machine is gone."""
_SAID_AFTER = 60.0
"""Seconds after which a worker that Ray finds no place for is spoken of."""


@dataclass(slots=True)
class PoolWorker(Generic[Job]):
    """A worker as this process sees it: its actor, the report under way, and its jobs by name.

    `begins_at` is when one without an actor begins again, and `waits_since` when Ray was asked for its place,
    None once that was found or spoken of; both are monotonic times.
    """

    number: int
    actor: Any = None
    report: Any = None
    jobs: dict[str, Job] = field(default_factory=dict)
    found: Found | None = None
    progress: Any = None
    deaths: int = 0
    begins_at: float | None = None
    waits_since: float | None = None


class Pool(Generic[Job]):
    """Workers on Ray that do jobs. A worker that dies is replaced, and its jobs go to whoever has room.

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
        self._returned: deque[tuple[str, Job]] = deque()
        self._said: set[str] = set()
        self._stack = ExitStack()
        with self._stack as stack:
            whole = settings.gpus_of_engine
            self._ray = stack.enter_context(joined(settings.ray, (settings.workers or 1) * whole))
            nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
            placed = place(nodes, settings.workers, settings.gpus_per_worker, device, most, whole)
            self._gpus, self._cores = placed.gpus, placed.cores
            self.workers: list[PoolWorker[Job]] = [PoolWorker(1 + each) for each in range(placed.workers)]
            for worker in self.workers:
                self._begin(worker)
            stack.callback(self._end_all)
            self.found = self._open()
            self._stack = stack.pop_all()
        logger.info("%d workers on Ray at %s, with %g of a GPU each.", placed.workers, settings.ray, self._gpus)

    def close(self) -> None:
        """End the workers, and leave the cluster."""
        self._stack.close()

    @property
    def busy(self) -> bool:
        """Whether any worker has a job, or one that died has left some."""
        return bool(self._returned) or any(worker.jobs for worker in self.workers)

    @property
    def open_workers(self) -> list[PoolWorker[Job]]:
        """The workers whose engine is open: all at first, later without those that wait for room."""
        return [worker for worker in self.workers if worker.found is not None]

    def returned(self) -> Iterator[tuple[str, Job]]:
        """The jobs that workers left when they died; each is taken off here."""
        while self._returned:
            yield self._returned.popleft()

    def give(self, worker: PoolWorker[Job], jobs: Mapping[str, Job], told: Any = None) -> None:
        """Give a worker jobs, and let its engine hear something besides."""
        worker.jobs |= jobs
        if jobs or told is not None:
            worker.actor.give.remote([self.packed(job) for job in jobs.values()], told)

    def each_in_turn(self, jobs: Iterator[tuple[str, Job]]) -> Iterator[tuple[PoolWorker[Job], Any]]:
        """What the workers send while they do jobs one after the other, until all are done.

        Whoever takes this says that a job is done by taking it off its worker.
        """
        # The first one waits with those that were left, where no worker is open now.
        self._returned.extend(islice(jobs, 1))
        for worker in self.open_workers:
            self._fill(worker, jobs)
        while self.busy:
            for worker, report in self.reports():
                for event in report.events:
                    yield worker, event
                self._fill(worker, jobs)

    def reports(self) -> Iterator[tuple[PoolWorker[Job], WorkerReport]]:
        """The reports that have come; a worker that died is replaced."""
        self._begin_due()
        self._note_waiting()
        by_report = {worker.report: worker for worker in self.workers if worker.report is not None}
        if not by_report:
            time.sleep(_POLL_SECONDS)
            return
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
        """Give an open worker its next jobs, first those that others left."""
        if worker.found is None:
            return
        every = chain(self.returned(), jobs)
        while len(worker.jobs) < AHEAD and (job := next(every, None)) is not None:
            self.give(worker, dict([job]))

    def _begin(self, worker: PoolWorker[Job]) -> None:
        """Give it a new actor, which opens its engine, wherever Ray finds a place for it."""
        remote = self._ray.remote(EngineWorker)
        options = {"num_cpus": self._cores, "num_gpus": self._gpus, "max_concurrency": 3}
        made = remote.options(scheduling_strategy="SPREAD", **options)
        worker.actor = made.remote(self._opens, current_naming(), os.getcwd())
        worker.actor.run.remote()
        worker.report = worker.actor.report.remote()
        worker.begins_at, worker.waits_since = None, time.monotonic()

    def _begin_due(self) -> None:
        """Begin the workers whose time has come."""
        for worker in self.workers:
            if worker.begins_at is not None and time.monotonic() >= worker.begins_at:
                self._begin(worker)

    def _open(self) -> Found:
        """Wait until all engines are open; what they are. Raises PtsError where they differ."""
        while any(worker.found is None for worker in self.workers):
            for _ in self.reports():
                pass
        first = self.workers[0].found
        assert first is not None
        return first

    def _take(self, worker: PoolWorker[Job], report: WorkerReport) -> None:
        """Note what a worker's engine is, and how far it is. Raises ModelError where it is another one."""
        worker.waits_since = None
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
        """Begin another actor in place of one that died. Its jobs come back: there may be no room for it."""
        worker.deaths += 1
        # Then comes how Ray names the actor.
        cause = one_line(error).partition(" class_name:")[0].rstrip(".")
        if worker.deaths >= DEATHS:
            raise RunError(
                f"worker {worker.number} died {worker.deaths} times in a row ({cause}): see Ray's logs on "
                "its machine. What was drawn is kept; the same command continues."
            )
        logger.warning("worker %d died (%s): a new one is begun, and its work goes on.", worker.number, cause)
        self._returned.extend(worker.jobs.items())
        worker.jobs.clear()
        self._end(worker)
        worker.found = worker.progress = None
        worker.begins_at = time.monotonic() + (_AGAIN_AFTER if worker.deaths > 1 else 0)

    def _note_waiting(self) -> None:
        """Say of each worker that has had no place for a while that it waits."""
        for worker in self.workers:
            if worker.waits_since is not None and time.monotonic() - worker.waits_since > _SAID_AFTER:
                worker.waits_since = None
                logger.warning(
                    "worker %d has no place yet: no machine of the cluster that is up has %s free. %s",
                    worker.number,
                    needs_of(self._gpus, self._cores),
                    "The other workers go on."
                    if self.open_workers
                    else "This waits; where it is stopped, the same command continues.",
                )

    def _end(self, worker: PoolWorker[Job]) -> None:
        if worker.actor is not None:
            self._ray.kill(worker.actor, no_restart=True)
        worker.actor = worker.report = worker.waits_since = None

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
