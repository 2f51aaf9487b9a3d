"""The inputs of a training run, under the names of the command line and of a recipe."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from pts.errors import ConfigError
from pts.records import Sampling
from pts.registered import registered_dataset, registered_model
from pts.setting_names import setting
from pts.stages.decode.strategy_inputs import AmountText, amount
from pts.stages.shared.inputs import ProblemInputs, require_positive

SCHEDULES = ("constant", "linear", "cosine")
"""How the learning rate goes on after it has risen."""
_OF_TRL = {"constant": "constant_with_warmup"}
FORMS = ("sequence", "full")
REFERENCE_KINDS = ("unchanged", "own")
GENERATIONS = ("pts", "trl")
_REGISTERED_PROBLEMS = 1000
"""Problems of a data set that is drawn from a seed, where no number is given."""
_SMALL_RATE, _RATE, _LORA_RATE = 1e-3, 2e-6, 2e-5
"""Learning rates of the demo model, of a model, and of an adapter, where none is given."""
_SMOKE = {"steps": 3, "prompts": 2, "samples": 4, "problems": 8, "save_every": 2}


@dataclass(frozen=True)
class TrainingInputs(ProblemInputs):
    """What every kind of training takes.

    `steps` updates, each on `prompts` problems with `samples` completions. `learning_rate` None is 1e-3 for the
    demo, 2e-6 for another model and 2e-5 for an adapter; it rises over `warmup` steps and then goes by
    `schedule`. `clip` bounds the importance ratio. `budget` is the longest completion, `no_thinking_budget` (in
    tokens, or a share of it) the longest without thinking. Completions are sampled at `temperature`, with
    nothing truncated. `lora` trains an adapter of rank `lora_rank`, which is merged in the end. `generation` is
    what draws them: our own policy, or TRL (with `use_vllm` among `trl_settings`, vLLM). `smoke` makes all of
    it small. `output` is None for models/<model>-<method>. Raises ConfigError for a value outside its range.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    steps: int = 120
    prompts: int = 16
    samples: int = 8
    learning_rate: float | None = None
    schedule: str = "constant"
    warmup: int = 5
    clip: float = 0.2
    no_thinking_budget: AmountText = "0.25"
    save_every: int = 50
    micro_batch: int | None = None
    lora: bool = False
    lora_rank: int = 16
    gradient_checkpointing: bool = False
    generation: str = "pts"
    trl_settings: tuple[str, ...] = ()
    smoke: bool = False
    output: Path | None = None
    fresh: bool = False

    def __post_init__(self) -> None:
        ProblemInputs.__post_init__(self)
        for name in ("steps", "prompts", "samples", "save_every", "micro_batch", "lora_rank"):
            require_positive(name.replace("_", "-"), getattr(self, name))
        if self.samples < 2:
            raise ConfigError(f"samples is {self.samples}; it must be at least 2: completions are compared.")
        if self.temperature == 0 or (self.top_p, self.top_k, self.min_p) != (1.0, 0, 0.0):
            raise ConfigError(
                "training samples from the whole distribution, or its ratios would be to another policy: give "
                f"a {setting('temperature')} above 0, and no {setting('top_p')}, {setting('top_k')} or "
                f"{setting('min_p')}."
            )
        if self.stop:
            raise ConfigError(f"a stop text would end what is learnt: leave {setting('stop')} out.")
        for name, value, choices in (
            ("schedule", self.schedule, SCHEDULES),
            ("generation", self.generation, GENERATIONS),
        ):
            if value not in choices:
                raise ConfigError(f"{name} is {value}; choose from {', '.join(choices)}.")
        if self.learning_rate is not None and not self.learning_rate > 0:
            raise ConfigError(f"learning-rate is {self.learning_rate}; it must be above 0.")
        if not 0 < self.clip < 1:
            raise ConfigError(f"clip is {self.clip}; it must be between 0 and 1.")
        if self.engine != "transformers":
            raise ConfigError(
                f"training holds the model itself: leave {setting('engine')} out (vLLM beside it: "
                f"{setting('generation', 'trl')})."
            )
        self.short_budget()

    @property
    def method(self) -> str:
        """The kind of training, as its command is called."""
        raise NotImplementedError

    def effective(self) -> Self:
        """The inputs as they count: small ones for `smoke`."""
        if not self.smoke:
            return self
        small = {name: min(value, getattr(self, name) or value) for name, value in _SMOKE.items()}
        return replace(self, **small)  # type: ignore[arg-type]

    def rate(self) -> float:
        """The learning rate."""
        if self.learning_rate is not None:
            return self.learning_rate
        if registered_model(self.model) is not None:
            return _SMALL_RATE
        return _LORA_RATE if self.lora else _RATE

    def trl_schedule(self) -> str:
        """The schedule by TRL's name."""
        return _OF_TRL.get(self.schedule, self.schedule)

    def short_budget(self) -> int:
        """The longest completion without thinking, in tokens."""
        return _tokens("no_thinking_budget", self.no_thinking_budget, self.sampling().budget)

    def bounded(self) -> Self:
        """The inputs with a number of problems where the data set would draw few by itself."""
        if self.problems is not None or registered_dataset(self.dataset) is None:
            return self
        return replace(self, problems=_REGISTERED_PROBLEMS)

    def decoding(self) -> Sampling:
        """The sampler of answers, by which the share of no thinking is reported too."""
        return Sampling(budget=self.sampling().budget)

    def directory(self) -> Path:
        """The run directory, which is the trained model's too."""
        if self.output is not None:
            return self.output
        model = re.sub(r"[^A-Za-z0-9._]+", "-", Path(self.model).name).strip("-.").lower() or "model"
        return Path("models") / f"{model}-{self.method}"

    def settings(self) -> dict[str, object]:
        """The configuration that every session of a run shares, as the manifest holds it."""
        names = (
            *("steps", "prompts", "samples", "schedule", "warmup", "clip", "temperature"),
            *("lora", "generation", "seed", "problems"),
        )
        training = {name: getattr(self, name) for name in names}
        training["no_thinking_budget"] = self.short_budget()
        if self.lora:
            training["lora_rank"] = self.lora_rank
        if self.trl_settings:
            training["trl_settings"] = list(self.trl_settings)
        return {
            **self.configuration(),
            "method": self.method,
            "budget": self.sampling().budget,
            "learning_rate": self.rate(),
            "training": training,
        }


@dataclass(frozen=True)
class AdaptThinkInputs(TrainingInputs):
    """AdaptThink: the model learns to choose between thinking and not.

    `delta` is what no thinking is worth in success. `form` says how a completion's importance ratio is made;
    without `importance_sampling` no mode is forced. `opener` is the forced first word of thinking, "own" for
    what the policy writes. `reference` compares with the unchanged model's thinking (`reference_samples`
    completions a problem, kept in `references`; None for <output>-references) or the policy's own.
    `length_alpha` weighs a length reward among the thinking completions that succeed.
    """

    delta: float = 0.05
    form: str = "sequence"
    importance_sampling: bool = True
    opener: str = "own"
    reference: str = "unchanged"
    reference_samples: int = 16
    references: Path | None = None
    length_alpha: float = 0.0

    def __post_init__(self) -> None:
        TrainingInputs.__post_init__(self)
        for name, value, choices in (
            ("form", self.form, FORMS),
            ("reference", self.reference, REFERENCE_KINDS),
        ):
            if value not in choices:
                raise ConfigError(f"{name} is {value}; choose from {', '.join(choices)}.")
        require_positive("reference-samples", self.reference_samples)
        if self.length_alpha < 0:
            raise ConfigError(f"length-alpha is {self.length_alpha}; it must be at least 0.")
        if self.thinking is not None:
            raise ConfigError(
                f"AdaptThink trains both modes: leave {setting('thinking')} and {setting('thinking', False)} "
                "out."
            )
        if self.samples % 2:
            raise ConfigError(f"samples is {self.samples}; half think and half do not: give an even number.")
        if self.generation == "trl" and self.importance_sampling and self.opener == "own":
            raise ConfigError(
                "TRL's generation cannot leave a token out: give the first word of thinking by "
                f"{setting('opener')}."
            )

    @property
    def method(self) -> str:
        """The kind of training."""
        return "adaptthink"

    def effective(self) -> Self:
        """The inputs as they count: few references too for `smoke`."""
        inputs = super().effective()
        return replace(inputs, reference_samples=min(4, self.reference_samples)) if self.smoke else inputs

    def references_directory(self) -> Path:
        """Where the reference means are kept."""
        if self.references is not None:
            return self.references
        path = self.directory()
        return path.with_name(f"{path.name}-references")

    def settings(self) -> dict[str, object]:
        """The configuration, with AdaptThink's own."""
        names = ("delta", "form", "importance_sampling", "opener", "reference", "length_alpha")
        own = {name: getattr(self, name) for name in names}
        if self.reference == "unchanged":
            own["reference_samples"] = self.reference_samples
        return {**TrainingInputs.settings(self), "adaptthink": own}


COUNTED = ("thinking", "answer", "all")


@dataclass(frozen=True)
class LengthInputs(TrainingInputs):
    """Reinforcement learning on success with a length reward.

    `reward` is its form (`pts.training.length_rewards`), `alpha` its weight (0: plain reinforcement learning),
    `count` the tokens that are its length, `target` a length in tokens or a share of the budget, for the forms
    that compare with one. `limits` are the targets of the form `limit` in stages of equal numbers of steps.
    """

    reward: str = "gated-linear"
    alpha: float = 0.5
    count: str = "all"
    target: AmountText | None = None
    limits: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        from pts.training.length_rewards import FORMS as REWARDS
        from pts.training.length_rewards import WITH_TARGET

        TrainingInputs.__post_init__(self)
        for name, value, choices in (("reward", self.reward, tuple(REWARDS)), ("count", self.count, COUNTED)):
            if value not in choices:
                raise ConfigError(f"{name} is {value}; choose from {', '.join(choices)}.")
        if self.alpha < 0:
            raise ConfigError(f"alpha is {self.alpha}; it must be at least 0 (0: success alone).")
        if self.limits and self.reward != "limit":
            raise ConfigError(f"limits are for {setting('reward', 'limit')}: leave {setting('limits')} out.")
        if any(limit <= 0 for limit in self.limits):
            raise ConfigError(f"limits are {', '.join(map(str, self.limits))}; each must be above 0.")
        if self.reward in WITH_TARGET and self.target is None and not self.limits:
            raise ConfigError(f"the reward {self.reward} compares with a length: give {setting('target')}.")
        if self.target is not None and self.reward not in (*WITH_TARGET, "gated-linear"):
            raise ConfigError(f"the reward {self.reward} has no target: leave {setting('target')} out.")
        if self.target is not None:
            self.target_tokens()

    @property
    def method(self) -> str:
        """The kind of training."""
        return "length"

    def target_tokens(self) -> int:
        """The target in tokens; 0 for none."""
        return 0 if self.target is None else _tokens("target", self.target, self.sampling().budget)

    def settings(self) -> dict[str, object]:
        """The configuration, with the reward's own."""
        own = {name: getattr(self, name) for name in ("reward", "alpha", "count", "limits")}
        return {**TrainingInputs.settings(self), "length": {**own, "target": self.target_tokens()}}


def form_of(inputs: TrainingInputs) -> str:
    """How importance ratios are made: AdaptThink says, else of sequences."""
    return inputs.form if isinstance(inputs, AdaptThinkInputs) else FORMS[0]


def _tokens(name: str, given: AmountText, total: int) -> int:
    """An amount in tokens: given as such, or as a share of the total. Raises ConfigError below one token."""
    value = amount(name, given)
    tokens = int(value * total) if isinstance(value, float) else value
    if tokens is None or tokens < 1 or tokens > total:
        raise ConfigError(
            f"{setting(name)} {given} is {tokens} of at most {total} tokens: give at least one, or a share."
        )
    return tokens
