"""Attention masks for one decoding step over rows of different lengths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from pts.errors import ModelError
from pts.policies.transformers.model_cache import keeps_states

Mask: TypeAlias = torch.Tensor | dict[str, torch.Tensor | None]

_WINDOWED, _CHUNKED, _FULL = "sliding_attention", "chunked_attention", "full_attention"
_ATTENTION = (_FULL, _WINDOWED, _CHUNKED)
_UNMASKED = ("conv", "linear_attention", "moe", "mlp")
"""Types of layers that read no mask in a step: a recurrent state, or no other tokens at all."""
_BOTH = {"hybrid": (_FULL, "linear_attention"), "hybrid_sliding": (_WINDOWED, "linear_attention")}
"""Types of layers that attend and keep a state side by side: the kinds of masks that they read."""


@dataclass(frozen=True, slots=True)
class AttentionPlan:
    """How a model wants its masks: one for all layers, or one by layer type; and of what form.

    `layer_types` is None where one mask serves all layers; `window` is the sliding window in tokens, the token
    itself included, and `chunk` the tokens of the chunks inside which chunked layers attend, or None.
    `additive` is for attention that adds its mask to the scores instead of reading booleans.
    """

    layer_types: tuple[str, ...] | None
    window: int | None
    additive: bool
    chunk: int | None = None

    def masks(self, positions: torch.Tensor, width: int, dtype: torch.dtype) -> Mask | None:
        """Masks [rows, 1, 1, width] for one new token a row, at `positions` [rows] of `width` columns.

        None for a model without attention.
        """
        columns = torch.arange(width, device=positions.device)
        causal = columns <= positions[:, None]
        if self.layer_types is None:
            return self._form(self._windowed(causal, columns, positions), dtype)
        if not set(self.layer_types) & set(_ATTENTION):
            return None
        masks: dict[str, torch.Tensor | None] = {}
        for kind in self.layer_types:
            if kind == _WINDOWED:
                masks[kind] = self._form(self._windowed(causal, columns, positions), dtype)
            elif kind == _CHUNKED:
                masks[kind] = self._form(self._chunked(causal, columns, positions), dtype)
            else:
                masks[kind] = None if kind in _UNMASKED else self._form(causal, dtype)
        return masks

    def _chunked(self, causal: torch.Tensor, columns: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        assert self.chunk is not None
        return causal & (columns >= positions[:, None] // self.chunk * self.chunk)

    def _windowed(self, causal: torch.Tensor, columns: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        if self.window is None:
            return causal
        return causal & (columns > positions[:, None] - self.window)

    def _form(self, mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        mask = mask[:, None, None, :]
        if not self.additive:
            return mask
        return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(
            ~mask, torch.finfo(dtype).min
        )


def attention_plan(model: Any) -> AttentionPlan:
    """The plan for a causal language model of transformers.

    Raises ModelError where a layer keeps what rows cannot share (a state outside the cache, an index of keys),
    or the attention implementation takes no ready mask.
    """
    config = model.config.get_text_config(decoder=True)
    types = getattr(config, "layer_types", None)
    chunk = getattr(config, "attention_chunk_size", None)
    others = sorted(set(types or ()) - {*_ATTENTION, *_UNMASKED, *_BOTH})
    if not others and chunk and _CHUNKED not in (types or ()):
        others = ["attention by chunks in layers that it does not name"]
    if others or (getattr(model, "_is_stateful", False) and not keeps_states(model)):
        found = ", ".join(others) or "outside the cache of transformers"
        raise ModelError(
            f"{config.model_type} keeps a state other than keys and values ({found}): not supported."
        )
    implementation = config._attn_implementation
    if implementation not in ("sdpa", "eager"):
        raise ModelError(
            f"attention {implementation!r} does not accept the masks that pts makes: load the model with sdpa "
            "or eager."
        )
    kinds = {kind for layer in types or () for kind in _BOTH.get(layer, (layer,))}
    return AttentionPlan(
        tuple(sorted(kinds)) if types else None,
        getattr(config, "sliding_window", None),
        additive=implementation == "eager",
        chunk=chunk,
    )
