"""A policy whose requests may be steered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pts.models.load import LoadedModel
from pts.models.prompt import PromptFormat
from pts.policies import SteerablePolicy, policy_of
from pts.steering.hooks import Variant, steer


@contextmanager
def steered_policy(
    loaded: LoadedModel,
    prompt_format: PromptFormat,
    variants: Sequence[Variant],
    *,
    batch_rows: int | None = None,
    memory_bytes: int | None = None,
    layers_path: str | None = None,
) -> Iterator[SteerablePolicy]:
    """A policy whose requests may name `variants`, from 1; 0 is the model as it is.

    No hook stays behind, and without variants none is there. Raises VectorError for a vector that does not fit.
    """
    policy = policy_of(
        loaded,
        prompt_format,
        batch_rows=batch_rows,
        memory_bytes=memory_bytes,
        layers_path=layers_path,
    )
    if not variants:
        yield policy
        return
    with (
        steer(loaded.model, variants, engine_driven=True, layers_path=layers_path) as steering,
        policy.steered(steering),
    ):
        yield policy
