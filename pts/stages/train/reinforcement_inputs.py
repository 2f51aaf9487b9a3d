"""The inputs of training by reinforcement learning: AdaptThink, and length rewards."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pts.errors import ConfigError
from pts.records import Sampling
from pts.setting_names import setting
from pts.stages.decode.strategy_inputs import AmountText
from pts.stages.shared.inputs import require_positive
from pts.stages.train.inputs import TrainingInputs, require_choice, tokens_of

FORMS = ("sequence", "full")
REFERENCE_KINDS = ("unchanged", "own")
GENERATIONS = ("pts", "trl")


@dataclass(frozen=True)
class ReinforcementInputs(TrainingInputs):
    """Training by reinforcement learning.

    Each step draws `samples` completions of each of `prompts` problems, at `temperature` with nothing
    truncated. `clip` bounds the importance ratio. `generation` is what draws them: our own policy, or TRL (with
    `use_vllm` among `trl_settings`, vLLM). Raises ConfigError for a value outside its range.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    prompts: int = 16
    samples: int = 8
    clip: float = 0.2
    generation: str = "pts"

    small: ClassVar = {**TrainingInputs.small, "prompts": 2, "samples": 4, "problems": 8}

    def __post_init__(self) -> None:
        TrainingInputs.__post_init__(self)
        for name in ("prompts", "samples"):
            require_positive(name, getattr(self, name))
        if self.samples < 2:
            raise ConfigError(f"samples is {self.samples}; it must be at least 2: completions are compared.")
        if self.temperature == 0 or (self.top_p, self.top_k, self.min_p) != (1.0, 0, 0.0):
            raise ConfigError(
                "training samples from the whole distribution, or its ratios would be to another policy: give "
                f"a {setting('temperature')} above 0, and no {setting('top_p')}, {setting('top_k')} or "
                f"{setting('min_p')}."
            )
        require_choice("generation", self.generation, GENERATIONS)
        if not 0 < self.clip < 1:
            raise ConfigError(f"clip is {self.clip}; it must be between 0 and 1.")

    def _require_engine(self) -> None:
        if self.engine != "transformers":
            raise ConfigError(
                f"training holds the model itself: leave {setting('engine')} out (vLLM beside it: "
                f"{setting('generation', 'trl')})."
            )

    @property
    def fewest_problems(self) -> int:
        """Those of one step."""
        return self.prompts

    def decoding(self) -> Sampling:
        """The sampler of answers, by which the share of no thinking is reported too."""
        return Sampling(budget=self.sampling().budget)

    def settings(self) -> dict[str, object]:
        """The configuration, with that of reinforcement learning."""
        settings = TrainingInputs.settings(self)
        training = settings["training"]
        assert isinstance(training, dict)
        names = ("prompts", "samples", "clip", "temperature", "generation")
        return {**settings, "training": {**training, **{name: getattr(self, name) for name in names}}}


@dataclass(frozen=True)
class AdaptThinkInputs(ReinforcementInputs):
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

    small: ClassVar = {**ReinforcementInputs.small, "reference_samples": 4}

    def __post_init__(self) -> None:
        ReinforcementInputs.__post_init__(self)
        self.require_apart("references", self.references)
        require_choice("form", self.form, FORMS)
        require_choice("reference", self.reference, REFERENCE_KINDS)
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

    def references_directory(self) -> Path:
        """Where the reference means are kept."""
        return self.beside("references") if self.references is None else self.references

    def settings(self) -> dict[str, object]:
        """The configuration, with AdaptThink's own."""
        names = ("delta", "form", "importance_sampling", "opener", "reference", "length_alpha")
        own = {name: getattr(self, name) for name in names}
        if self.reference == "unchanged":
            own["reference_samples"] = self.reference_samples
        return {**ReinforcementInputs.settings(self), "adaptthink": own}


COUNTED = ("thinking", "answer", "all")


@dataclass(frozen=True)
class LengthInputs(ReinforcementInputs):
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

        ReinforcementInputs.__post_init__(self)
        require_choice("reward", self.reward, tuple(REWARDS))
        require_choice("count", self.count, COUNTED)
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
        return 0 if self.target is None else tokens_of("target", self.target, self.sampling().budget)

    def settings(self) -> dict[str, object]:
        """The configuration, with the reward's own."""
        own = {name: getattr(self, name) for name in ("reward", "alpha", "count", "limits")}
        return {**ReinforcementInputs.settings(self), "length": {**own, "target": self.target_tokens()}}


def form_of(inputs: ReinforcementInputs) -> str:
    """How importance ratios are made: AdaptThink says, else of sequences."""
    return inputs.form if isinstance(inputs, AdaptThinkInputs) else FORMS[0]
