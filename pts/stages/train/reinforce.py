"""Trains a model by reinforcement learning, in a session's run directory."""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean
from typing import TYPE_CHECKING

from pts.records import Problem
from pts.runs.directory import RunDirectory
from pts.runs.journal import Journal
from pts.stages.train.reinforcement_inputs import AdaptThinkInputs, LengthInputs, ReinforcementInputs, form_of
from pts.stages.train.session import (
    LAST_STEPS,
    plan_fields,
    resolved_fields,
    settle,
    write_derived,
)
from pts.stages.train.subject import Subject, make_asker, open_subject
from pts.training.processes import rank, wait_for_the_first
from pts.training.run_files import ReinforcementResolved, ReinforcementSummary

if TYPE_CHECKING:
    from pts.training.objectives import Objective
    from pts.training.references import Reference
    from pts.training.samples import Asker
    from pts.training.trainer import Drawing
    from pts.training.watch import Watch


def reinforcement_session(
    inputs: ReinforcementInputs, directory: RunDirectory, observe: Callable[[str, int, float], None]
) -> ReinforcementSummary:
    """Train, or what is left of it, and write what the run leaves. Raises PtsError."""
    from pts.training.curves import CurvePoint, curves_picture
    from pts.training.fit import Order, cut_curves, save_trained
    from pts.training.references import by_level
    from pts.training.reinforcement import ReinforcementPlan, grpo_config, reinforce
    from pts.training.trainer import Learning
    from pts.training.watch import Watch

    subject = open_subject(inputs, directory)
    asker = make_asker(inputs, subject)
    plan = ReinforcementPlan(
        **plan_fields(inputs),
        prompts=inputs.prompts,
        samples=inputs.samples,
        clip=inputs.clip,
        temperature=inputs.temperature,
        longest=inputs.sampling().budget,
    )
    # Before anything is drawn or written: TRL refuses settings only where its configuration is made.
    grpo_config(plan, directory.path, subject.loaded)
    references, digest = _references(inputs, subject, asker, observe)
    resolved = ReinforcementResolved(**resolved_fields(inputs, subject), references=digest)
    if rank() == 0:
        settle(inputs, directory, resolved, subject)
    journal = Journal(directory.shard, CurvePoint) if rank() == 0 else None
    watch = Watch(journal, inputs.steps, observe)
    if journal is not None:
        watch.resumed(cut_curves(journal, directory.path))
    # Before the others look for a checkpoint: one of an earlier run may have been there.
    wait_for_the_first()
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
    trainer = reinforce(subject.loaded, directory.path, plan, learning, watch)
    save_trained(trainer, directory.path, subject.loaded, inputs.lora)
    levels = by_level(subject.problems, references) if references else {}
    summary = _summary(inputs, subject, watch, levels)
    if rank() == 0:
        write_derived(directory, summary, resolved, curves_picture(watch.points))
    return summary


def _references(
    inputs: ReinforcementInputs,
    subject: Subject,
    asker: Asker,
    observe: Callable[[str, int, float], None],
) -> tuple[dict[str, Reference], str | None]:
    """The reference means, where the method has them: drawn by the first process, read by the others;
    and their digest."""
    if not isinstance(inputs, AdaptThinkInputs) or inputs.reference != "unchanged":
        return {}, None
    from pts.policies import policy_of
    from pts.stages.train.references import reference_means, references_digest
    from pts.training.references import REFERENCES, reference_journal

    if rank() == 0:
        policy = policy_of(subject.loaded, subject.prompt_format, batch_rows=inputs.batch_rows)
        found = reference_means(inputs, subject, policy, asker, observe)
    wait_for_the_first()
    if rank() != 0:
        read = reference_journal(RunDirectory(inputs.references_directory(), REFERENCES, None)).read()
        found = {reference.problem: reference for reference in read}
    return found, references_digest(found)


def _objective(inputs: ReinforcementInputs, references: dict[str, Reference]) -> Objective:
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


def _drawing(inputs: ReinforcementInputs, subject: Subject, asker: Asker, objective: Objective) -> Drawing:
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


def _summary(
    inputs: ReinforcementInputs, subject: Subject, watch: Watch, references: dict[str, float]
) -> ReinforcementSummary:
    last = watch.points[-LAST_STEPS:]
    levels = sorted({level for point in last for level in point.levels})
    return ReinforcementSummary(
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
