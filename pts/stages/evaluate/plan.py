"""What an evaluation has to do: its problems, the systems of its table, and the answers still missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pts.errors import RunError
from pts.evaluation.against import OtherRun
from pts.evaluation.items import Item, Key
from pts.evaluation.random_routing import shares_of
from pts.evaluation.systems import System, plan_systems
from pts.evaluation.thresholds import ThresholdFit
from pts.records import Problem
from pts.runs.codec import from_json
from pts.runs.directory import RunDirectory
from pts.runs.journal import Journal
from pts.runs.manifest import Manifest
from pts.setting_names import setting
from pts.stages.evaluate.against import other_run
from pts.stages.evaluate.answers import item_digest
from pts.stages.evaluate.inputs import EvaluateInputs
from pts.stages.evaluate.thresholds import is_fit, require_same_problems, threshold_problems, to_fit
from pts.stages.fit_router.fitted_on import require_unseen
from pts.stages.shared.recorded_grader import check_references, graded_by

if TYPE_CHECKING:
    from pts.decoding.strategy_options import StrategyOptions
    from pts.graders import Grader
    from pts.problems import ProblemSet
    from pts.steering.vector_set import VectorSet


@dataclass(frozen=True, slots=True)
class EvaluationPlan:
    """The configuration, the problems, the systems of the table, the answers there are, the others' grader.

    `options` are what the strategies are built from; a second model joins them when the models are loaded.
    `items` is by key and grows; `left_out` are systems that the model cannot run, with the reasons. `fits` are
    thresholds that were fitted, on `to_fit_on`. `other` is the run of another model to compare with.
    """

    settings: Mapping[str, object]
    vectors: VectorSet | None
    options: StrategyOptions
    problem_set: ProblemSet
    grader_name: str
    grader: Grader
    systems: tuple[System, ...]
    seeds: int
    digests: Mapping[str, str]
    items: dict[Key, Item]
    left_out: Mapping[str, str]
    to_fit_on: Sequence[Problem]
    fits: Mapping[str, ThresholdFit]
    other: OtherRun | None = None

    def kept_systems(self, left_out: Mapping[str, str]) -> list[System]:
        """The systems that the model can run."""
        return [system for system in self.systems if system.name not in left_out]

    def todo(self, left_out: Mapping[str, str]) -> int:
        """How many answers are missing."""
        return sum(len(self.missing(system)) for system in self.kept_systems(left_out))

    def missing(self, system: System) -> list[tuple[Problem, int]]:
        """The problems and seeds that a system has no answer to; not those at other router shares."""
        shares = self.router_shares(system)
        return [
            (problem, k)
            for problem in self.problem_set.problems
            for k in range(1 if system.control is not None else self.seeds)
            if (item := self.items.get((system.name, problem.id, k))) is None or item.router_shares != shares
        ]

    def router_shares(self, system: System) -> Mapping[str, float] | None:
        """What a random router is given: the shares of the system's own router on the same questions."""
        if system.routing == "own":
            return None
        own = System(system.strategy, system.steering).name
        keys = [(own, problem.id, k) for problem in self.problem_set.problems for k in range(self.seeds)]
        return shares_of(self.items[key] for key in keys if key in self.items)


def plan_evaluation(inputs: EvaluateInputs, directory: RunDirectory) -> EvaluationPlan:
    """Read and check the data, and compare with the run that is there. Raises PtsError."""
    from pts.evaluation.benchmarks import benchmark_problems, benchmark_source
    from pts.graders import make_grader
    from pts.stages.decode.strategies import strategy_options
    from pts.steering.vector_files import load_vectors

    benchmark, budget = inputs.benchmark(), inputs.sampling().budget
    vectors = None if inputs.vectors is None else load_vectors(inputs.vectors, inputs.vectors_revision)
    controls = _controls(inputs, vectors)
    systems = tuple(
        plan_systems(inputs.strategies, vectors is not None, inputs.baselines, budget, inputs.sweep, controls)
    )
    options = strategy_options(inputs, inputs.strategies, vectors, same_shape=inputs.same_shape)
    settings = {**inputs.settings(), **part_digests(inputs, vectors, options)}
    earlier = None if inputs.fresh else directory.manifest
    if earlier is not None:
        directory.require_same("configuration", earlier.settings, settings)
    source = inputs.source()
    if benchmark is not None:
        source = benchmark_source(benchmark, inputs.data, source)
    problem_set = benchmark_problems(benchmark, source)
    require_unseen(options.router, problem_set.problems)
    fitting = problem_set.grader if benchmark is None else benchmark.grader
    name = graded_by(inputs.grader, earlier, fitting)
    grader = make_grader(name, pattern=inputs.grader_pattern)
    to_fit_on = threshold_problems(inputs, problem_set) if to_fit(inputs) else []
    check_references(grader, (*problem_set.problems, *to_fit_on), earlier, name)
    digests = {problem.id: item_digest(problem) for problem in problem_set.problems}
    items: dict[Key, Item] = {}
    left_out: Mapping[str, str] = {}
    fits: Mapping[str, ThresholdFit] = {}
    if earlier is not None:
        items = {item.key: item for item in Journal(directory.shard, Item).read()}
        left_out = _earlier(Mapping[str, str], earlier, "left_out")
        fits = _earlier(Mapping[str, ThresholdFit], earlier, "thresholds")
        require_same_problems(inputs, to_fit_on, fits)
        _require_same_problems(directory, items, digests)
    return EvaluationPlan(
        settings,
        vectors,
        options,
        problem_set,
        name,
        grader,
        systems,
        inputs.seeds,
        digests,
        items,
        left_out,
        to_fit_on,
        fits,
        other_run(inputs, digests, name),
    )


def part_digests(
    inputs: EvaluateInputs, vectors: VectorSet | None, options: StrategyOptions
) -> dict[str, object]:
    """The digests of what comes from files: the vectors, their random directions, router and scorer."""
    from pts.stages.decode.strategies import options_digests
    from pts.steering.vector_files import controls_digest, vectors_digest

    digests: dict[str, object] = {
        "vectors_digest": None if vectors is None else vectors_digest(vectors),
        "parts_digests": options_digests(options, inputs),
    }
    if vectors is not None and _controls(inputs, vectors):
        digests["controls_digest"] = controls_digest(vectors)
    return digests


def _controls(inputs: EvaluateInputs, vectors: VectorSet | None) -> int:
    """How many random directions are evaluated beside the vectors."""
    return 0 if vectors is None or no_direction_test(inputs, vectors) else len(vectors.controls)


def no_direction_test(inputs: EvaluateInputs, vectors: VectorSet) -> str | None:
    """Why the set's random directions cannot answer for what is steered with; None where they can."""
    if inputs.pattern is not None and len(inputs.pattern) != 1:
        return "several patterns are added at once, and each random direction was calibrated alone"
    if not vectors.controls:
        return "the set has no random directions that were calibrated as its vectors were; extract it again"
    return None


def _earlier(kind: Any, earlier: Manifest, name: str) -> Any:
    """What an earlier session's conditions say under a name; nothing where they do not."""
    return from_json(kind, earlier.environment.get(name, {}), name)


def _require_same_problems(
    directory: RunDirectory, items: Mapping[Key, Item], digests: Mapping[str, str]
) -> None:
    """Raise RunError where a problem is no longer the one that was answered."""
    for item in items.values():
        if not is_fit(item.line) and digests.get(item.problem, item.digest) != item.digest:
            raise RunError(
                f"{directory.path} was made with other data: problem {item.problem} changed since. "
                f"Give another {setting('output')}, or {setting('fresh', True)} to delete that run and "
                "start again."
            )
