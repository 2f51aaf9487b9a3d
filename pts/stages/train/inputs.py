"""The inputs that every kind of training takes, under the names of the command line and of a recipe."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Self

from pts.errors import ConfigError
from pts.registered import registered_dataset, registered_model
from pts.setting_names import setting
from pts.stages.decode.strategy_inputs import AmountText, amount
from pts.stages.shared.inputs import ProblemInputs, require_positive

SCHEDULES = ("constant", "linear", "cosine")
"""How the learning rate goes on after it has risen."""
_OF_TRL = {"constant": "constant_with_warmup"}
_REGISTERED_PROBLEMS = 1000
"""Problems of a data set that is drawn from a seed, where no number is given."""
_SMALL_RATE = 1e-3
"""The learning rate of the demo model, where none is given."""


@dataclass(frozen=True)
class TrainingInputs(ProblemInputs):
    """What every kind of training takes.

    `steps` updates. `learning_rate` None is 1e-3 for the demo, and one of `rates` for another model or an
    adapter; it rises over `warmup` steps and then goes by `schedule`. `budget` is the longest completion,
    `no_thinking_budget` (in tokens, or a share of it) the longest without thinking. `lora` trains an adapter of
    rank `lora_rank`, which is merged in the end. `trl_settings` are further fields of TRL's configuration.
    `smoke` makes all of it small. `output` is None for models/<model>-<method>. Raises ConfigError for a value
    outside its range.
    """

    steps: int = 120
    learning_rate: float | None = None
    schedule: str = "constant"
    warmup: int = 5
    no_thinking_budget: AmountText = "0.25"
    save_every: int = 50
    micro_batch: int | None = None
    lora: bool = False
    lora_rank: int = 16
    gradient_checkpointing: bool = False
    trl_settings: tuple[str, ...] = ()
    smoke: bool = False
    output: Path | None = None
    fresh: bool = False

    small: ClassVar[Mapping[str, int]] = {"steps": 3, "save_every": 2}
    """The most that a setting is for `smoke`."""
    rates: ClassVar[tuple[float, float]] = (2e-6, 2e-5)
    """Learning rates of a model and of an adapter, where none is given."""

    def __post_init__(self) -> None:
        ProblemInputs.__post_init__(self)
        for name in ("steps", "save_every", "micro_batch", "lora_rank"):
            require_positive(name.replace("_", "-"), getattr(self, name))
        if self.stop:
            raise ConfigError(f"a stop text would end what is learnt: leave {setting('stop')} out.")
        require_choice("schedule", self.schedule, SCHEDULES)
        if self.learning_rate is not None and not self.learning_rate > 0:
            raise ConfigError(f"learning-rate is {self.learning_rate}; it must be above 0.")
        self._require_engine()
        self.short_budget()

    def _require_engine(self) -> None:
        if self.engine != "transformers":
            raise ConfigError(f"training holds the model itself: leave {setting('engine')} out.")

    @property
    def method(self) -> str:
        """The kind of training, as its command is called."""
        raise NotImplementedError

    @property
    def fewest_problems(self) -> int:
        """The number of problems below which there is no training."""
        raise NotImplementedError

    def effective(self) -> Self:
        """The inputs as they count: small ones for `smoke`."""
        if not self.smoke:
            return self
        small = {name: min(most, getattr(self, name) or most) for name, most in self.small.items()}
        return replace(self, **small)  # type: ignore[arg-type]

    def rate(self) -> float:
        """The learning rate."""
        if self.learning_rate is not None:
            return self.learning_rate
        if registered_model(self.model) is not None:
            return _SMALL_RATE
        return self.rates[self.lora]

    def trl_schedule(self) -> str:
        """The schedule by TRL's name."""
        return _OF_TRL.get(self.schedule, self.schedule)

    def short_budget(self) -> int:
        """The longest completion without thinking, in tokens."""
        return tokens_of("no_thinking_budget", self.no_thinking_budget, self.sampling().budget)

    def bounded(self) -> Self:
        """The inputs with a number of problems where the data set would draw few by itself."""
        if self.problems is not None or registered_dataset(self.dataset) is None:
            return self
        return replace(self, problems=_REGISTERED_PROBLEMS)

    def directory(self) -> Path:
        """The run directory, which is the trained model's too."""
        if self.output is not None:
            return self.output
        model = re.sub(r"[^A-Za-z0-9._]+", "-", Path(self.model).name).strip("-.").lower() or "model"
        return Path("models") / f"{model}-{self.method}"

    def beside(self, what: str) -> Path:
        """The directory beside the run's in which what is drawn before training is kept."""
        path = self.directory()
        return path.with_name(f"{path.name}-{what}")

    def require_apart(self, name: str, kept: Path | None) -> None:
        """Raise ConfigError where what is drawn before training would be kept in the run's own directory."""
        if kept is not None and kept.resolve() == self.directory().resolve():
            raise ConfigError(
                f"{kept} is the directory of the trained model too: give another {setting(name)}, or leave it "
                "out."
            )

    def settings(self) -> dict[str, object]:
        """The configuration that every session of a run shares, as the manifest holds it."""
        names = ("steps", "schedule", "warmup", "lora", "seed", "problems")
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


def require_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise ConfigError for a value that is not among the choices."""
    if value not in choices:
        raise ConfigError(f"{name} is {value}; choose from {', '.join(choices)}.")


def tokens_of(name: str, given: AmountText, total: int) -> int:
    """An amount in tokens: given as such, or as a share of the total. Raises ConfigError below one token."""
    value = amount(name, given)
    tokens = int(value * total) if isinstance(value, float) else value
    if tokens is None or tokens < 1 or tokens > total:
        raise ConfigError(
            f"{setting(name)} {given} is {tokens} of at most {total} tokens: give at least one, or a share."
        )
    return tokens
