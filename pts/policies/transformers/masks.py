"""Attention masks for one decoding step over rows of different lengths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from pts.errors import ModelError

Mask: TypeAlias = torch.Tensor | dict[str, torch.Tensor]

_WINDOWED = "sliding_attention"
_KNOWN = ("full_attention", _WINDOWED)


@dataclass(frozen=True, slots=True)
class AttentionPlan:
    """How a model wants its masks: one for all layers, or one by layer type; and of what form.

    `layer_types` is None where one mask serves all layers; `window` is the sliding window in tokens, the token
    itself included, or None. `additive` is for attention that adds its mask to the scores instead of reading
    booleans.
    """

    layer_types: tuple[str, ...] | None
    window: int | None
    additive: bool

    def masks(self, positions: torch.Tensor, width: int, dtype: torch.dtype) -> Mask:
        """Masks [rows, 1, 1, width] for one new token a row, at `positions` [rows] of `width` columns."""
        columns = torch.arange(width, device=positions.device)
        causal = columns <= positions[:, None]
        if self.layer_types is None:
            return self._form(self._windowed(causal, columns, positions), dtype)
        by_type = {
            kind: self._windowed(causal, columns, positions) if kind == _WINDOWED else causal
            for kind in self.layer_types
        }
        return {kind: self._form(mask, dtype) for kind, mask in by_type.items()}

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

    Raises ModelError where a layer is not attention over cached keys and values (Mamba, linear attention, ...),
    or the attention implementation takes no ready mask.
    """
    config = model.config.get_text_config(decoder=True)
    types = getattr(config, "layer_types", None)
    others = sorted(set(types or ()) - set(_KNOWN))
    if others or getattr(model, "_is_stateful", False) or getattr(config, "attention_chunk_size", None):
        found = ", ".join(others) or config.model_type
        raise ModelError(
            f"{config.model_type} keeps a state other than keys and values ({found}): not supported."
        )
    implementation = config._attn_implementation
    if implementation not in ("sdpa", "eager"):
        raise ModelError(
            f"attention {implementation!r} does not accept the masks that pts makes: load the model with sdpa "
            "or eager."
        )
    kinds = tuple(sorted(set(types))) if types else None
    return AttentionPlan(kinds, getattr(config, "sliding_window", None), additive=implementation == "eager")
