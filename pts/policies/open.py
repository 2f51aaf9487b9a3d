"""The one place that knows engines by name: opens a policy for a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pts.models.prompt import PromptFormat
from pts.policies.guide import PassSteering
from pts.policies.protocol import SteerablePolicy

if TYPE_CHECKING:
    from pts.models.load import LoadedModel

_PLAIN = PromptFormat()


def policy_of(
    loaded: LoadedModel,
    prompt_format: PromptFormat = _PLAIN,
    *,
    batch_rows: int | None = None,
    memory_bytes: int | None = None,
    steering: PassSteering | None = None,
    layers_path: str | None = None,
) -> SteerablePolicy:
    """A policy of a model that is loaded, in this process.

    `batch_rows` bounds the rows of a batch and `memory_bytes` what caches and prefilled sequences may take
    together; both follow from the device where they are None. `steering` makes the requests' variants differ;
    `layers_path` names the decoder layers where they cannot be found. Raises ModelError for a model that the
    engine cannot run.
    """
    from pts.policies.transformers.policy import TransformersPolicy

    return TransformersPolicy(
        loaded,
        prompt_format,
        batch_rows=batch_rows,
        memory_bytes=memory_bytes,
        steering=steering,
        layers_path=layers_path,
    )
