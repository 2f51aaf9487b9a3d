"""The inputs of a decoder, under the names of the command line's options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pts.errors import ConfigError
from pts.policies.open import TRANSFORMERS
from pts.setting_names import setting
from pts.stages.decode.strategy_inputs import StrategyInputs
from pts.stages.shared.inputs import ModelInputs


@dataclass(frozen=True)
class AnswerInputs(ModelInputs, StrategyInputs):
    """A model that answers by strategies, steered where `vectors` are named.

    `pattern` maps patterns of the set to multiples of their calibrated strength (None: the first at 1.0), and
    `where` says where they are on. `same_shape` accepts another model's vectors and router. `layers_path` is
    the module with the decoder blocks, None where it is found. Raises ConfigError for a value outside its
    range, and for what is a vector set's where none is named.
    """

    vectors: str | None = None
    vectors_revision: str | None = None
    pattern: Mapping[str, float] | None = None
    where: Literal["gate", "always", "context"] = "gate"
    same_shape: bool = False
    layers_path: str | None = None

    def __post_init__(self) -> None:
        ModelInputs.__post_init__(self)
        StrategyInputs.__post_init__(self)
        if self.engine != TRANSFORMERS:
            self._require_served()
        if self.vectors is None:
            if self.pattern:
                raise ConfigError(
                    f"patterns ({', '.join(self.pattern)}) need a vector set: give one by {setting('vectors')}."
                )
            if self.where != "gate":
                raise ConfigError(
                    f"{setting('where', self.where)} needs a vector set: give one by {setting('vectors')}."
                )
            if self.vectors_revision is not None:
                raise ConfigError(
                    f"{setting('vectors_revision')} needs a vector set: give one by {setting('vectors')}."
                )

    def _require_served(self) -> None:
        """Raise ConfigError for what another engine than transformers has no use for."""
        for name, why in (
            ("second_model", "a second model beside it would need another engine of its own"),
            ("layers_path", "it finds its own decoder blocks"),
        ):
            if getattr(self, name) is not None:
                raise ConfigError(
                    f"the engine {self.engine} takes no {setting(name)}, since {why}: leave it out, or use "
                    f"{setting('engine', TRANSFORMERS)}."
                )


@dataclass(frozen=True)
class DecodeInputs(AnswerInputs):
    """All inputs of a decoder. `model` is None for the model of the vectors, or the demo without vectors."""

    model: str | None = None
    strategy: str = "full"
