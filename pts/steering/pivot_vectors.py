"""The vector of a single pivot: the direction that raises its own better token over its worse one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import normalize

from pts.errors import DataError
from pts.models.decoder_layers import adding, decoder_layers
from pts.setting_names import setting
from pts.steering.pairs import Pair
from pts.steering.prefixes import (
    PrefixBatch,
    decision_logits,
    preference,
    prefix_batches,
    read_prefixes,
)
from pts.steering.read_cache import ReadLayers
from pts.steering.reading_memory import ReadingMemory


def pivot_directions(
    model: Any, pairs: Sequence[Pair], layer: int, layers_path: str | None = None
) -> torch.Tensor:
    """Each pair's own unit vector [pairs, hidden], float32 on the CPU.

    It is the gradient of log p(better) − log p(worse) by the residual stream before the choice: added there, it
    makes the better token likelier, whichever of the two the trace took. Raises DataError where a gradient is
    zero or not finite.
    """
    block = decoder_layers(model, layers_path)[layer]
    width = int(model.config.get_text_config(decoder=True).hidden_size)
    found = torch.empty(len(pairs), width)
    memory = ReadingMemory.of(model)
    for batch in prefix_batches(model, pairs, memory=memory):
        read = read_prefixes(model, batch, memory)
        found[batch.choices] = _gradients(model, block, batch, read, width).float().cpu()
    broken = ~torch.isfinite(found).all(dim=1) | (found.norm(dim=1) == 0)
    if broken.any():
        pair = pairs[int(broken.nonzero()[0])]
        raise DataError(
            f"the gradient at a pivot of problem {pair.problem_id} is zero or not finite at layer {layer}: "
            f"search with another {setting('dtype')}, or extract at other {setting('layers')}."
        )
    return normalize(found, dim=1)


def _gradients(model: Any, block: Any, batch: PrefixBatch, read: ReadLayers, width: int) -> torch.Tensor:
    """The gradients of one batch [rows, hidden]. Rows do not touch each other, so one sum gives them all."""
    added = torch.zeros(len(batch.pairs), 1, width, device=model.device, requires_grad=True)

    with adding(block, added):
        total = preference(decision_logits(model, batch, read), batch).sum()
        (gradient,) = torch.autograd.grad(total, added)
    return gradient[:, 0]
