"""The logit lens: what the model would predict if its decoder ended at a layer."""

from __future__ import annotations

from typing import Any

import torch

from pts.errors import ModelError
from pts.models.decoder_layers import decoder_layers

_LENS_BYTES = 64 << 20
"""Bytes of positions' float32 logits at once: this bounds how many positions are projected together."""


class LogitLens:
    """A model's final norm and unembedding (nostalgebraist, "interpreting GPT: the logit lens", 2020).

    Raises ModelError where the model has no output embeddings or not exactly one norm beside its blocks.
    """

    def __init__(self, model: Any, layers_path: str | None = None) -> None:
        self._head = model.get_output_embeddings()
        if self._head is None:
            raise ModelError(
                "the model has no output embeddings: an entropy gate needs them; use the probe gate."
            )
        self._norm = _final_norm(model, layers_path)

    @torch.no_grad()
    def entropy(self, hidden: torch.Tensor) -> torch.Tensor:
        """Entropy in nats of the lens on a residual stream [..., hidden] → [...].

        At the last layer it is that of the model's own next-token distribution, at temperature 1.
        """
        flat = hidden.reshape(-1, hidden.shape[-1])
        at_once = max(1, _LENS_BYTES // (4 * self._head.weight.shape[0]))
        parts = []
        for start in range(0, len(flat), at_once):
            rows = flat[start : start + at_once].to(self._head.weight.device)
            log_probs = torch.log_softmax(self._head(self._norm(rows)).float(), dim=-1)
            parts.append(-(log_probs.exp().mul_(log_probs)).sum(-1))
        return torch.cat(parts).reshape(hidden.shape[:-1]).to(hidden.device)


def _final_norm(model: Any, layers_path: str | None) -> Any:
    """The norm between the last decoder block and the unembedding: the one in the blocks' own module."""
    blocks = decoder_layers(model, layers_path)
    parents = [module for module in model.modules() if any(child is blocks for child in module.children())]
    norms = (
        [child for child in parents[0].children() if "norm" in type(child).__name__.lower()] if parents else []
    )
    if len(norms) != 1:
        raise ModelError(
            f"the model has {len(norms)} norms beside its decoder blocks, not one: an entropy gate cannot "
            "be used; "
            "use the probe gate."
        )
    return norms[0]
