"""An evaluation on Ray: this process hands out questions and keeps the answers, workers hold the models."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial

from pts.errors import ModelError
from pts.evaluation.items import Item
from pts.runs.manifest import differences
from pts.stages.evaluate.answers import CHUNK
from pts.stages.evaluate.engine import EvaluateHere, EvaluationFound, EvaluationTask
from pts.stages.evaluate.jobs import AnswerJob
from pts.stages.shared.ray_pool import AHEAD, Pool, dated
from pts.stages.shared.ray_worker import Feed


@dataclass(slots=True)
class _Part:
    """A part of a job under a name, which shrinks as its answers come."""

    name: str
    job: AnswerJob

    def packed(self) -> tuple[str, AnswerJob]:
        """What a worker gets of it: the answers that are left."""
        return self.name, self.job

    def landed(self, item: Item) -> bool:
        """Take an answer off; whether it was the last one."""
        left = tuple((p, k) for p, k in self.job.wanted if (p.id, k) != (item.problem, item.seed))
        self.job = replace(self.job, wanted=left)
        return not left


class EvaluateOnRay:
    """An evaluation whose models are in Ray's actors. Its answers are those of one process.

    A worker that dies is replaced, and the new one answers what was left. `found` is that of all
    workers. Raises PtsError where the cluster cannot be used, or a model does not fit.
    """

    def __init__(self, task: EvaluationTask, answers: int) -> None:
        inputs = task.inputs
        task = replace(task, recorded=dated(task.recorded))
        self._pool: Pool[_Part] = Pool(
            inputs, partial(AnswerEngine, task), inputs.device, answers, _Part.packed
        )
        found = self._pool.found
        assert isinstance(found, EvaluationFound)
        self.found = found

    def __enter__(self) -> EvaluateOnRay:
        return self

    def __exit__(self, *_: object) -> None:
        """End the workers, and leave the cluster."""
        self._pool.close()

    def answers(self, jobs: Iterable[AnswerJob]) -> Iterator[Item]:
        """The answers of all jobs, as they come from any worker."""
        for worker, (name, item) in self._pool.each_in_turn(self._parts(jobs)):
            if worker.jobs[name].landed(item):
                del worker.jobs[name]
            yield item

    def _parts(self, jobs: Iterable[AnswerJob]) -> Iterator[tuple[str, _Part]]:
        """Parts of jobs small enough that all workers have some, under names."""
        for number, job in enumerate(jobs):
            size = min(CHUNK, -(-len(job.wanted) // (AHEAD * len(self._pool.workers))))
            for start in range(0, len(job.wanted), max(1, size)):
                name = f"{number}/{start}"
                yield name, _Part(name, replace(job, wanted=job.wanted[start : start + size]))


class AnswerEngine:
    """The engine of a worker: the evaluation's model, with vectors, router and scorer read there."""

    progress = None

    def __init__(self, task: EvaluationTask) -> None:
        from pts.graders import make_grader
        from pts.stages.decode.strategies import strategy_options
        from pts.stages.evaluate.plan import part_digests
        from pts.steering.vector_files import load_vectors

        inputs = task.inputs
        vectors = None if inputs.vectors is None else load_vectors(inputs.vectors, inputs.vectors_revision)
        options = strategy_options(inputs, inputs.strategies, vectors, same_shape=inputs.same_shape)
        other = differences(task.digests, part_digests(inputs, vectors, options))
        if other:
            raise ModelError(
                f"a worker has other vectors, another router or another scorer ({'; '.join(other)}): give all "
                "machines of the cluster the same files."
            )
        grader = make_grader(task.grader, pattern=inputs.grader_pattern)
        self._here = EvaluateHere(task, vectors, options, grader)
        found = self._here.found
        # Which of a machine's GPUs it is, is Ray's affair.
        self.found = replace(found, device=found.device.partition(":")[0])

    def hear(self, told: object) -> None:
        """Nothing: there is nothing to hear."""

    def work(self, jobs: Feed[tuple[str, AnswerJob]], send: Callable[[tuple[str, Item]], None]) -> None:
        """Answer the jobs as they come, and send each answer with its job's name."""
        for name, job in jobs:
            for item in self._here.answers([job]):
                send((name, item))
            jobs.landed()
