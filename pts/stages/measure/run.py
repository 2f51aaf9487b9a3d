"""The effect of a vector set measured on fresh problems, beside the model as it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pts.errors import ConfigError
from pts.evaluation.measured import LEVEL, Example, Measured
from pts.records import Problem, RolloutRequest
from pts.registered import registered_dataset
from pts.runs.codec import ShapeError, from_json
from pts.runs.search_run import SearchResolved
from pts.seeds import derive_seed
from pts.setting_names import setting
from pts.stages.measure.inputs import MeasureInputs
from pts.stats import bootstrap_mean_interval

if TYPE_CHECKING:
    from pts.evaluation.decoder import Decoder
    from pts.policies import Policy
    from pts.runs.directory import RunDirectory
    from pts.stages.measure.outcomes import Task
    from pts.stages.search.inputs import SearchInputs
    from pts.stages.search.reload import Loaded
    from pts.stages.shared.recorded import Recorded
    from pts.steering.vector_set import VectorSet


def measure_set(inputs: MeasureInputs, observe: Callable[[str, int, float], None] | None = None) -> Measured:
    """Decode fresh problems with and without a set, with common random numbers, and with random vectors in its
    place. Raises PtsError.

    `observe` is told of the phase, how many tokens more were generated, and the share of it that is done.
    The example is the first problem that only the steered model solved, where there is one.
    """
    from pts.calibration.set_controls import SetControls
    from pts.evaluation.decoder import Decoder
    from pts.stages.measure.outcomes import Task, kept_measurement
    from pts.stages.measure.record import record, write_figures
    from pts.stages.search.reload import inputs_from, load_inputs
    from pts.stages.shared.recorded_grader import check_references
    from pts.steering import interventions, load_vectors
    from pts.steering.vector_algebra import require_fits

    for name in ("examples", "record"):
        if getattr(inputs, name) and not Path(inputs.vectors).expanduser().is_dir():
            raise ConfigError(
                f"{setting(name, True)} writes into the set, and {inputs.vectors} is no directory: "
                "give a set of your own."
            )
    vectors = load_vectors(inputs.vectors)
    variant = interventions(vectors, inputs.strengths)
    settings, found, recorded = _origin(vectors, inputs)
    search_inputs = inputs_from(settings, f"{inputs.vectors} (provenance)")

    def read(count: int) -> list[Problem]:
        return _problems(inputs, search_inputs, count)

    problems = read(inputs.problems)
    model = search_inputs.model if inputs.model is None else inputs.model
    search_inputs = replace(
        search_inputs, model=model, device=inputs.device, trust_remote_code=inputs.trust_remote_code
    )
    search = load_inputs(search_inputs, found, recorded)
    check_references(search.grade, problems)
    require_fits(vectors, search.loaded, same_shape=inputs.same_shape)
    decoder = Decoder(
        search.loaded,
        search.sampling,
        search.prompt_format,
        search.grade,
        batch_rows=inputs.batch_rows,
        layers_path=vectors.model.layers_path,
    )
    if inputs.examples:
        _write_examples(inputs, decoder, vectors, problems)
    controls = SetControls(variant, inputs.seed)
    task = Task(decoder, controls, problems, inputs.samples, inputs.seed, inputs.random, inputs.race)
    if inputs.output is None:
        measured = _measure(inputs, search, task, None, observe)
    else:
        with kept_measurement(inputs.output, vectors, search, task, read) as directory:
            measured = _measure(inputs, search, task, directory, observe)
            write_figures(directory.path, measured)
    if inputs.record:
        record(inputs, vectors, search, problems, measured)
    return measured


def resume_note(inputs: MeasureInputs) -> str:
    """A sentence on what a stopped measurement leaves."""
    from pts.calibration.evaluator import Measurement
    from pts.runs.journal import Journal
    from pts.stages.measure.outcomes import MEASUREMENT

    if inputs.output is None:
        return f"nothing is kept without {setting('output')}."
    journal = inputs.output / MEASUREMENT.shard
    if not journal.exists():
        return "nothing had been measured yet."
    done = len(Journal(journal, Measurement).read())
    return f"{done} measurements are kept in {inputs.output}; the same command continues."


def _write_examples(
    inputs: MeasureInputs, decoder: Decoder, vectors: VectorSet, problems: Sequence[Problem]
) -> None:
    """Write examples of each pattern into the set; those of the pivots that it has stay as they are."""
    from pts.evaluation.steered_examples import read_examples, steered_examples, with_pivots, write_examples

    folder = Path(inputs.vectors).expanduser()
    made = steered_examples(decoder, vectors, problems, {}, inputs.seed)
    write_examples(folder, with_pivots(made, read_examples(folder)))


def _measure(
    inputs: MeasureInputs,
    search: Loaded,
    task: Task,
    directory: RunDirectory | None,
    observe: Callable[[str, int, float], None] | None,
) -> Measured:
    from pts.stages.measure.outcomes import measured_outcomes
    from pts.stages.measure.record import kept_example
    from pts.stages.shared.cut_completions import cut_of

    def tell(tokens: int, share: float) -> None:
        if observe is not None:
            observe("measuring", tokens, share)

    tell(0, 0.0)
    found = measured_outcomes(task, directory, tell)
    unsteered, steered = found.unsteered, found.steered
    search.warn_of_cut(f"{inputs.vectors}, measured", cut_of((unsteered, steered, *found.random)))
    low, high = bootstrap_mean_interval(steered.rates - unsteered.rates, LEVEL, inputs.seed)
    return Measured(
        unsteered,
        steered,
        steered.success - unsteered.success,
        low,
        high,
        (None if directory is None else kept_example(directory.path)) or _example(inputs, search, task),
        found.random,
        found.place,
    )


def _example(inputs: MeasureInputs, search: Loaded, task: Task) -> Example | None:
    """The first problem that only the steered model solved, of those tried."""
    with task.decoder.steered([task.controls.kept]) as policy:
        return _solved_steered_alone(inputs, search, policy, task.problems[:20])


def _solved_steered_alone(
    inputs: MeasureInputs, search: Loaded, policy: Policy, problems: Sequence[Problem]
) -> Example | None:
    requests = [
        RolloutRequest(
            policy.encode(problem),
            seed=derive_seed(inputs.seed, "example", problem.id),
            variant=variant,
            key=f"{index}/{variant}",
            sampling=search.sampling,
        )
        for index, problem in enumerate(problems)
        for variant in (0, 1)
    ]
    by_key = {rollout.request.key: rollout for rollout in policy.rollouts(requests)}
    for index, problem in enumerate(problems):
        pair = [by_key[f"{index}/{variant}"] for variant in (0, 1)]
        texts = [policy.decode(rollout.completion, search.sampling.stop) for rollout in pair]
        solved = [
            rollout.finish == "end" and search.grade(text, problem.answer)
            for rollout, text in zip(pair, texts, strict=True)
        ]
        if solved == [False, True]:
            return Example(problem.query, problem.answer, *texts)
    return None


def _origin(vectors: VectorSet, inputs: MeasureInputs) -> tuple[Mapping[str, object], SearchResolved, Recorded]:
    """The configuration of the set's search, what it found, and what it recorded. Raises ConfigError."""
    from pts.stages.shared.recorded import recorded_in

    settings, found = vectors.provenance.get("search"), vectors.provenance.get("found")
    if not isinstance(settings, Mapping) or not isinstance(found, Mapping):
        raise ConfigError(
            f"{inputs.vectors} does not say what search it is from: it cannot be measured by itself."
        )
    fields = {name: found[name] for name in SearchResolved.__slots__ if name in found}
    try:
        return settings, from_json(SearchResolved, fields), recorded_in(fields, inputs.vectors)
    except ShapeError as error:
        raise ConfigError(f"{inputs.vectors} does not say what search it is from ({error}).") from error


def _no_data_options(inputs: MeasureInputs) -> None:
    """Raises ConfigError for an option that is about a data set where none is named."""
    names = (
        "config",
        "split",
        "dataset_revision",
        "question_field",
        "answer_field",
        "id_field",
        "choices_field",
    )
    given = [name for name in names if getattr(inputs, name) is not None]
    if given:
        raise ConfigError(f"{setting(given[0])} needs a data set: name it with {setting('dataset')}.")


def _problems(inputs: MeasureInputs, search: SearchInputs, count: int) -> list[Problem]:
    """The first `count` of the problems to measure on."""
    from pts.problems import ProblemSource
    from pts.problems.benchmarks import BENCHMARKS, benchmark_problems, benchmark_source

    if inputs.dataset is None:
        _no_data_options(inputs)
    if inputs.dataset is None:
        registered = registered_dataset(search.dataset)
        if registered is not None:
            return registered.draw(registered.test_split, count, inputs.seed, search.levels)
        raise ConfigError(
            f"the set was made on {search.dataset}: name problems that nothing was chosen on by "
            f"{setting('dataset')} and {setting('split')}."
        )
    source = ProblemSource(
        dataset=inputs.dataset,
        config=inputs.config,
        split=inputs.split,
        revision=inputs.dataset_revision,
        question_field=inputs.question_field,
        answer_field=inputs.answer_field,
        id_field=inputs.id_field,
        choices_field=inputs.choices_field,
        limit=count,
        seed=inputs.seed,
    )
    benchmark = BENCHMARKS.get(inputs.dataset)  # a name stands for the split that is not searched
    if benchmark is not None:
        source = benchmark_source(benchmark, None, source)
    return list(benchmark_problems(benchmark, source).problems)
