"""The inputs of shortening: supervised fine-tuning on the model's own short completions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pts.errors import ConfigError
from pts.setting_names import setting
from pts.stages.shared.inputs import require_positive
from pts.stages.train.inputs import TrainingInputs

FEWEST_SOLVED = 8
"""Problems with a completion that is right, below which there is no training."""


@dataclass(frozen=True)
class ShortenInputs(TrainingInputs):
    """Supervised fine-tuning on the shortest right one of `samples` completions of each problem.

    The unchanged model draws them with thinking, at the sampler of answers; `completions` is where they are
    kept (None for <output>-completions). With `hybrid` it answers without thinking as often, and the shortest
    right one of these is learnt too, where at least half of them are right. Each of `steps` updates learns
    `examples` completions. The learning rates are TRL's own for such training, tenfold for an adapter. Raises
    ConfigError for a value outside its range.
    """

    examples: int = 16
    samples: int = 8
    hybrid: bool = False
    completions: Path | None = None

    small: ClassVar = {**TrainingInputs.small, "examples": 4, "samples": 4, "problems": 16}
    rates: ClassVar = (2e-5, 2e-4)

    def __post_init__(self) -> None:
        TrainingInputs.__post_init__(self)
        self.require_apart("completions", self.completions)
        for name in ("examples", "samples"):
            require_positive(name, getattr(self, name))
        if self.samples > 1 and self.temperature == 0:
            raise ConfigError(
                f"at temperature 0 all completions of a problem are the same one: give a "
                f"{setting('temperature')} above 0."
            )
        if self.thinking is False:
            raise ConfigError(f"what is shortened is thinking: leave {setting('thinking', False)} out.")

    @property
    def method(self) -> str:
        """The kind of training."""
        return "shorten"

    @property
    def fewest_problems(self) -> int:
        """As many as must be solved."""
        return FEWEST_SOLVED

    def completions_directory(self) -> Path:
        """Where the completions are kept."""
        return self.beside("completions") if self.completions is None else self.completions

    def settings(self) -> dict[str, object]:
        """The configuration, with shortening's own."""
        own = {name: getattr(self, name) for name in ("examples", "samples", "hybrid")}
        return {**TrainingInputs.settings(self), "shorten": {**own, "sampling": self.sampling_settings()}}
