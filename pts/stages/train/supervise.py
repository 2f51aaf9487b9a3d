"""Shortens a model's thinking by supervised fine-tuning, in a session's run directory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from pts.errors import DataError
from pts.models.prompt import encode_prompt
from pts.runs.directory import RunDirectory
from pts.runs.journal import Journal
from pts.runs.manifest import text_digest
from pts.seeds import derive_seed
from pts.setting_names import setting
from pts.stages.train.kept_draws import drawn_by, kept_draws
from pts.stages.train.session import (
    LAST_STEPS,
    plan_fields,
    rank,
    resolved_fields,
    settle,
    wait_for_the_first,
    write_derived,
)
from pts.stages.train.shorten_inputs import FEWEST_SOLVED, ShortenInputs
from pts.stages.train.subject import Subject, make_asker, open_subject
from pts.training.drawing import lead_of
from pts.training.run_files import ShortenResolved, ShortenSummary
from pts.training.solutions import (
    COMPLETIONS,
    Example,
    Solution,
    draw_solutions,
    examples_of,
    modes_asked,
    solution_journal,
)

if TYPE_CHECKING:
    from pts.training.loss_curve import LossPoint
    from pts.training.samples import Asker

logger = logging.getLogger(__name__)


def shorten_session(
    inputs: ShortenInputs, directory: RunDirectory, observe: Callable[[str, int, float], None]
) -> ShortenSummary:
    """Draw and choose completions, learn them, or what is left of it, and write what the run leaves.

    Raises PtsError.
    """
    from pts.training.fit import Order, cut_curves, save_trained
    from pts.training.loss_curve import LossPoint, LossWatch, loss_picture
    from pts.training.supervised import SupervisedPlan, fine_tune, sft_config

    subject = open_subject(inputs, directory)
    asker = make_asker(inputs, subject)
    plan = SupervisedPlan(**plan_fields(inputs), examples=inputs.examples)
    # Before anything is drawn or written: TRL refuses settings only where its configuration is made.
    sft_config(plan, directory.path, subject.loaded)
    solutions = _solutions(inputs, subject, asker, observe)
    examples = _examples(inputs, subject, asker, solutions)
    resolved = ShortenResolved(**resolved_fields(inputs, subject), completions=_digest(examples))
    if rank() == 0:
        settle(inputs, directory, resolved, subject)
    order = Order(len(examples), plan.examples, inputs.seed)
    journal = Journal(directory.shard, LossPoint) if rank() == 0 else None

    def tokens(step: int) -> int:
        return sum(len(examples[place].completion) for place in order(step))

    watch = LossWatch(journal, inputs.steps, tokens, observe)
    if journal is not None:
        watch.resumed(cut_curves(journal, directory.path))
    trainer = fine_tune(subject.loaded, directory.path, plan, examples, order, watch)
    save_trained(trainer, directory.path, subject.loaded, inputs.lora)
    summary = _summary(inputs, subject, solutions, examples, watch.points)
    if rank() == 0:
        write_derived(directory, summary, resolved, loss_picture(watch.points))
    return summary


def _solutions(
    inputs: ShortenInputs, subject: Subject, asker: Asker, observe: Callable[[str, int, float], None]
) -> list[Solution]:
    """The solutions of all problems, drawn where they are not there yet: by the first process, read by the
    others.

    Raises RunError for a directory whose completions are of another model, sampler, number or problem.
    """
    from pts.policies import policy_of

    path, modes = inputs.completions_directory(), modes_asked(asker, inputs.hybrid)
    if rank() == 0:
        policy = policy_of(subject.loaded, subject.prompt_format, batch_rows=inputs.batch_rows)
        settings = {
            **drawn_by(inputs, subject),
            "sampling": inputs.sampling_settings(),
            "no_thinking_budget": inputs.short_budget(),
            "samples": inputs.samples,
        }
        with kept_draws(
            path, COMPLETIONS, settings, subject, lambda directory: solution_journal(directory).read()
        ) as directory:
            solutions = draw_solutions(
                subject.problems,
                subject.digests,
                solution_journal(directory),
                policy,
                asker,
                modes,
                inputs.samples,
                derive_seed(inputs.seed, "completions"),
                lambda tokens, share: observe("completions", tokens, share),
            )
    wait_for_the_first()
    if rank() != 0:
        read = solution_journal(RunDirectory(path, COMPLETIONS, None)).read()
        kept = {(one.problem, one.mode): one for one in read}
        solutions = [kept[problem.id, mode] for mode in modes for problem in subject.problems]
    return solutions


def _examples(
    inputs: ShortenInputs, subject: Subject, asker: Asker, solutions: Sequence[Solution]
) -> list[Example]:
    """What is learnt. Raises DataError where too few problems have a right completion."""
    with_thinking = _with_thinking(solutions)
    solved = [one for one in with_thinking if one.shortest is not None]
    if len(solved) < FEWEST_SOLVED:
        raise DataError(
            f"{len(solved)} of {len(with_thinking)} problems have a right completion among {inputs.samples} "
            f"with thinking, and at least {FEWEST_SOLVED} are needed to learn from: give more "
            f"{setting('problems')} or easier ones, more {setting('samples')}, or a larger {setting('budget')}."
            f" Other samples or another budget also need another {setting('completions')}, or "
            f"{inputs.completions_directory()} deleted."
        )
    prompts = {
        problem.id: encode_prompt(subject.loaded.tokenizer, problem.query, subject.prompt_format)
        for problem in subject.problems
    }
    examples = examples_of(solutions, prompts, lead_of(asker))
    short = sum(not example.thinks for example in examples)
    logger.info(
        "%d of %d problems have a right completion, and their shortest is learnt%s.",
        len(solved),
        len(with_thinking),
        f"; {short} are learnt without thinking too" if inputs.hybrid else "",
    )
    return examples


def _with_thinking(solutions: Sequence[Solution]) -> list[Solution]:
    return [one for one in solutions if one.mode != "no thinking"]


def _digest(examples: Sequence[Example]) -> str:
    return text_digest(f"{one.prompt} {one.completion}" for one in examples)[:16]


def _summary(
    inputs: ShortenInputs,
    subject: Subject,
    solutions: Sequence[Solution],
    examples: Sequence[Example],
    points: Sequence[LossPoint],
) -> ShortenSummary:
    with_thinking = _with_thinking(solutions)
    learnt = [len(example.completion) for example in examples if example.thinks]
    return ShortenSummary(
        method=inputs.method,
        model_id=subject.loaded.model_id,
        dataset_id=subject.problem_set.name,
        steps=len(points),
        seconds=sum(point.seconds for point in points),
        settings=inputs.settings(),
        problems=len(with_thinking),
        unsolved=sum(one.shortest is None for one in with_thinking),
        success=fmean(one.successes / one.n for one in with_thinking),
        right_tokens=fmean(one.right_tokens for one in with_thinking if one.right_tokens is not None),
        thinking=len(learnt),
        thinking_tokens=fmean(learnt),
        no_thinking=len(examples) - len(learnt),
        loss=fmean(point.loss for point in points[-LAST_STEPS:]),
    )
