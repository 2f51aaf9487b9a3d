"""Trains a model by reinforcement learning, to a run directory that is the trained model's too."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from statistics import fmean
from typing import TYPE_CHECKING

from pts.records import Problem
from pts.runs.codec import from_json, to_json
from pts.runs.directory import RunDirectory, open_run
from pts.runs.files import replace_text
from pts.runs.journal import Journal
from pts.runs.manifest import read_manifest
from pts.runs.settle import settle_manifest
from pts.stages.shared.recorded import (
    dtype_name,
)
from pts.stages.train.inputs import AdaptThinkInputs, LengthInputs, TrainingInputs, form_of
from pts.stages.train.subject import Subject, make_asker, open_subject
from pts.training.requirements import require_packages
from pts.training.run_files import (
    TRAINING,
    TrainingEnvironment,
    TrainingResolved,
    TrainingSummary,
    latest_checkpoint,
)

if TYPE_CHECKING:
    from pts.training.curves import CurvePoint
    from pts.training.fit import TrainingPlan
    from pts.training.objectives import Objective
    from pts.training.references import Reference
    from pts.training.samples import Asker
    from pts.training.trainer import Drawing
    from pts.training.watch import Watch

logger = logging.getLogger(__name__)

LAST_STEPS = 10
"""Steps over which the summary's means are taken."""


def run_training(
    inputs: TrainingInputs, observe: Callable[[str, int, float], None] | None = None
) -> TrainingSummary:
    """Do the training that `inputs` describes, or what is left of it, and write its directory.

    Nothing is written before model, data, reference answers and modes have been found good. A complete run is
    left as it is. Under a launcher of several processes the first one writes. Raises PtsError.
    """
    require_packages()
    inputs = inputs.effective().bounded()
    told = observe or (lambda _phase, _more, _share: None)
    with _run_directory(inputs) as directory:
        done = _finished(inputs, directory)
        if done is not None:
            logger.info("%s: the training is complete.", directory.path)
            return done
        return _train(inputs, directory, told)


def resume_note(inputs: TrainingInputs) -> str:
    """A sentence on what a stopped training leaves and how to go on with it."""
    from pts.training.run_files import step_of

    path = inputs.directory()
    checkpoint = latest_checkpoint(path)
    again = "the same command without --fresh" if inputs.fresh else "the same command"
    if checkpoint is None:
        return f"no checkpoint had been written yet; {again} starts again, with the references that there are."
    return f"{step_of(checkpoint)} of {inputs.steps} steps are kept in {path}; {again} continues."


@contextmanager
def _run_directory(inputs: TrainingInputs) -> Iterator[RunDirectory]:
    """The run directory, held by the first process; the others read it without a lock."""
    if _rank() == 0:
        with open_run(inputs.directory(), TRAINING) as directory:
            yield directory
        return
    # Before the first one writes: all find the same, and a complete run is complete to all.
    path = inputs.directory()
    yield RunDirectory(path, TRAINING, read_manifest(path))


def _finished(inputs: TrainingInputs, directory: RunDirectory) -> TrainingSummary | None:
    """The summary of a run that is complete. Raises RunError for one with other settings."""
    if inputs.fresh or directory.manifest is None:
        return None
    directory.require_same("configuration", directory.manifest.settings, inputs.settings())
    path = directory.path / "summary.json"
    if not path.exists():
        return None
    return from_json(TrainingSummary, json.loads(path.read_text(encoding="utf-8")))


def _train(
    inputs: TrainingInputs, directory: RunDirectory, observe: Callable[[str, int, float], None]
) -> TrainingSummary:
    from pts.training.curves import CurvePoint
    from pts.training.fit import Order, cut_curves, save_trained, train, trl_config
    from pts.training.references import by_level
    from pts.training.trainer import Learning
    from pts.training.watch import Watch

    subject = open_subject(inputs, directory)
    asker = make_asker(inputs, subject)
    plan = _plan(inputs)
    # Before anything is drawn or written: TRL refuses settings only where its configuration is made.
    trl_config(plan, directory.path, subject.loaded)
    resolved = _resolved(inputs, subject)
    references = _references(inputs, resolved, subject, asker, observe)
    if _rank() == 0:
        _settle(inputs, directory, resolved, subject, references)
    journal = Journal(directory.shard, CurvePoint) if _rank() == 0 else None
    watch = Watch(journal, inputs.steps, observe)
    if journal is not None:
        watch.resumed(cut_curves(journal, directory.path))
    objective = _objective(inputs, references)
    learning = Learning(
        subject.problems,
        Order(len(subject.problems), inputs.prompts, inputs.seed),
        subject.modes,
        _drawing(inputs, subject, asker, objective),
        "full" if form_of(inputs) == "full" else "sequence",
        inputs.clip,
        watch.heard,
    )
    trainer = train(subject.loaded, directory.path, plan, learning, watch)
    save_trained(trainer, directory.path, subject.loaded, inputs.lora)
    if _rank() != 0:
        return _summary(inputs, subject, watch, {})
    levels = by_level(subject.problems, references) if references else {}
    return _write_derived(directory, _summary(inputs, subject, watch, levels), watch.points)


def _references(
    inputs: TrainingInputs,
    resolved: TrainingResolved,
    subject: Subject,
    asker: Asker,
    observe: Callable[[str, int, float], None],
) -> dict[str, Reference]:
    """The reference means, where the method has them: drawn by the first process, read by the others."""
    if not isinstance(inputs, AdaptThinkInputs) or inputs.reference != "unchanged":
        return {}
    from accelerate import PartialState

    from pts.policies import policy_of
    from pts.runs.directory import RunDirectory
    from pts.stages.train.references import reference_means
    from pts.training.references import REFERENCES, reference_journal

    if _rank() == 0:
        policy = policy_of(subject.loaded, subject.prompt_format, batch_rows=inputs.batch_rows)
        found = reference_means(inputs, resolved, subject.problems, subject.digests, policy, asker, observe)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        PartialState().wait_for_everyone()
    if _rank() != 0:
        read = reference_journal(RunDirectory(inputs.references_directory(), REFERENCES, None)).read()
        found = {reference.problem: reference for reference in read}
    return found


def _objective(inputs: TrainingInputs, references: dict[str, Reference]) -> Objective:
    from pts.training.length_rewards import LengthReward
    from pts.training.objectives import AdaptThink, GroupReward

    longest = inputs.sampling().budget
    if isinstance(inputs, AdaptThinkInputs):
        length = LengthReward("gated-linear", inputs.length_alpha, longest=longest)
        means = {key: reference.mean for key, reference in references.items()} if references else None
        return AdaptThink(
            inputs.delta, means, inputs.importance_sampling, length if inputs.length_alpha else None
        )
    assert isinstance(inputs, LengthInputs)
    if inputs.alpha == 0:
        return GroupReward()
    counted = inputs.count
    assert counted in ("thinking", "answer", "all")
    return GroupReward(
        LengthReward(
            inputs.reward,
            inputs.alpha,
            counted,  # type: ignore[arg-type]
            float(inputs.target_tokens()),
            longest,
            inputs.limits,
            max(1, inputs.steps // max(1, len(inputs.limits))),
        )
    )


def _drawing(inputs: TrainingInputs, subject: Subject, asker: Asker, objective: Objective) -> Drawing:
    from pts.models.prompt import encode_prompt
    from pts.training.drawing import PolicyDrawing, TrlDrawing

    loaded = subject.loaded
    if inputs.generation == "pts":
        return PolicyDrawing(
            loaded,
            subject.prompt_format,
            asker,
            objective,
            inputs.decoding(),
            inputs.seed,
            inputs.batch_rows,
        )

    def encode(problem: Problem) -> tuple[int, ...]:
        return encode_prompt(loaded.tokenizer, problem.query, subject.prompt_format)

    def decode(ids: tuple[int, ...]) -> str:
        kept = ids[:-1] if len(ids) > 1 and ids[-1] in loaded.end_token_ids else ids
        return str(loaded.tokenizer.decode(list(kept), clean_up_tokenization_spaces=False))

    return TrlDrawing(asker, objective, encode, decode, loaded.end_token_ids)


def _plan(inputs: TrainingInputs) -> TrainingPlan:
    from pts.training.fit import TrainingPlan, parsed_settings

    return TrainingPlan(
        steps=inputs.steps,
        prompts=inputs.prompts,
        samples=inputs.samples,
        learning_rate=inputs.rate(),
        schedule=inputs.trl_schedule(),
        warmup=inputs.warmup,
        clip=inputs.clip,
        temperature=inputs.temperature,
        longest=inputs.sampling().budget,
        save_every=inputs.save_every,
        seed=inputs.seed,
        micro_batch=inputs.micro_batch,
        lora_rank=inputs.lora_rank if inputs.lora else None,
        gradient_checkpointing=inputs.gradient_checkpointing,
        trl_settings=parsed_settings(inputs.trl_settings),
    )


def _resolved(inputs: TrainingInputs, subject: Subject) -> TrainingResolved:
    loaded, modes = subject.loaded, subject.modes
    return TrainingResolved(
        model_id=loaded.model_id,
        model_revision=loaded.revision,
        dtype=dtype_name(loaded),
        dataset_id=subject.problem_set.name,
        problem_schema=subject.problem_set.schema,
        grader=subject.grader_name,
        attention=loaded.attention,
        prompt_date=subject.prompt_format.written_on,
        prompt_digest=subject.digest,
        learning_rate=inputs.rate(),
        lead=None if modes is None else modes.lead,
        no_thinking=None if modes is None else modes.no_thinking,
    )


def _settle(
    inputs: TrainingInputs,
    directory: RunDirectory,
    resolved: TrainingResolved,
    subject: Subject,
    references: dict[str, Reference],
) -> None:
    from pts.stages.train.references import references_digest

    settle_manifest(
        directory,
        settings=inputs.settings(),
        resolved=replace(resolved, references=references_digest(references) if references else None),
        environment=TrainingEnvironment(
            str(subject.loaded.device),
            int(os.environ.get("WORLD_SIZE", "1")),
            inputs.batch_rows,
            inputs.micro_batch,
        ),
        problems=list(subject.digests.values()),
        fresh=inputs.fresh,
    )


def _summary(
    inputs: TrainingInputs, subject: Subject, watch: Watch, references: dict[str, float]
) -> TrainingSummary:
    last = watch.points[-LAST_STEPS:]
    levels = sorted({level for point in last for level in point.levels})
    return TrainingSummary(
        method=inputs.method,
        model_id=subject.loaded.model_id,
        dataset_id=subject.problem_set.name,
        steps=len(watch.points),
        seconds=sum(point.seconds for point in watch.points),
        success=fmean(point.success for point in last),
        tokens=fmean(point.tokens for point in last),
        no_thinking=fmean(point.no_thinking for point in last),
        levels={
            level: fmean(point.levels[level].no_thinking for point in last if level in point.levels)
            for level in levels
        },
        references=references,
        settings=inputs.settings(),
        stopped=watch.stopped,
    )


def _write_derived(
    directory: RunDirectory, summary: TrainingSummary, points: list[CurvePoint]
) -> TrainingSummary:
    """Write curves, card and summary, the summary last: it says that the run is complete."""
    from pts.publishing.card_text import CARD_NAME, is_untouched
    from pts.publishing.training_card import training_card
    from pts.training.curves import draw_curves

    draw_curves(points, directory.path / "curves.png")
    assert directory.manifest is not None
    resolved = from_json(TrainingResolved, directory.manifest.resolved)
    card = directory.path / CARD_NAME
    if not card.exists() or is_untouched(card.read_text(encoding="utf-8")):
        replace_text(card, training_card(summary, resolved, directory.path.name, None))
    text = json.dumps(to_json(summary), ensure_ascii=False, indent=2) + "\n"
    replace_text(directory.path / "summary.json", text)
    return summary


def _rank() -> int:
    """This process's number among those of a launcher."""
    return int(os.environ.get("RANK", "0"))
