"""The stage `eval`: strategies, steered and not, over a data set, to a run directory with table and figure."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pts.evaluation.items import Item
from pts.evaluation.summary import EvaluationSummary
from pts.evaluation.systems import Steering, System, compared
from pts.records import Completions
from pts.runs.codec import to_json
from pts.runs.directory import RunDirectory, open_run
from pts.runs.evaluation_run import DIGESTS, EVALUATION, EvaluationEnvironment, EvaluationResolved
from pts.runs.files import replace_text
from pts.runs.journal import Journal
from pts.runs.manifest import read_manifest
from pts.runs.settle import settle_manifest
from pts.stages.evaluate.answers import Answering, EvaluationProgress, Observe
from pts.stages.evaluate.engine import EvaluateHere, EvaluationFound, EvaluationTask
from pts.stages.evaluate.inputs import EvaluateInputs
from pts.stages.evaluate.jobs import AnswerJob
from pts.stages.evaluate.plan import EvaluationPlan, no_direction_test, plan_evaluation
from pts.stages.evaluate.thresholds import (
    answers_to_fit,
    chosen_thresholds,
    fit_jobs,
    fitted_options,
    to_fit,
)
from pts.stages.shared.cut_completions import warn_of_cut
from pts.stages.shared.recorded import recorded_by
from pts.stages.shared.recorded_layers import with_recorded_layers

if TYPE_CHECKING:
    from pts.evaluation.against import Besides
    from pts.evaluation.paired_systems import PairedSystems
    from pts.evaluation.summary import OtherSummary
    from pts.stages.evaluate.ray_evaluate import EvaluateOnRay

logger = logging.getLogger(__name__)


def run_evaluation(inputs: EvaluateInputs, observe: Observe | None = None) -> EvaluationSummary:
    """Do the evaluation that `inputs` describes, or what is left of it, and write its directory.

    Nothing is generated or written before model, vectors, data, reference answers, prompts and strategies have
    been found good. More problems, seeds or strategies extend a run. Raises PtsError.
    """
    with open_run(inputs.directory(), EVALUATION) as directory:
        inputs = with_recorded_layers(inputs, directory.manifest)
        plan = plan_evaluation(inputs, directory)
        if not plan.todo(plan.left_out):
            logger.info("%s: nothing is left to answer.", directory.path)
        else:
            plan = _evaluate(inputs, plan, directory, observe)
        summary = _write_derived(inputs, plan, directory)
        _warn_of_cut(inputs, plan, directory)
        return summary


def resume_note(inputs: EvaluateInputs) -> str:
    """A sentence on what a stopped evaluation leaves and how to go on with it."""
    path = inputs.directory()
    if read_manifest(path) is None:
        return "nothing had been written yet."
    again = "the same command without --fresh" if inputs.fresh else "the same command"
    done = len(Journal(path / EVALUATION.shard, Item).read())
    return f"{done} answers are kept in {path}; {again} continues."


def _evaluate(
    inputs: EvaluateInputs, plan: EvaluationPlan, directory: RunDirectory, observe: Observe | None
) -> EvaluationPlan:
    """Load the model and answer what is missing; the plan with what the model cannot run left out."""
    with _engine(inputs, plan, directory, observe) as engine:
        plan = replace(plan, left_out=engine.found.left_out)
        _settle_manifest(inputs, plan, directory, engine.found)
        to_ask = answers_to_fit(inputs, plan.to_fit_on, plan.items, plan.fits)
        total = plan.todo(plan.left_out) + len(to_ask)
        answering = Answering(plan.items, directory, total, observe)
        answering.keep(engine.answers(fit_jobs(inputs, plan.to_fit_on, plan.items, plan.fits)))
        fits = chosen_thresholds(inputs, plan.to_fit_on, plan.items, plan.fits)
        plan = replace(plan, fits={**plan.fits, **fits})
        _note_thresholds(plan, directory)
        systems = plan.kept_systems(plan.left_out)
        # Random routers last: their shares are those of the answers before.
        for routing in ("own", "random"):
            asked = [system for system in systems if system.routing == routing]
            answering.keep(engine.answers(_jobs(plan, asked, fitted_options(fits))))
    return plan


def _engine(
    inputs: EvaluateInputs, plan: EvaluationPlan, directory: RunDirectory, observe: Observe | None
) -> EvaluateHere | EvaluateOnRay:
    """The model with all strategies, here or on Ray. Raises PtsError."""
    task = EvaluationTask(
        inputs,
        recorded_by(None if inputs.fresh else directory.manifest, str(directory.path)),
        plan.grader_name,
        plan.systems,
        (*plan.problem_set.problems, *plan.to_fit_on),
        {name: plan.settings[name] for name in DIGESTS if name in plan.settings},
    )
    if inputs.ray is not None:
        from pts.stages.evaluate.ray_evaluate import EvaluateOnRay

        return EvaluateOnRay(task, max(1, plan.todo(plan.left_out)))

    def read(number: int, of: int) -> None:
        if observe is not None:
            observe(EvaluationProgress(number, of, 0, None))

    return EvaluateHere(task, plan.vectors, plan.options, plan.grader, read)


def _jobs(plan: EvaluationPlan, systems: Sequence[System], options: Mapping[str, float]) -> Iterator[AnswerJob]:
    """What each system is missing, those steered alike together; `options` are those that were fitted."""
    groups: dict[tuple[Steering, int | None], list[System]] = {}
    for system in systems:
        groups.setdefault((system.steering, system.control), []).append(system)
    for (steering, control), group in groups.items():
        variant = None if steering == "none" else 0 if control is None else 1 + control
        for system in group:
            wanted = tuple(plan.missing(system))
            shares = plan.router_shares(system)
            yield AnswerJob(system.name, system.strategy, wanted, variant, options, shares)


def _settle_manifest(
    inputs: EvaluateInputs, plan: EvaluationPlan, directory: RunDirectory, found: EvaluationFound
) -> None:
    """Write what the run is about, or compare it with what is written. Raises RunError where they differ."""
    resolved = EvaluationResolved(
        model_id=found.model_id,
        model_revision=found.model_revision,
        dtype=found.dtype,
        think_end=found.think_end,
        dataset_id=plan.problem_set.name,
        problem_schema=plan.problem_set.schema,
        grader=plan.grader_name,
        second_model=found.second_model,
        second_dtype=found.second_dtype,
        attention=found.attention,
        prompt_date=found.prompt_date,
        prompt_digest=found.prompt_digest,
    )
    environment = EvaluationEnvironment(
        device=found.device,
        batch_rows=inputs.batch_rows,
        problems=len(plan.problem_set.problems),
        seeds=inputs.seeds,
        lines=tuple(system.name for system in plan.systems),
        left_out=plan.left_out,
        thresholds={name: to_json(fit) for name, fit in plan.fits.items()},
    )
    settle_manifest(
        directory,
        settings=plan.settings,
        resolved=resolved,
        environment=environment,
        problems=list(plan.digests.values()),
        fresh=inputs.fresh,
    )


def _note_thresholds(plan: EvaluationPlan, directory: RunDirectory) -> None:
    """Keep the fits in the manifest: what is answered from now on goes by them."""
    manifest = directory.manifest
    assert manifest is not None
    fits = {name: to_json(fit) for name, fit in plan.fits.items()}
    if fits != manifest.environment.get("thresholds"):
        directory.write_manifest(replace(manifest, environment={**manifest.environment, "thresholds": fits}))


def _write_derived(inputs: EvaluateInputs, plan: EvaluationPlan, directory: RunDirectory) -> EvaluationSummary:
    """Write table and figure, unless they are there and right already; the run's summary."""
    from pts.report.evaluation_page import write_page

    summary = _summary(inputs, plan, directory)
    text = json.dumps(to_json(summary), ensure_ascii=False, indent=2) + "\n"
    paths = [directory.path / name for name in EVALUATION.derived]
    if not all(path.exists() for path in paths) or paths[-1].read_text(encoding="utf-8") != text:
        write_page(summary, directory.path)
        # Last: a summary that is up to date says that the others are.
        replace_text(paths[-1], text)
    return summary


def _warn_of_cut(inputs: EvaluateInputs, plan: EvaluationPlan, directory: RunDirectory) -> None:
    """Say it where a limit cut too many answers of a system: of the worst one, those of a fit included."""
    counted: dict[str, Completions] = {}
    for item in plan.items.values():
        counted[item.line] = counted.get(item.line, Completions()) + Completions(1, not item.ended)
    if counted:
        worst = max(counted, key=lambda system: counted[system].cut_share or 0.0)
        manifest = directory.manifest
        thinks = manifest is not None and manifest.resolved.get("think_end") is not None
        warn_of_cut(
            f"{directory.path}, system {worst}",
            counted[worst],
            inputs.sampling().budget,
            thinks=thinks and inputs.thinking is not False,
            runs_on=inputs.runs_on,
        )


def _data_name(inputs: EvaluateInputs, plan: EvaluationPlan) -> str:
    if inputs.benchmark() is None:
        return plan.problem_set.name
    return inputs.dataset if inputs.data is None else f"{Path(inputs.data).name} (read as {inputs.dataset})"


def _summary(inputs: EvaluateInputs, plan: EvaluationPlan, directory: RunDirectory) -> EvaluationSummary:
    from pts.evaluation.benchmarks import chance_level
    from pts.evaluation.direction import direction_test
    from pts.evaluation.estimates import LEVEL
    from pts.evaluation.readable import readable_successes
    from pts.evaluation.summary import compare_systems, frontiers_of, paired_systems, summarise_systems

    manifest = directory.manifest
    assert manifest is not None
    kept = plan.kept_systems(plan.left_out)
    systems = compared(kept)
    problems = plan.problem_set.problems
    ids = [problem.id for problem in problems]
    keys = [(system.name, key, k) for system in systems for key in ids for k in range(inputs.seeds)]
    items = {key: plan.items[key] for key in keys}
    controls = {
        (system.name, key, 0): plan.items[system.name, key, 0]
        for system in kept
        for key in ids
        if system.control is not None
    }
    every = {**items, **controls}
    levels = {each.id: str(each.metadata["level"]) for each in problems if "level" in each.metadata}
    paired = paired_systems(systems, ids, inputs.seeds, items, inputs.seed)
    other, everything, besides = _beside(inputs, plan, ids, paired, levels)
    return EvaluationSummary(
        model_id=str(manifest.resolved["model_id"]),
        dataset_id=_data_name(inputs, plan),
        grader=plan.grader_name,
        vectors=inputs.vectors,
        problems=len(problems),
        seeds=inputs.seeds,
        budget=inputs.sampling().budget,
        level=LEVEL,
        chance=chance_level(problems, plan.grader_name),
        items=len(every),
        tokens_generated=sum(item.ledger.total for item in every.values()),
        lines=tuple(summarise_systems(systems, paired, list(items.values()), levels)),
        comparisons=tuple(compare_systems(systems, everything, besides)),
        frontiers=frontiers_of(systems, paired),
        left_out=dict(plan.left_out),
        thresholds=tuple(plan.fits[name] for name in to_fit(inputs)),
        direction=direction_test(kept, ids, every, *_direction(inputs, plan)) if inputs.baselines else None,
        undecided=sum(item.undecided for item in items.values()),
        other=other,
        readable=tuple(readable_successes(systems, ids, inputs.seeds, items, inputs.seed)),
    )


def _beside(
    inputs: EvaluateInputs,
    plan: EvaluationPlan,
    ids: Sequence[str],
    paired: PairedSystems,
    levels: Mapping[str, str],
) -> tuple[OtherSummary | None, PairedSystems, Besides | None]:
    """The other run in numbers, both runs' systems in one, and where the other's stand in it."""
    from pts.evaluation.against import side_by_side
    from pts.evaluation.summary import OtherSummary, paired_systems, summarise_systems, sweep_of

    run = plan.other
    if run is None:
        return None, paired, None
    keys = [(system.name, key, k) for system in run.systems for key in ids for k in range(inputs.seeds)]
    items = {key: run.items[key] for key in keys}
    theirs = paired_systems(run.systems, ids, inputs.seeds, items, inputs.seed)
    both, besides = side_by_side(paired, theirs, run.systems, Path(run.path).resolve().name)
    rows = summarise_systems(run.systems, theirs, list(items.values()), levels)
    sweep = sweep_of(run.systems, "none")
    frontier = tuple(theirs.frontier(sweep)) if len(sweep) > 1 else ()
    return OtherSummary(run.path, run.model_id, tuple(rows), frontier), both, besides


def _direction(inputs: EvaluateInputs, plan: EvaluationPlan) -> tuple[int, str | None]:
    """How many methods the vector is the best of, and why its direction cannot be tested, if so."""
    vectors = plan.vectors
    if vectors is None:
        return 1, None
    pattern = next(iter(vectors.vectors if inputs.pattern is None else inputs.pattern))
    effect = vectors.effects.get(pattern)
    methods = max((each.methods for each in vectors.effects.values()), default=1)
    return (methods if effect is None else effect.methods), no_direction_test(inputs, vectors)
