"""The module with the decoder blocks, named once for a run and not again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from pts.runs.manifest import Manifest
    from pts.stages.evaluate.inputs import EvaluateInputs
    from pts.stages.extract.inputs import ExtractInputs

T = TypeVar("T", "ExtractInputs", "EvaluateInputs")


def with_recorded_layers(inputs: T, earlier: Manifest | None) -> T:
    """The inputs with the `layers_path` that the run recorded, where they go on with one and name none."""
    recorded = None if earlier is None or inputs.fresh else earlier.settings.get("layers_path")
    if inputs.layers_path is not None or not isinstance(recorded, str):
        return inputs
    return replace(inputs, layers_path=recorded)
