"""A worker on Ray: an actor that holds an engine and does the jobs that it is given."""

from __future__ import annotations

import logging
import os
import queue
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from pts.errors import ModelError
from pts.setting_names import Naming, in_python, named_as

Job = TypeVar("Job")

REPORT_SECONDS = 0.5
"""How long a report waits for something to say."""


class Found(Protocol):
    """What an engine turned out to be, as a dataclass: the same in all workers."""

    @property
    def device(self) -> str:
        """Its kind of device, such as cuda."""


class Engine(Protocol):
    """What a worker holds. It is opened once, and then does jobs until the worker ends."""

    @property
    def found(self) -> Found:
        """What it turned out to be."""

    @property
    def progress(self) -> Any:
        """How far it is, for whoever shows it; None where that does not matter."""

    def work(self, jobs: Feed[Any], send: Callable[[Any], None]) -> None:
        """Do the jobs as they come, and send what they give; it does not return."""

    def hear(self, told: Any) -> None:
        """Take note of what the process that gives the jobs says, besides; another thread calls it."""


OpenEngine: TypeAlias = Callable[[], Engine]
"""Opens a worker's engine, in the worker. Raises PtsError for what does not fit."""


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """What happened in a worker since its last report, in the order in which it came.

    `found` is there once the engine is open, `wants` says that it has taken all that it was given and has room
    for more, and `said` are warnings that its log had.
    """

    events: tuple[Any, ...]
    found: Found | None
    progress: Any
    wants: bool
    said: tuple[str, ...] = ()


class EngineWorker:
    """The actor. `run` opens the engine and works; `give` and `report` are called while it does.

    It works in `folder`, where that is on its machine, so that a path means there what it means here.
    """

    def __init__(self, opens: OpenEngine, naming: Naming = in_python, folder: str | None = None) -> None:
        self._opens, self._naming, self._folder = opens, naming, folder
        self._feed: Feed[Any] = Feed()
        self._events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._said: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._engine: Engine | None = None
        self._told: Any = None
        self._lock = threading.Lock()
        self._failure: Exception | None = None

    def run(self) -> None:
        """Do what is given, until the actor is ended. The next report raises what failed."""
        logging.getLogger("pts").addHandler(_Said(self._said))
        if self._folder is not None:
            with suppress(OSError):  # Absolute paths and names need no folder.
                os.chdir(self._folder)
        try:
            with named_as(self._naming):
                engine = self._opens()
                _require_gpu(engine.found.device)
                with self._lock:
                    self._engine = engine
                    if self._told is not None:
                        engine.hear(self._told)
                engine.work(self._feed, self._events.put)
        except Exception as error:
            self._failure = error

    def give(self, jobs: Sequence[Any], told: Any = None) -> None:
        """Add jobs, and let the engine hear something besides."""
        if told is not None:
            with self._lock:
                self._told = told
                if self._engine is not None:
                    self._engine.hear(told)
        for job in jobs:
            self._feed.add(job)

    def report(self) -> WorkerReport:
        """What happened since the last report; it waits for half a second where nothing did."""
        events = _taken(self._events, REPORT_SECONDS)
        if self._failure is not None:
            raise self._failure
        engine = self._engine
        found, progress = (None, None) if engine is None else (engine.found, engine.progress)
        return WorkerReport(events, found, progress, self._feed.wants, _taken(self._said, 0))


class Feed(Generic[Job]):
    """The jobs of a worker, as they are given: it seems at its end while others are under way.

    An engine with several jobs at once asks again whenever it has room, so that a job which comes later is
    taken then. Where nothing is under way, it waits.
    """

    def __init__(self) -> None:
        self.wants = False
        self._queue: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._under_way = 0
        self._lock = threading.Lock()

    def __iter__(self) -> Feed[Job]:
        return self

    def __next__(self) -> Job:
        with self._lock:
            self.wants, waits = self._queue.empty(), self._under_way == 0
        try:
            job = self._queue.get(block=waits)
        except queue.Empty:
            raise StopIteration from None
        self._under_way += 1
        return job

    def add(self, job: Job) -> None:
        """Let the engine have another job."""
        with self._lock:
            self._queue.put(job)
            self.wants = False

    def landed(self) -> None:
        """Hear that a job has ended."""
        self._under_way -= 1


class _Said(logging.Handler):
    """Keeps the warnings of a worker's log, for the process that shows them."""

    def __init__(self, said: queue.SimpleQueue[str]) -> None:
        super().__init__(logging.WARNING)
        self._queue = said

    def emit(self, record: logging.LogRecord) -> None:
        self._queue.put(record.getMessage())


def _taken(waiting: queue.SimpleQueue[Any], seconds: float) -> tuple[Any, ...]:
    """All that waits in a queue, the first of it within so many seconds."""
    try:
        taken = [waiting.get(block=seconds > 0, timeout=seconds or None)]
    except queue.Empty:
        return ()
    while not waiting.empty():
        taken.append(waiting.get())
    return tuple(taken)


def _require_gpu(device: str) -> None:
    """Raise ModelError where Ray gave a GPU that the engine does not use."""
    import ray

    if ray.get_gpu_ids() and not device.startswith("cuda"):
        raise ModelError(
            f"the worker on {socket.gethostname()} was given a GPU and computes on {device}: install a torch "
            "for its GPU there, or give its workers none."
        )
