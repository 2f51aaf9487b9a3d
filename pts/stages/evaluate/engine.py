"""What answers in one process: the model with its strategies, checked, and each system's answers, graded."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

from pts.decoding.registry import make_strategy
from pts.decoding.strategy_options import StrategyOptions
from pts.errors import ConfigError, ModelError
from pts.evaluation.items import Item
from pts.evaluation.random_routing import with_random_router
from pts.evaluation.systems import System
from pts.records import Problem
from pts.stages.decode.decoder import make_decoder, open_model, warn_of_other_numbers
from pts.stages.decode.strategies import second_model_found, second_model_settled, with_second_model
from pts.stages.evaluate.answers import graded_answers
from pts.stages.evaluate.inputs import EvaluateInputs
from pts.stages.evaluate.jobs import AnswerJob
from pts.stages.evaluate.plan import no_direction_test
from pts.stages.shared.recorded import Recorded, dtype_name, recorded_options, settled_prompts

if TYPE_CHECKING:
    from pts.decoding import Session
    from pts.graders import Grader
    from pts.steering.hooks import Variant
    from pts.steering.vector_set import VectorSet

logger = logging.getLogger(__name__)

ReadPrompts = Callable[[int, int], None]
"""Hears how many prompts have been read, and of how many."""


@dataclass(frozen=True, slots=True)
class EvaluationTask:
    """What a process must know to answer; it can be sent to another process.

    `recorded` is what earlier sessions had, `problems` are all that will be asked, and `digests` those of the
    vectors, the router and the scorer.
    """

    inputs: EvaluateInputs
    recorded: Recorded
    grader: str
    systems: tuple[System, ...]
    problems: tuple[Problem, ...]
    digests: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class EvaluationFound:
    """What the model, its prompts and the second model turned out to be; `left_out` as in a plan."""

    model_id: str
    model_revision: str | None
    dtype: str
    attention: str | None
    device: str
    think_end: tuple[int, ...] | None
    prompt_date: str | None
    prompt_digest: str
    second_model: str | None
    second_dtype: str | None
    left_out: Mapping[str, str]


class EvaluateHere:
    """An evaluation's model in this process, with its vectors and strategies found good. Raises PtsError.

    Example:
        with EvaluateHere(task, vectors, options, grader) as engine:
            for item in engine.answers(jobs):
                ...
    """

    def __init__(
        self,
        task: EvaluationTask,
        vectors: VectorSet | None,
        options: StrategyOptions,
        grader: Grader,
        read: ReadPrompts | None = None,
    ) -> None:
        inputs, recorded = task.inputs, task.recorded
        self._task, self._grader = task, grader
        loaded = open_model(inputs, recorded_options(inputs.model_options(), recorded), options)
        prompt_format, digest = settled_prompts(loaded.tokenizer, inputs.prompt_format(), recorded)
        self._decoder = make_decoder(inputs, loaded, vectors, "full", StrategyOptions(), prompt_format)
        if vectors is not None:
            warn_of_other_numbers(vectors, loaded)
        self._variants = _variants(inputs, vectors)
        date = prompt_format.written_on
        self._options = with_second_model(options, inputs, date or recorded.prompt_date)
        with self._decoder.session([]) as session:
            left_out = self._left_out(session)
            self._check_prompts(session, left_out, read)
        think, (second_dtype, second_date) = self._decoder.think, second_model_settled(self._options)
        self.found = EvaluationFound(
            model_id=loaded.model_id,
            model_revision=loaded.revision,
            dtype=dtype_name(loaded),
            attention=loaded.attention,
            device=str(loaded.device),
            think_end=None if think is None else think.end,
            prompt_date=date or second_date,
            prompt_digest=digest,
            second_model=second_model_found(self._options),
            second_dtype=second_dtype,
            left_out=left_out,
        )

    def __enter__(self) -> EvaluateHere:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is left behind."""

    def answers(self, jobs: Iterable[AnswerJob]) -> Iterator[Item]:
        """The answers of each job in turn, as they are done.

        Jobs steered alike share a session, so that no hook is on the model but those of what is steered.
        """
        for variant, alike in groupby(jobs, key=lambda job: job.variant):
            with self._decoder.session([] if variant is None else [self._variants[variant]]) as session:
                for job in alike:
                    yield from self._answered(job, session)

    def _answered(self, job: AnswerJob, session: Session) -> Iterator[Item]:
        seed, changes = self._task.inputs.seed, dict[str, Any](job.options or {})
        options = replace(self._options, **changes)
        if job.shares is not None:
            options = with_random_router(options, job.shares, seed)
        yield from graded_answers(
            job.system,
            make_strategy(job.strategy, options),
            job.wanted,
            session,
            seed=seed,
            grader=self._grader,
            grader_name=self._task.grader,
            variant=0 if job.variant is None else 1,
            shares=job.shares,
        )

    def _left_out(self, session: Session) -> dict[str, str]:
        """The systems that do not fit the model, with the reasons.

        Raises ConfigError for one that was named.
        """
        systems, unfit = self._task.systems, dict[str, str]()
        for strategy in dict.fromkeys(system.strategy for system in systems):
            try:
                make_strategy(strategy, self._options).check(session)
            except (ConfigError, ModelError) as error:
                if strategy in {system.strategy for system in systems if system.asked}:
                    raise
                unfit[strategy] = str(error)
        left_out = {system.name: unfit[system.strategy] for system in systems if system.strategy in unfit}
        if left_out:
            logger.warning(
                "baselines left out: %s: %s", ", ".join(left_out), next(iter(left_out.values())).rstrip(".")
            )
        return left_out

    def _check_prompts(self, session: Session, left_out: Mapping[str, str], read: ReadPrompts | None) -> None:
        """Raise PtsError for a problem that a system's strategy cannot read."""
        systems: Sequence[System] = [each for each in self._task.systems if each.name not in left_out]
        strategies = [make_strategy(system.strategy, self._options) for system in systems]
        readers = dict.fromkeys(reader for strategy in strategies for reader in strategy.readers(session))
        problems = self._task.problems
        for number, problem in enumerate(problems, start=1):
            for reader, fmt in readers:
                reader.encode(problem.query, fmt)
            if read is not None:
                read(number, len(problems))


def _variants(inputs: EvaluateInputs, vectors: VectorSet | None) -> list[Variant]:
    """The vectors, then each of their calibrated random directions, added in the same way."""
    from pts.steering import interventions
    from pts.steering.vector_algebra import control_sets

    if vectors is None:
        return []
    pattern = next(iter(vectors.vectors if inputs.pattern is None else inputs.pattern))
    sets = [vectors, *([] if no_direction_test(inputs, vectors) else control_sets(vectors, pattern))]
    return [interventions(each, inputs.pattern, gated=inputs.where == "gate") for each in sets]
