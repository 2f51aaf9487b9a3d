"""The settings of `pts vectors measure`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pts.errors import ConfigError
from pts.setting_names import setting
from pts.stages.shared.inputs import require_positive


@dataclass(frozen=True, slots=True)
class MeasureInputs:
    """What to measure: `strengths` of patterns in multiples of the calibrated ones (None: the first at 1.0).

    `dataset` is None for a set made on a registered data set: then fresh ones of its test split are drawn by
    `seed`. `random` vectors of the same form are measured beside the set's; in a `race` the worse half is
    dropped several times on the way. `output` is a directory that keeps what is measured, so that a stopped
    measurement goes on; `problems` and `random` may grow. `model` is where the set's model is, None for where
    its search found it. With `examples` a few of the problems are also decoded token by token, and written
    into the set for its report. With `record` the result is written into the set. `batch_rows` bounds the rows
    of a batch, None by memory.
    """

    vectors: str
    strengths: Mapping[str, float] | None = None
    random: int = 0
    race: bool = False
    output: Path | None = None
    model: str | None = None
    dataset: str | None = None
    config: str | None = None
    split: str | None = None
    dataset_revision: str | None = None
    question_field: str | None = None
    answer_field: str | None = None
    id_field: str | None = None
    choices_field: str | None = None
    problems: int = 100
    samples: int = 4
    seed: int = 1
    examples: bool = False
    record: bool = False
    device: str = "auto"
    batch_rows: int | None = None
    trust_remote_code: bool = False
    same_shape: bool = False

    def __post_init__(self) -> None:
        for name in ("problems", "samples", "batch_rows"):
            require_positive(name.replace("_", "-"), getattr(self, name))
        if self.random < 0:
            raise ConfigError(f"{setting('random')} is {self.random}; it must be at least 0.")
        if self.race and not self.random:
            raise ConfigError(
                f"{setting('race', True)} needs random vectors: give {setting('random')}, such as 19."
            )
