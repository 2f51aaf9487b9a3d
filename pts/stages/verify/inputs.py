"""The inputs of a verification, under the names of the command line."""

from __future__ import annotations

from dataclasses import dataclass

from pts.stages.shared.inputs import ModelInputs


@dataclass(frozen=True)
class VerifyInputs(ModelInputs):
    """Which model and sampler are verified; `quick` makes only the checks that a search makes first."""

    quick: bool = False
