"""A forward pass of any model: families differ in what they call their cache, and in taking positions."""

from __future__ import annotations

import inspect
from functools import lru_cache
from typing import Any

import torch


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


@lru_cache
def _without_positions(kind: Any) -> bool:
    """Whether a class of models reads tokens by a state alone: then its cache is `cache_params`."""
    return "cache_params" in inspect.signature(kind.forward).parameters
