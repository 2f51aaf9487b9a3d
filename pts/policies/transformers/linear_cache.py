"""MiniMax's cache: the model takes no class but its own, which keeps states in a list beside its layers."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch


def has_linear_cache(model: Any) -> bool:
    """Whether a model reads and writes its states by `get_linear_cache` and `set_linear_cache`."""
    kind: str = model.config.get_text_config(decoder=True).model_type
    return kind == "minimax"


@lru_cache
def with_linear_cache(kind: Any) -> Any:
    """A cache's class as one that MiniMax accepts, with its states where other families' are: in the layers."""
    from transformers.models.minimax.modeling_minimax import MiniMaxCache

    class LinearCache(kind, MiniMaxCache):  # type: ignore[misc]
        """The class `kind`, whose layers give MiniMax its states."""

        def get_linear_cache(self, layer_idx: int) -> torch.Tensor | None:
            """A layer's state [rows, heads, size, size]; None before it has read anything."""
            layer: Any = self.layers[layer_idx]
            state: torch.Tensor | None = layer.recurrent_states[0]
            return state

        def set_linear_cache(self, layer_idx: int, linear_cache: torch.Tensor) -> None:
            """Take a layer's state after a pass."""
            layer: Any = self.layers[layer_idx]
            layer.update_recurrent_state(linear_cache)

        def __len__(self) -> int:
            return len(self.layers)

    return LinearCache
