"""The inputs of shortening: supervised fine-tuning on the model's own short completions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from pts.errors import ConfigError
from pts.setting_names import setting
from pts.stages.shared.inputs import require_positive
from pts.stages.train.inputs import TrainingInputs, require_choice

FEWEST_SOLVED = 8
"""Problems with a completion that is right, below which there is no training."""
MIN_EFFECT = 0.1
"""The change of the value below which a sentence may go, where none is given."""


@dataclass(frozen=True)
class ShortenInputs(TrainingInputs):
    """Supervised fine-tuning on the shortest right one of `samples` completions of each problem.

    The unchanged model draws them with thinking, at the sampler of answers; `completions` is where they are
    kept (None for <output>-completions). With `hybrid` it answers without thinking as often, and the shortest
    right one of these is learnt too, where at least half of them are right. Each of `steps` updates learns
    `examples` completions. With `from_search` the completions are those of a search's run, without the
    sentences that change the value by less than `min_effect` (None for 0.1); model, problems, prompt and
    sampler are then the search's, where they are left at their defaults. With the mixing `progressive` the
    longest right ones are learnt too, and less and less of them. The learning rates are TRL's own for such
    training, tenfold for an adapter. Raises ConfigError for a value outside its range.
    """

    examples: int = 16
    samples: int = 8
    hybrid: bool = False
    completions: Path | None = None
    from_search: Path | None = None
    min_effect: float | None = None
    mixing: str = "none"

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
        self._require_search()
        from pts.training.mixing import MIXINGS

        require_choice("mixing", self.mixing, MIXINGS)
        if self.thinking is False:
            raise ConfigError(f"what is shortened is thinking: leave {setting('thinking', False)} out.")

    def _require_search(self) -> None:
        """Raise ConfigError for settings of a search's completions that nothing would read."""
        search = setting("from_search")
        if self.from_search is None:
            if self.min_effect is not None:
                raise ConfigError(f"{setting('min_effect')} is of a search's sentences: give {search} too.")
            return
        if self.min_effect is not None and not 0 < self.min_effect <= 1:
            raise ConfigError(f"min-effect is {self.min_effect}; it must be above 0 and at most 1.")
        if self.samples != type(self).samples and not (self.hybrid or self.smoke):
            raise ConfigError(f"{search} draws no completions with thinking: leave {setting('samples')} out.")

    def as_searched(self) -> Self:
        """The inputs, and of the search what they leave at its default. Raises RunError for a contradiction."""
        if self.from_search is None:
            return self
        from pts.stages.train.search_settings import with_search_settings

        return with_search_settings(self, self.from_search)

    def effective(self) -> Self:
        """The inputs as they count: the search's, and small ones for `smoke`."""
        return super(ShortenInputs, self.as_searched()).effective()

    def directory(self) -> Path:
        """The run directory, named after the model of the search where it is named after the model."""
        named = self if self.output is not None else self.as_searched()
        return super(ShortenInputs, named).directory()

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

    def minimum_effect(self) -> float:
        """The change of the value below which a sentence may go."""
        return MIN_EFFECT if self.min_effect is None else self.min_effect

    def settings(self) -> dict[str, object]:
        """The configuration, with shortening's own."""
        own = {name: getattr(self, name) for name in ("examples", "samples", "hybrid")}
        # Only where given, so that runs of earlier versions go on.
        if self.from_search is not None:
            own |= {"from_search": str(self.from_search), "min_effect": self.minimum_effect()}
        if self.mixing != "none":
            own["mixing"] = self.mixing
        return {**TrainingInputs.settings(self), "shorten": {**own, "sampling": self.sampling_settings()}}
