"""The inputs of an evaluation, under the names of the command line and of a recipe."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from pts.errors import ConfigError
from pts.evaluation.benchmarks import DEFAULT_BUDGET, Benchmark, find_benchmark
from pts.evaluation.systems import SWEEP
from pts.models.prompt import PromptFormat
from pts.problems import ProblemSource
from pts.registered import registered_model
from pts.setting_names import setting
from pts.stages.decode.inputs import AnswerInputs
from pts.stages.shared.inputs import ProblemInputs, require_one_engine, require_positive
from pts.stages.shared.ray_inputs import RayInputs


@dataclass(frozen=True)
class EvaluateInputs(RayInputs, ProblemInputs, AnswerInputs):
    """All inputs of an evaluation, under the names of the command line's options and a recipe's keys.

    `dataset` is a benchmark's name, a file or a hub id; `data` a file with a benchmark's schema to read in its
    place. Options of strategies hold in every system whose strategy uses them. `seeds` answers of a problem
    are drawn, by seeds from `seed` on. `sweep` are the fixed budgets of thinking that `baselines` add, as
    shares of `budget`, the total. `against` is a finished evaluation of another model on the same problems,
    such as the unchanged one, to compare with. Thresholds that are not given are fitted on `fit_problems`
    others, of `fit_split` where it is named. None for `problems`, `budget`, `suffix` and `grader` is the
    benchmark's own; `output` None is evals/<model>-<dataset>. Raises ConfigError.
    """

    data: str | None = None
    strategies: tuple[str, ...] = ("full", "nothink")
    baselines: bool = True
    sweep: tuple[float, ...] = SWEEP
    seeds: int = 3
    fit_problems: int | None = None
    fit_split: str | None = None
    against: Path | None = None
    output: Path | None = None
    fresh: bool = False

    def __post_init__(self) -> None:
        if self.data is not None and self.benchmark() is None:
            raise ConfigError(
                f"{setting('data', self.data)} replaces the data of a named data set, and {self.dataset} is no "
                f"such name: give the file as {setting('dataset')}."
            )
        ProblemInputs.__post_init__(self)
        AnswerInputs.__post_init__(self)
        self.source()
        self.check_ray(self.device, self.model)
        require_one_engine(self.endpoint, self.ray)
        require_positive("seeds", self.seeds)
        require_positive("fit-problems", self.fit_problems)
        if self.fit_problems == 1:
            raise ConfigError("fit-problems is 1; thresholds are fitted on at least 2.")
        if self.sweep != SWEEP and not self.baselines:
            raise ConfigError(
                f"{setting('sweep')} adds fixed budgets, and {setting('baselines', False)} leaves them "
                "out: give one of the two."
            )
        if self.fit_split is not None and self.fit_problems is None:
            raise ConfigError(f"{setting('fit_split')} needs {setting('fit_problems')}: give it too.")

    def benchmark(self) -> Benchmark | None:
        """The data set's entry in the list, None for a file or a hub id. Raises ConfigError."""
        return find_benchmark(self.dataset)

    def default_budget(self) -> int:
        """The benchmark's own total; that of a registered model is its own everywhere."""
        benchmark = self.benchmark()
        if registered_model(self.model) is not None:
            return ProblemInputs.default_budget(self)
        return DEFAULT_BUDGET if benchmark is None else benchmark.budget

    def prompt_format(self) -> PromptFormat:
        """How a question becomes a prompt, with the benchmark's own suffix; an empty suffix is none."""
        benchmark, own = self.benchmark(), ProblemInputs.prompt_format(self)
        suffix = benchmark.suffix if self.suffix is None and benchmark is not None else self.suffix
        return replace(own, suffix=suffix or None)

    def source(self) -> ProblemSource:
        """Where the problems come from, a benchmark's own place not yet filled in."""
        benchmark, own = self.benchmark(), ProblemInputs.source(self)
        limit = benchmark.problems if self.problems is None and benchmark is not None else self.problems
        return replace(own, limit=limit)

    def directory(self) -> Path:
        """The run directory: `output`, or evals/<model>-<dataset>."""
        return self.named_directory("evals") if self.output is None else self.output

    def asks_router(self) -> bool:
        """Whether a strategy that is named puts questions in classes. Raises ConfigError for an unknown one."""
        from pts.decoding.registry import check_strategy, uses

        for spec in self.strategies:
            check_strategy(spec)
        return any(uses(spec, "router") for spec in self.strategies)

    def settings(self) -> dict[str, object]:
        """The configuration that every session of a run shares, as the manifest holds it."""
        own = {name: getattr(self, name) for name in _OWN}
        sampling = {"sampling": self.sampling_settings()}
        return {**self.configuration(), **own, **sampling, **self.strategy_settings()}


_OWN = ("data", "vectors", "pattern", "where", "layers_path", "seed", "fit_problems", "fit_split")
