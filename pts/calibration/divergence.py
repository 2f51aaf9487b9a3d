"""How far steering moves a model's next-token distributions from its own.

Memory: one completion at a time, read in chunks of tokens. Alive at once are its keys and values twice (steered
and not), the prompt's, and `_COPIES` tensors of [chunk, vocabulary], which the chunk's size bounds in bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from pts.policies.transformers.prefill import PrefixStore
from pts.policies.transformers.prefilled import Reading
from pts.records import Rollout, TokenIds
from pts.steering.hooks import Intervention, steer
from pts.steering.reading_memory import granted_bytes

_COPIES = 8
"""Float32 tensors of [chunk, vocabulary] that are alive at once, at most."""
_LOGITS_BYTES = 64 << 20
"""Bytes of one of them, where more memory is free."""


@torch.inference_mode()
def kl_per_token(
    model: Any,
    variant: Sequence[Intervention],
    rollouts: Sequence[Rollout],
    layers_path: str | None = None,
    *,
    memory_bytes: int | None = None,
) -> float:
    """Mean KL(steered ‖ unsteered) per completion token, in nats, over completions drawn while steered.

    Both distributions are the model's own at temperature 1, without truncation, after the same tokens.
    Positions of the prompt are not steered. `memory_bytes` bounds the logits (by default half of what is
    free); beyond that one completion's keys and values are held, twice.
    """
    granted = granted_bytes(model.device, memory_bytes)
    total, tokens = 0.0, 0
    with steer(model, [variant], engine_driven=True, layers_path=layers_path) as steering:
        logits_bytes = min(_LOGITS_BYTES, granted // (2 * _COPIES))
        store = PrefixStore(model, granted // 8, steering=steering, logits_bytes=logits_bytes)
        for rollout in rollouts:
            total += _summed(store, rollout.request.prompt, rollout.completion)
            tokens += len(rollout.completion)
    return total / max(1, tokens)


def _summed(store: PrefixStore, prompt: TokenIds, completion: TokenIds) -> float:
    """KL summed over a completion's tokens."""
    first = len(prompt) - 1
    if first:
        # Both readings go on from it, in chunks of the same tokens.
        store.prefilled(prompt[:-1])
    ids = prompt + completion[:-1]
    plain = store.logits(ids, first, keep=False)
    steered = store.logits(ids, first, Reading(1, len(prompt)), keep=False)
    return math.fsum(_divergence(*chunks) for chunks in zip(steered, plain, strict=True))


def _divergence(steered: torch.Tensor, plain: torch.Tensor) -> float:
    """KL(steered ‖ plain) summed over tokens, of logits [tokens, vocabulary]."""
    own = torch.log_softmax(steered.float(), -1)
    gap = own - torch.log_softmax(plain.float(), -1)
    probs = own.exp_()
    # Where the steered model never goes, both may be at minus infinity.
    return float(gap.mul_(probs).masked_fill_(probs == 0, 0.0).sum(dtype=torch.float64))
