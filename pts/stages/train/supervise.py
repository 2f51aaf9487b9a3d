"""Shortens a model's thinking by supervised fine-tuning, in a session's run directory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from pts.errors import DataError, RunError
from pts.models.prompt import encode_prompt
from pts.runs.directory import RunDirectory
from pts.runs.journal import Journal
from pts.runs.manifest import text_digest
from pts.seeds import derive_seed
from pts.setting_names import setting
from pts.stages.train.kept_draws import drawn_by, kept_draws
from pts.stages.train.searched import Searched, open_searched, searched_solutions
from pts.stages.train.session import (
    LAST_STEPS,
    plan_fields,
    resolved_fields,
    settle,
    write_derived,
)
from pts.stages.train.shorten_inputs import FEWEST_SOLVED, ShortenInputs
from pts.stages.train.subject import Subject, make_asker, open_subject
from pts.training.drawing import lead_of
from pts.training.processes import rank, wait_for_the_first
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
    from pts.training.mixing import Progressive
    from pts.training.supervised import SupervisedPlan, fine_tune, sft_config

    subject = open_subject(inputs, directory)
    asker = make_asker(inputs, subject)
    plan = SupervisedPlan(**plan_fields(inputs), examples=inputs.examples)
    # Before anything is drawn or written: TRL refuses settings only where its configuration is made.
    sft_config(plan, directory.path, subject.loaded)
    searched = open_searched(inputs, subject)
    solutions = _solutions(inputs, subject, asker, searched, observe)
    examples = _examples(inputs, subject, asker, solutions)
    short = len(examples)
    if inputs.mixing == "progressive":
        examples += _long_examples(inputs, subject, asker, solutions)
    resolved = ShortenResolved(**resolved_fields(inputs, subject), completions=_digest(examples))
    if rank() == 0:
        settle(inputs, directory, resolved, subject)
    alike = Order(short, plan.examples, inputs.seed)
    order = Progressive(alike, inputs.steps) if inputs.mixing == "progressive" else alike
    journal = Journal(directory.shard, LossPoint) if rank() == 0 else None

    def tokens(step: int) -> int:
        return sum(len(examples[place].completion) for place in order(step))

    watch = LossWatch(journal, inputs.steps, tokens, observe)
    if journal is not None:
        watch.resumed(cut_curves(journal, directory.path))
    # Before the others look for a checkpoint: one of an earlier run may have been there.
    wait_for_the_first()
    trainer = fine_tune(subject.loaded, directory.path, plan, examples, order, watch)
    save_trained(trainer, directory.path, subject.loaded, inputs.lora)
    summary = _summary(inputs, subject, solutions, examples[:short], watch.points)
    if rank() == 0:
        write_derived(directory, summary, resolved, loss_picture(watch.points))
    return summary


def _solutions(
    inputs: ShortenInputs,
    subject: Subject,
    asker: Asker,
    searched: Searched | None,
    observe: Callable[[str, int, float], None],
) -> list[Solution]:
    """The solutions of all problems, drawn where they are not there yet: by the first process, read by the
    others. Those with thinking are a search's where one is given.

    Raises RunError for a directory whose completions are of another model, sampler, number, problem or search.
    """
    from pts.policies import policy_of

    path, modes = inputs.completions_directory(), modes_asked(asker, inputs.hybrid)
    problems = subject.problems if searched is None else searched.problems
    if rank() == 0:
        policy = policy_of(subject.loaded, subject.prompt_format, batch_rows=inputs.batch_rows)
        settings = {
            **drawn_by(inputs, subject),
            "sampling": inputs.sampling_settings(),
            "no_thinking_budget": inputs.short_budget(),
            "samples": inputs.samples,
            **({} if searched is None else searched.settings(inputs)),
        }

        def seen(tokens: int, share: float) -> None:
            observe("completions", tokens, share)

        with kept_draws(
            path, COMPLETIONS, settings, subject, lambda directory: solution_journal(directory).read()
        ) as directory:
            journal = solution_journal(directory)
            if searched is not None:
                searched_solutions(searched, inputs, subject, policy, asker, journal, seen)
            draw_solutions(
                problems,
                subject.digests,
                journal,
                policy,
                asker,
                modes,
                inputs.samples,
                derive_seed(inputs.seed, "completions"),
                seen,
            )
    wait_for_the_first()
    read = solution_journal(RunDirectory(path, COMPLETIONS, None)).read()
    kept = {(one.problem, one.mode): one for one in read}
    return [kept[problem.id, mode] for mode in modes for problem in problems]


def _examples(
    inputs: ShortenInputs, subject: Subject, asker: Asker, solutions: Sequence[Solution]
) -> list[Example]:
    """What is learnt. Raises DataError where too few problems have a right completion."""
    with_thinking = _with_thinking(solutions)
    solved = [one for one in with_thinking if one.shortest is not None]
    if len(solved) < FEWEST_SOLVED:
        raise DataError(_too_few(inputs, len(solved), len(with_thinking)))
    if inputs.from_search is not None and not any(one.dropped for one in solved):
        raise DataError(
            f"no sentence of {inputs.from_search} can go: each changes the chance of success by "
            f"{inputs.minimum_effect()} or more, or the model fails without it; give a larger "
            f"{setting('min_effect')}, or a run of more problems."
        )
    examples = examples_of(solutions, _prompts(subject), lead_of(asker))
    short = sum(not example.thinks for example in examples)
    logger.info(
        "%d of %d problems have a right completion, and their shortest is learnt%s%s.",
        len(solved),
        len(with_thinking),
        "" if inputs.from_search is None else f", {sum(bool(one.dropped) for one in solved)} of them shortened",
        f"; {short} are learnt without thinking too" if inputs.hybrid else "",
    )
    return examples


def _too_few(inputs: ShortenInputs, solved: int, asked: int) -> str:
    """What to say where too few problems have a right completion."""
    if inputs.from_search is not None:
        return (
            f"{solved} of {asked} problems have a right completion in {inputs.from_search} whose thinking "
            f"ends, and at least {FEWEST_SOLVED} are needed to learn from: search more problems, and train on "
            "as many."
        )
    return (
        f"{solved} of {asked} problems have a right completion among {inputs.samples} with thinking, and at "
        f"least {FEWEST_SOLVED} are needed to learn from: give more {setting('problems')} or easier ones, more "
        f"{setting('samples')}, or a larger {setting('budget')}. Other samples or another budget also need "
        f"another {setting('completions')}, or {inputs.completions_directory()} deleted."
    )


def _long_examples(
    inputs: ShortenInputs, subject: Subject, asker: Asker, solutions: Sequence[Solution]
) -> list[Example]:
    """The longest right completions, in the order of what is learnt of the short ones.

    Raises RunError where an earlier version kept the short ones alone.
    """
    if any(one.longest is None and one.shortest is not None for one in solutions):
        raise RunError(
            f"{inputs.completions_directory()} is of an earlier version, which kept the shortest completions "
            f"alone: give another {setting('completions')}, or delete that directory to draw them again."
        )
    return examples_of(solutions, _prompts(subject), lead_of(asker), "longest")


def _prompts(subject: Subject) -> dict[str, tuple[int, ...]]:
    return {
        problem.id: encode_prompt(subject.loaded.tokenizer, problem.query, subject.prompt_format)
        for problem in subject.problems
    }


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
        shortened=None if inputs.from_search is None else sum(bool(one.dropped) for one in with_thinking),
        dropped=None if inputs.from_search is None else sum(one.dropped for one in with_thinking),
    )
