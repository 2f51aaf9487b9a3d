"""The stage `eval`: strategies, steered and not, over a data set, to a run directory with table and figure."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pts.decoding.registry import make_strategy
from pts.decoding.strategy_options import StrategyOptions
from pts.errors import ConfigError, ModelError
from pts.evaluation.items import Item
from pts.evaluation.random_routing import with_random_router
from pts.evaluation.summary import EvaluationSummary
from pts.evaluation.systems import Steering, System, compared
from pts.records import Completions
from pts.runs.codec import to_json
from pts.runs.directory import RunDirectory, open_run
from pts.runs.evaluation_run import EVALUATION, EvaluationEnvironment, EvaluationResolved
from pts.runs.files import replace_text
from pts.runs.journal import Journal
from pts.runs.manifest import read_manifest
from pts.runs.settle import settle_manifest
from pts.stages.decode.decoder import make_decoder, open_model, warn_of_other_numbers
from pts.stages.decode.strategies import second_model_found, second_model_settled, with_second_model
from pts.stages.evaluate.answers import Answering, EvaluationProgress, Observe
from pts.stages.evaluate.inputs import EvaluateInputs
from pts.stages.evaluate.plan import EvaluationPlan, no_direction_test, plan_evaluation
from pts.stages.evaluate.thresholds import answers_to_fit, fit_thresholds, to_fit, with_thresholds
from pts.stages.shared.cut_completions import warn_of_cut
from pts.stages.shared.recorded import (
    dtype_name,
    recorded_by,
    recorded_options,
    settled_prompts,
)
from pts.stages.shared.recorded_layers import with_recorded_layers

if TYPE_CHECKING:
    from pts.decoding import Session
    from pts.decoding.steered_decoder import SteeredDecoder
    from pts.evaluation.against import Besides
    from pts.evaluation.paired_systems import PairedSystems
    from pts.evaluation.summary import OtherSummary
    from pts.steering.hooks import Variant
    from pts.steering.vector_set import VectorSet

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
    recorded = recorded_by(None if inputs.fresh else directory.manifest, str(directory.path))
    loaded = open_model(inputs, recorded_options(inputs.model_options(), recorded), plan.options)
    prompt_format, digest = settled_prompts(loaded.tokenizer, inputs.prompt_format(), recorded)
    decoder = make_decoder(inputs, loaded, plan.vectors, "full", StrategyOptions(), prompt_format)
    if plan.vectors is not None:
        warn_of_other_numbers(plan.vectors, loaded)
    variants = _variants(inputs, plan.vectors)
    date = prompt_format.written_on
    plan = replace(plan, options=with_second_model(plan.options, inputs, date or recorded.prompt_date))
    with decoder.session([]) as session:
        plan = replace(plan, left_out=_check(plan, session))
        _check_prompts(plan, session, observe)
    _settle_manifest(inputs, plan, directory, decoder, digest)
    total = plan.todo(plan.left_out) + len(answers_to_fit(inputs, plan.to_fit_on, plan.items, plan.fits))
    answering = Answering(inputs.seed, plan.grader, plan.grader_name, plan.items, directory, total, observe)
    with decoder.session([]) as session:
        fits = fit_thresholds(inputs, plan.options, session, plan.to_fit_on, plan.fits, answering)
    plan = replace(plan, fits={**plan.fits, **fits}, options=with_thresholds(plan.options, fits))
    _note_thresholds(plan, directory)
    systems = plan.kept_systems(plan.left_out)
    # Apart, so that no hook is on the model but those of what is steered.
    groups: dict[tuple[Steering, int | None], list[System]] = {}
    for system in systems:
        groups.setdefault((system.steering, system.control), []).append(system)
    for (steering, control), group in groups.items():
        variant = None if steering == "none" else variants[0 if control is None else 1 + control]
        with decoder.session([] if variant is None else [variant]) as session:
            for system in group:
                _answer_system(plan, system, session, answering)
    return plan


def _settle_manifest(
    inputs: EvaluateInputs, plan: EvaluationPlan, directory: RunDirectory, decoder: SteeredDecoder, digest: str
) -> None:
    """Write what the run is about, or compare it with what is written. Raises RunError where they differ."""
    second_dtype, second_date = second_model_settled(plan.options)
    resolved = EvaluationResolved(
        model_id=decoder.model.model_id,
        model_revision=decoder.model.revision,
        dtype=dtype_name(decoder.model),
        think_end=None if decoder.think is None else decoder.think.end,
        dataset_id=plan.problem_set.name,
        problem_schema=plan.problem_set.schema,
        grader=plan.grader_name,
        second_model=second_model_found(plan.options),
        second_dtype=second_dtype,
        attention=decoder.model.attention,
        prompt_date=decoder.prompt_format.written_on or second_date,
        prompt_digest=digest,
    )
    environment = EvaluationEnvironment(
        device=str(decoder.model.device),
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


def _variants(inputs: EvaluateInputs, vectors: VectorSet | None) -> list[Variant]:
    """The vectors, then each of their calibrated random directions, added in the same way."""
    from pts.steering import interventions
    from pts.steering.vector_algebra import control_sets

    if vectors is None:
        return []
    pattern = next(iter(vectors.vectors if inputs.pattern is None else inputs.pattern))
    sets = [vectors, *([] if no_direction_test(inputs, vectors) else control_sets(vectors, pattern))]
    return [interventions(each, inputs.pattern, gated=inputs.where == "gate") for each in sets]


def _check(plan: EvaluationPlan, session: Session) -> dict[str, str]:
    """The systems that do not fit the model, with the reasons. Raises ConfigError for one that was named."""
    unfit: dict[str, str] = {}
    for strategy in dict.fromkeys(system.strategy for system in plan.systems):
        try:
            make_strategy(strategy, plan.options).check(session)
        except (ConfigError, ModelError) as error:
            if strategy in {system.strategy for system in plan.systems if system.asked}:
                raise
            unfit[strategy] = str(error)
    left_out = {system.name: unfit[system.strategy] for system in plan.systems if system.strategy in unfit}
    if left_out:
        logger.warning(
            "baselines left out: %s: %s", ", ".join(left_out), next(iter(left_out.values())).rstrip(".")
        )
    return left_out


def _check_prompts(plan: EvaluationPlan, session: Session, observe: Observe | None) -> None:
    """Raise PtsError for a problem that a system's strategy cannot read."""
    strategies = [make_strategy(system.strategy, plan.options) for system in plan.kept_systems(plan.left_out)]
    readers = dict.fromkeys(reader for strategy in strategies for reader in strategy.readers(session))
    problems = (*plan.problem_set.problems, *plan.to_fit_on)
    for number, problem in enumerate(problems, start=1):
        for reader, fmt in readers:
            reader.encode(problem.query, fmt)
        if observe is not None:
            observe(EvaluationProgress(number, len(problems), 0, None))


def _note_thresholds(plan: EvaluationPlan, directory: RunDirectory) -> None:
    """Keep the fits in the manifest: what is answered from now on goes by them."""
    manifest = directory.manifest
    assert manifest is not None
    fits = {name: to_json(fit) for name, fit in plan.fits.items()}
    if fits != manifest.environment.get("thresholds"):
        directory.write_manifest(replace(manifest, environment={**manifest.environment, "thresholds": fits}))


def _answer_system(plan: EvaluationPlan, system: System, session: Session, answering: Answering) -> None:
    """Answer what a system is missing."""
    shares, options = plan.router_shares(system), plan.options
    if shares is not None:
        options = with_random_router(options, shares, answering.seed)
    strategy = make_strategy(system.strategy, options)
    variant = 0 if system.steering == "none" else 1
    answering.answer(system.name, strategy, plan.missing(system), session, variant, shares)


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
