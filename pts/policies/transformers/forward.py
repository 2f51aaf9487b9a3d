"""A forward pass of any model: families differ in what they call their cache, and in taking positions."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import torch

from pts.policies.transformers.model_cache import goes_on_by_steps, keeps_states


def forward(
    model: Any,
    ids: torch.Tensor,
    positions: torch.Tensor,
    cache: Any,
    *,
    mask: Any = None,
    logits_to_keep: int = 1,
) -> torch.Tensor:
    """Logits [rows, tokens, vocabulary] of the last `logits_to_keep` tokens, 0 for all; the cache is extended.

    `ids` and `positions` are [rows, tokens]; `mask` is as the family's attention wants it, None for a causal
    one of the model's own making.
    """
    kind: Any = type(model)
    if _without_positions(kind):
        given = {"cache_params": cache}
    else:
        given = {"past_key_values": cache, "position_ids": positions}
    if mask is not None:
        given["attention_mask"] = mask
    output = model(input_ids=ids, use_cache=True, logits_to_keep=logits_to_keep, **given)
    logits: torch.Tensor = output.logits
    return logits


def pieces(model: Any, tokens: int, size: int) -> Iterator[tuple[int, int]]:
    """Where passes over `tokens` tokens begin and end: of at most `size`, or of one where they must be.

    Where a model keeps states they are of two at least but for the last: alone, a token that is padding would
    enter the state.
    """
    start, size = 0, max(size, 2) if keeps_states(model) else size
    while start < tokens:
        end = min(tokens, start + (1 if start and goes_on_by_steps(model) else size))
        yield start, end
        start = end


@lru_cache
def _without_positions(kind: Any) -> bool:
    """Whether a class of models reads tokens by a state alone: then its cache is `cache_params`."""
    return "cache_params" in inspect.signature(kind.forward).parameters
