"""The inputs of a verification, under the names of the command line."""

from __future__ import annotations

from dataclasses import dataclass

from pts.stages.shared.inputs import ModelInputs
from pts.stages.shared.parallel_inputs import ParallelInputs


@dataclass(frozen=True)
class VerifyInputs(ParallelInputs, ModelInputs):
    """Which model and sampler are verified; `quick` makes only the checks that a search makes first."""

    quick: bool = False

    def __post_init__(self) -> None:
        ModelInputs.__post_init__(self)
        self.check_parallel(self.engine, self.endpoint)
