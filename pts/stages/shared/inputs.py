"""Inputs that stages share, under the names of the command line's options and a recipe's keys."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pts.data_files import text_fault
from pts.errors import ConfigError
from pts.models.options import DtypeName, ModelOptions
from pts.models.prompt import PromptFormat
from pts.policies.open import ENGINES, TRANSFORMERS, VLLM
from pts.problems import ProblemSource
from pts.records import Sampling
from pts.registered import registered_dataset, registered_model
from pts.runs.codec import to_json
from pts.setting_names import setting

DEFAULT_BUDGET = 512

_SAMPLING = Sampling()


@dataclass(frozen=True)
class ModelInputs:
    """Which model writes, on which engine, how it is asked, and how it samples.

    `batch_rows` bounds the rows of a batch, None by memory. `budget` is the new tokens of a completion, None
    for the model's own where it is registered (96 for the demo), else 512; `stop` are texts that end one.
    `endpoint` is the address of a vLLM server that runs already, whose answers may take `endpoint_timeout`
    seconds (None: 600).
    Raises ConfigError for a value outside its range.
    """

    model: str | None = "demo"
    engine: str = TRANSFORMERS
    endpoint: str | None = None
    endpoint_timeout: float | None = None
    revision: str | None = None
    adapter: str | None = None
    device: str = "auto"
    dtype: DtypeName = "auto"
    trust_remote_code: bool = False
    batch_rows: int | None = None
    system_prompt: str | None = None
    chat_template: bool = True
    suffix: str | None = None
    thinking: bool | None = None
    thinking_switch: str | None = None
    template_options: tuple[str, ...] = ()
    think_start: str | None = None
    think_end: str | None = None
    temperature: float = _SAMPLING.temperature
    top_p: float = _SAMPLING.top_p
    top_k: int = _SAMPLING.top_k
    min_p: float = _SAMPLING.min_p
    budget: int | None = None
    stop: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        self.sampling()
        self.model_options()
        if self.engine not in ENGINES:
            raise ConfigError(f"engine is {self.engine}; choose from {', '.join(ENGINES)}.")
        check_endpoint(self.engine, self.endpoint, self.endpoint_timeout)
        if self.endpoint is not None and self.device != "auto":
            raise ConfigError(f"a server chose its own device: leave {setting('device')} out.")
        require_positive("batch-rows", self.batch_rows)
        texts = [
            (name, getattr(self, name)) for name in ("system_prompt", "suffix", "think_start", "think_end")
        ]
        for name, text in [*texts, *(("stop", text) for text in self.stop)]:
            fault = text_fault(text or "")
            if fault is not None:
                raise ConfigError(f"{setting(name)} {fault}; give it as whole UTF-8 text.")

    def server(self) -> dict[str, object]:
        """The server that generates, as options of its policy; empty where the engine is in this process."""
        return server_options(self.endpoint, self.endpoint_timeout)

    def default_budget(self) -> int:
        """What `budget` is where it is None."""
        registered = None if self.model is None else registered_model(self.model)
        return DEFAULT_BUDGET if registered is None else registered.budget

    def sampling(self) -> Sampling:
        """The sampler and the budget. Raises ConfigError for a value outside its range."""
        budget = self.default_budget() if self.budget is None else self.budget
        return Sampling(self.temperature, self.top_k, self.top_p, self.min_p, budget, self.stop)

    @property
    def runs_on(self) -> bool:
        """Whether neither a chat template nor a stop text tells the model that its answer is over."""
        return not self.chat_template and not self.stop

    def sampling_settings(self) -> dict[str, object]:
        """The sampler as a manifest holds it: stop texts only where given, so that earlier runs go on."""
        settings = to_json(self.sampling())
        assert isinstance(settings, dict)
        return {name: value for name, value in settings.items() if name != "stop" or value}

    def model_options(self) -> ModelOptions:
        """Which model to load, and how. Raises ConfigError for an unknown dtype."""
        spec = "demo" if self.model is None else self.model
        return ModelOptions(spec, self.revision, self.device, self.dtype, self.adapter, self.trust_remote_code)

    def prompt_format(self) -> PromptFormat:
        """How a question becomes a prompt."""
        return PromptFormat(
            self.system_prompt,
            self.chat_template,
            self.suffix,
            self.thinking,
            thinking_switch=self.thinking_switch,
            template_options=tuple(self.template_options),
        )


@dataclass(frozen=True)
class ProblemInputs(ModelInputs):
    """Which problems a model is asked, too: `problems` bounds their number, None for no bound.

    `levels` choose among the problems of a registered data set, such as the demo. Raises ConfigError for a
    value outside its range.
    """

    model: str = "demo"
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

    def __post_init__(self) -> None:
        ModelInputs.__post_init__(self)
        require_positive("problems", self.problems)
        if self.levels is not None and registered_dataset(self.dataset) is None:
            raise ConfigError(f"the data set {self.dataset} has no levels; leave {setting('levels')} out.")

    def source(self) -> ProblemSource:
        """Where the problems come from. Raises ConfigError for a value outside its range."""
        return ProblemSource(
            dataset=self.dataset,
            config=self.config,
            split=self.split,
            revision=self.dataset_revision,
            question_field=self.question_field,
            answer_field=self.answer_field,
            id_field=self.id_field,
            choices_field=self.choices_field,
            limit=self.problems,
            seed=self.seed,
            levels=self.levels,
        )

    def named_directory(self, parent: str) -> Path:
        """The run directory under `parent` that is named after model and data set."""
        names = (_short_name(self.model), _short_name(self.dataset))
        return Path(parent) / "-".join(dict.fromkeys(names))

    def configuration(self) -> dict[str, object]:
        """What decides the completions of a problem but for the sampler, as a manifest holds it."""
        later = {name: getattr(self, name) for name in _GIVEN_ONLY if getattr(self, name)}
        if self.engine != TRANSFORMERS:
            later["engine"] = self.engine
        return {**{name: getattr(self, name) for name in _CONFIGURATION}, **later}


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

_GIVEN_ONLY = ("thinking_switch", "template_options")
"""Settings that a manifest holds only where they are given, so that earlier runs without them go on."""


def check_endpoint(engine: str, endpoint: str | None, timeout: float | None) -> None:
    """Raise ConfigError for an endpoint that is none, and for what has no use without one."""
    if endpoint is None:
        if timeout is not None:
            raise ConfigError(f"{setting('endpoint_timeout')} needs a server: give its {setting('endpoint')}.")
        return
    if engine != VLLM:
        raise ConfigError(f"{setting('endpoint')} is of a vLLM server: give {setting('engine', VLLM)}, too.")
    from pts.policies.vllm.http_client import checked_address, require_timeout

    checked_address(endpoint)
    if timeout is not None:
        require_timeout(timeout)


def server_options(endpoint: str | None, timeout: float | None) -> dict[str, object]:
    """A server as options of its policy; empty where there is none."""
    if endpoint is None:
        return {}
    return {"endpoint": endpoint, **({} if timeout is None else {"timeout": timeout})}


def require_one_engine(endpoint: str | None, ray: str | None) -> None:
    """Raise ConfigError where both a server and Ray are to generate."""
    if endpoint is not None and ray is not None:
        raise ConfigError(
            f"{setting('endpoint')} is one engine for all, and {setting('ray')} starts one in each worker: "
            "give one of the two."
        )


def require_positive(name: str, value: int | None) -> None:
    """Raise ConfigError for a number below 1."""
    if value is not None and value < 1:
        raise ConfigError(f"{name} is {value}; it must be at least 1.")


def _short_name(spec: str) -> str:
    """A model or data set spec as part of a directory's name."""
    name = Path(spec).name
    for suffix in (".gguf", ".jsonl", ".json", ".csv", ".parquet"):
        name = name.removesuffix(suffix)
    return re.sub(r"[^A-Za-z0-9._]+", "-", name).strip("-.").lower() or "run"
