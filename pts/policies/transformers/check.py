"""Rows of different lengths must get the logits that one plain pass gives: checked once, at the start."""

from __future__ import annotations

from typing import Any

import torch

from pts.errors import ModelError
from pts.policies.transformers.cache import RowCache, RowStore
from pts.policies.transformers.masks import AttentionPlan
from pts.policies.transformers.prefill import PrefixStore

_LENGTHS = (3, 5)
"""Tokens cached for the two rows of the check."""


@torch.inference_mode()
def check_ragged_rows(model: Any, plan: AttentionPlan, prefixes: PrefixStore) -> None:
    """Raise ModelError where a step over rows of two lengths differs from a plain forward pass.

    What a model does with a ready mask, explicit positions and a cache of its own is not declared anywhere, so
    it is tried: a wrong mask or position moves logits by about their own spread, rounding by far less.
    """
    vocab = model.config.get_text_config(decoder=True).vocab_size
    ids = [(7919 * index + 11) % vocab for index in range(max(_LENGTHS) + 1)]
    inputs = torch.tensor([ids], device=model.device)
    plain = model(input_ids=inputs, use_cache=False).logits[0].float()
    entry = prefixes.prefilled(tuple(ids))
    store = RowStore(prefixes.layout)
    store.reserve(len(_LENGTHS), max(_LENGTHS) + 2)
    for row, length in enumerate(_LENGTHS):
        store.load(entry.planes, [row], length)
    cache = RowCache(store)
    positions = torch.tensor(_LENGTHS, device=model.device)
    width = max(_LENGTHS) + 1
    cache.begin_step(positions, width)
    output = model(
        input_ids=inputs[0, positions][:, None],
        attention_mask=plan.masks(positions, width, model.dtype),
        position_ids=positions[:, None],
        past_key_values=cache,
        use_cache=True,
    )
    error = (output.logits[:, -1].float() - plain[positions]).abs().max()
    allowed = (0.01 if model.dtype == torch.float32 else 0.3) * plain.std()
    if not bool(error <= allowed):
        raise ModelError(
            f"{model.config.model_type} does not decode rows of different lengths as it reads them at once "
            f"(logits differ by {float(error):.3g}, spread {float(plain.std()):.3g}): not supported."
        )
