"""The module with the decoder blocks, named once for a run and not again."""

from __future__ import annotations

from dataclasses import Field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

if TYPE_CHECKING:
    from pts.runs.manifest import Manifest


class _ReadsLayers(Protocol):
    """Inputs of a stage that goes on with a run and reads the model's layers."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def fresh(self) -> bool:
        """Whether what is there is deleted first."""

    @property
    def layers_path(self) -> str | None:
        """The module with the decoder blocks; None to find it."""


T = TypeVar("T", bound=_ReadsLayers)


def with_recorded_layers(inputs: T, earlier: Manifest | None) -> T:
    """The inputs with the `layers_path` that the run recorded, where they go on with one and name none."""
    recorded = None if earlier is None or inputs.fresh else earlier.settings.get("layers_path")
    if inputs.layers_path is not None or not isinstance(recorded, str):
        return inputs
    return replace(inputs, layers_path=recorded)
