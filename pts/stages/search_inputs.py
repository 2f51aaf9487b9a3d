"""What a search is told, under the names of the command line and of a recipe."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pts.errors import ConfigError
from pts.models.options import DtypeName, ModelOptions
from pts.records import Sampling
from pts.runs.codec import to_json
from pts.search.config import SearchConfig

DEFAULT_BUDGET, DEMO_BUDGET = 512, 96

_SAMPLING, _SEARCH = Sampling(), SearchConfig()


@dataclass(frozen=True, slots=True)
class SearchRun:
    """All inputs of a search, under the names of the command line's options and a recipe's keys.

    `range` bounds the prompt's value and `region` the searched part of each trace, as fractions; `problems`
    and `max_tokens` (generated tokens) bound the run, None for no bound; `budget` is None for 512, or 96 for
    the demo model; `output` is None for runs/<model>-<dataset>. `fresh` deletes an earlier run of the same
    directory first. Raises ConfigError for a value outside its range.
    """

    model: str = "demo"
    revision: str | None = None
    adapter: str | None = None
    device: str = "auto"
    dtype: DtypeName = "auto"
    trust_remote_code: bool = False
    batch_rows: int | None = None
    dataset: str = "demo"
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
    threshold: float = _SEARCH.threshold
    fdr: float = _SEARCH.fdr
    range: tuple[float, float] = _SEARCH.value_range
    traces: int = _SEARCH.traces
    traces_from: Path | None = None
    region: tuple[float, float] = _SEARCH.region
    max_tokens: int | None = None
    seed: int = 0
    output: Path | None = None
    fresh: bool = False

    def __post_init__(self) -> None:
        self.sampling()
        self.search_config()
        self.model_options()
        if self.temperature == 0 or self.top_k == 1:
            raise ConfigError("a greedy sampler never leaves its one completion, so no token can be pivotal.")
        if self.levels is not None and self.dataset != "demo":
            raise ConfigError(f"levels are the demo's: {self.dataset} has none; leave --levels out.")
        for name, value in (("problems", self.problems), ("batch-rows", self.batch_rows)):
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}; it must be at least 1.")

    def sampling(self) -> Sampling:
        """The sampler and the budget. Raises ConfigError for a value outside its range."""
        budget = self.budget
        if budget is None:
            budget = DEMO_BUDGET if self.model == "demo" else DEFAULT_BUDGET
        return Sampling(self.temperature, self.top_k, self.top_p, self.min_p, budget)

    def model_options(self) -> ModelOptions:
        """Which model to load, and how. Raises ConfigError for an unknown dtype."""
        return ModelOptions(
            self.model, self.revision, self.device, self.dtype, self.adapter, self.trust_remote_code
        )

    def search_config(self) -> SearchConfig:
        """What the search itself is told. Raises ConfigError for a value outside its range."""
        return SearchConfig(
            self.threshold, self.fdr, self.range, self.traces, self.region, self.max_tokens, self.seed
        )

    def directory(self) -> Path:
        """The run directory: `output`, or runs/<model>-<dataset>."""
        if self.output is not None:
            return self.output
        names = (short_name(self.model), short_name(self.dataset))
        return Path("runs") / "-".join(dict.fromkeys(names))

    def asked(self) -> dict[str, object]:
        """The configuration that every session of a run shares, as the manifest holds it."""
        own = {name: getattr(self, name) for name in _CONFIGURATION}
        search = to_json(self.search_config())
        assert isinstance(search, dict)
        del search["max_tokens"]
        return {**own, "sampling": to_json(self.sampling()), "search": search}


_CONFIGURATION = (
    "model",
    "revision",
    "adapter",
    "dtype",
    "dataset",
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
)


def short_name(spec: str) -> str:
    """A model or data set spec as part of a directory's name."""
    name = Path(spec).name
    for suffix in (".gguf", ".jsonl", ".json", ".csv", ".parquet"):
        name = name.removesuffix(suffix)
    return re.sub(r"[^A-Za-z0-9._]+", "-", name).strip("-.").lower() or "run"
