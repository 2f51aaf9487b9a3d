"""A policy whose requests may be steered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

from pts.models.prompt import PromptFormat
from pts.policies import SteerablePolicy, policy_of
from pts.policies.vllm.served import AnsweringModel, ServedModel
from pts.steering.hooks import Variant, steer
from pts.steering.vllm_steering import steer_vllm


@contextmanager
def steered_policy(
    loaded: AnsweringModel,
    prompt_format: PromptFormat,
    variants: Sequence[Variant],
    *,
    batch_rows: int | None = None,
    memory_bytes: int | None = None,
    layers_path: str | None = None,
) -> Iterator[SteerablePolicy]:
    """A policy whose requests may name `variants`, from 1; 0 is the model as it is.

    No hook stays behind, and without variants none is there. What vLLM holds has its batch and memory already,
    and its decoder blocks are found by themselves. Raises VectorError for a vector that does not fit.
    """
    if isinstance(loaded, ServedModel):
        loaded.policy.prompt_format = prompt_format
        with steer_vllm(loaded.policy, variants) if variants else nullcontext():
            yield loaded.policy
        return
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
