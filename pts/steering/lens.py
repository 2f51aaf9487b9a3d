"""The logit lens: what the model would predict if its decoder ended at a layer."""

from __future__ import annotations

from typing import Any, Protocol

import torch

from pts.errors import ModelError
from pts.models.decoder_layers import decoder_layers

_LENS_BYTES = 64 << 20
"""Bytes of positions' float32 logits at once: this bounds how many positions are projected together."""


class Lens(Protocol):
    """What tells how uncertain a residual stream is of the next token."""

    def entropy(self, hidden: torch.Tensor) -> torch.Tensor:
        """Entropy in nats of the predicted distribution at a residual stream [..., hidden] → [...]."""


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
        self._norm = norm_beside(model, decoder_layers(model, layers_path))

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
            parts.append(entropy_of(self._head(self._norm(rows))))
        return torch.cat(parts).reshape(hidden.shape[:-1]).to(hidden.device)


def entropy_of(logits: torch.Tensor) -> torch.Tensor:
    """Entropy in nats of the distribution that logits [rows, vocabulary] give [rows]."""
    log_probs = torch.log_softmax(logits.float(), dim=-1)
    return -(log_probs.exp().mul_(log_probs)).sum(-1)


def norm_beside(model: Any, blocks: Any) -> Any:
    """The norm between the last decoder block and the unembedding: the one in the blocks' own module.

    Raises ModelError where there is not exactly one.
    """
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
