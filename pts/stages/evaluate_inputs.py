"""What an evaluation is told, under the names of the command line and of a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pts.errors import ConfigError
from pts.evaluation.benchmarks import DEFAULT_BUDGET, Benchmark, find_benchmark
from pts.evaluation.lines import SWEEP
from pts.models.options import DtypeName, ModelOptions
from pts.models.prompt import PromptFormat
from pts.problems import ProblemSource
from pts.records import Sampling
from pts.runs.codec import to_json
from pts.stages.search_inputs import DEMO_BUDGET, short_name
from pts.stages.strategy_inputs import StrategyInputs

_SAMPLING = Sampling()


@dataclass(frozen=True, slots=True)
class EvaluateRun(StrategyInputs):
    """All inputs of an evaluation, under the names of the command line's options and a recipe's keys.

    `dataset` is a benchmark's name, a file or a hub id; `data` a file with a benchmark's schema to read in its
    place. `pattern` maps patterns of `vectors` to multiples of their calibrated strength (None: the first at
    1.0), `where` says where they are on. The parts of strategies hold in every line whose strategy uses them.
    `seeds` answers of every problem are drawn, by seeds from `seed` on. `sweep` are the fixed budgets of
    thinking that `baselines` add, as shares of `budget`, the total. None for `problems`, `budget`, `suffix` and
    `grader` is the benchmark's own; `output` None is evals/<model>-<dataset>. Raises ConfigError.
    """

    model: str = "demo"
    revision: str | None = None
    adapter: str | None = None
    device: str = "auto"
    dtype: DtypeName = "auto"
    trust_remote_code: bool = False
    batch_rows: int | None = None
    dataset: str = "demo"
    data: str | None = None
    config: str | None = None
    split: str | None = None
    dataset_revision: str | None = None
    question_field: str | None = None
    answer_field: str | None = None
    id_field: str | None = None
    choices_field: str | None = None
    problems: int | None = None
    levels: tuple[int, ...] | None = None
    grader: str | None = None
    grader_pattern: str | None = None
    system_prompt: str | None = None
    chat_template: bool = True
    suffix: str | None = None
    thinking: bool | None = None
    think_start: str | None = None
    think_end: str | None = None
    temperature: float = _SAMPLING.temperature
    top_p: float = _SAMPLING.top_p
    top_k: int = _SAMPLING.top_k
    min_p: float = _SAMPLING.min_p
    budget: int | None = None
    strategies: tuple[str, ...] = ("full", "nothink")
    vectors: str | None = None
    pattern: Mapping[str, float] | None = None
    where: Literal["gate", "always", "context"] = "gate"
    same_shape: bool = False
    baselines: bool = True
    sweep: tuple[float, ...] = SWEEP
    seeds: int = 3
    seed: int = 0
    output: Path | None = None
    fresh: bool = False

    def __post_init__(self) -> None:
        StrategyInputs.__post_init__(self)
        benchmark = self.benchmark()
        self.sampling()
        self.model_options()
        self.source()
        if self.data is not None and benchmark is None:
            raise ConfigError(
                f"data {self.data} takes the place of a named data set, and {self.dataset} is none: give the "
                "file as --dataset."
            )
        if self.levels is not None and self.dataset != "demo":
            raise ConfigError(f"levels are the demo's: {self.dataset} has none; leave --levels out.")
        if self.pattern and self.vectors is None:
            raise ConfigError(f"patterns ({', '.join(self.pattern)}) are a vector set's: give --vectors.")
        if self.where != "gate" and self.vectors is None:
            raise ConfigError(f"--where {self.where} is of a vector set: give one by --vectors.")
        for name, value in (("seeds", self.seeds), ("batch-rows", self.batch_rows)):
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}; it must be at least 1.")

    def benchmark(self) -> Benchmark | None:
        """The data set's entry in the list, None for a file or a hub id. Raises ConfigError."""
        return find_benchmark(self.dataset)

    def sampling(self) -> Sampling:
        """The sampler and the total limit. Raises ConfigError for a value outside its range."""
        benchmark, budget = self.benchmark(), self.budget
        if budget is None and self.model == "demo":
            budget = DEMO_BUDGET
        if budget is None:
            budget = DEFAULT_BUDGET if benchmark is None else benchmark.budget
        return Sampling(self.temperature, self.top_k, self.top_p, self.min_p, budget)

    def model_options(self) -> ModelOptions:
        """Which model to load, and how. Raises ConfigError for an unknown dtype."""
        return ModelOptions(
            self.model, self.revision, self.device, self.dtype, self.adapter, self.trust_remote_code
        )

    def prompt_format(self) -> PromptFormat:
        """How a question becomes a prompt; an empty suffix is none."""
        benchmark = self.benchmark()
        suffix = benchmark.suffix if self.suffix is None and benchmark is not None else self.suffix
        return PromptFormat(self.system_prompt, self.chat_template, suffix or None, self.thinking)

    def source(self) -> ProblemSource:
        """Where the problems come from, a benchmark's own place and number not yet filled in."""
        benchmark = self.benchmark()
        limit = benchmark.problems if self.problems is None and benchmark is not None else self.problems
        given = {} if self.levels is None else {"levels": self.levels}
        return ProblemSource(
            dataset=self.dataset,
            config=self.config,
            split=self.split,
            revision=self.dataset_revision,
            question_field=self.question_field,
            answer_field=self.answer_field,
            id_field=self.id_field,
            choices_field=self.choices_field,
            limit=limit,
            seed=self.seed,
            **given,
        )

    def directory(self) -> Path:
        """The run directory: `output`, or evals/<model>-<dataset>."""
        if self.output is not None:
            return self.output
        return Path("evals") / "-".join(dict.fromkeys((short_name(self.model), short_name(self.dataset))))

    def asked(self) -> dict[str, object]:
        """The configuration that every session of a run shares, as the manifest holds it."""
        own = {name: getattr(self, name) for name in _CONFIGURATION}
        return {**own, "sampling": to_json(self.sampling()), **self.strategy_settings()}


_CONFIGURATION = (
    "model",
    "revision",
    "adapter",
    "dtype",
    "dataset",
    "data",
    "config",
    "split",
    "dataset_revision",
    "question_field",
    "answer_field",
    "id_field",
    "choices_field",
    "levels",
    "grader",
    "grader_pattern",
    "system_prompt",
    "chat_template",
    "suffix",
    "thinking",
    "think_start",
    "think_end",
    "vectors",
    "pattern",
    "where",
    "seed",
)
