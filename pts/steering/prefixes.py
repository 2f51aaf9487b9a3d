"""Batches of pairs with their prefixes read once: what the harvest and the fitted directions start from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from transformers.cache_utils import DynamicCache

from pts.steering.pairs import Pair

KeyValues: TypeAlias = tuple[tuple[torch.Tensor, torch.Tensor], ...]
"""Keys and values [rows, heads, tokens, size] of each layer."""

BATCH_TOKENS, BATCH_ROWS = 16_384, 128


@dataclass(frozen=True, slots=True, eq=False)
class PrefixBatch:
    """Prefixes of some pairs, left-padded to one width.

    `ids`, `mask` and `positions` are [rows, width], on the model's device; `better` and `worse` [rows] are the
    two tokens, `weights` [rows] the gaps in value, `choices` [rows] the places of the pairs in the list given.
    """

    pairs: tuple[Pair, ...]
    choices: torch.Tensor
    ids: torch.Tensor
    mask: torch.Tensor
    positions: torch.Tensor
    better: torch.Tensor
    worse: torch.Tensor
    weights: torch.Tensor


def prefix_batches(
    model: Any, pairs: Sequence[Pair], most_tokens: int = BATCH_TOKENS, most_rows: int = BATCH_ROWS
) -> Iterator[PrefixBatch]:
    """The pairs in batches of about equal length, the shortest prefixes first, so that little is padding."""
    order = sorted(range(len(pairs)), key=lambda index: len(pairs[index].ids))
    group: list[int] = []
    for index in order:
        if group and (len(group) == most_rows or len(pairs[index].ids) * (len(group) + 1) > most_tokens):
            yield prefix_batch(model, pairs, group)
            group = []
        group.append(index)
    if group:
        yield prefix_batch(model, pairs, group)


def prefix_batch(model: Any, pairs: Sequence[Pair], chosen: Sequence[int]) -> PrefixBatch:
    """One batch of the pairs at `chosen` places."""
    taken = tuple(pairs[index] for index in chosen)
    width = max(len(pair.ids) for pair in taken)
    ids = torch.zeros(len(taken), width, dtype=torch.long)
    mask = torch.zeros(len(taken), width, dtype=torch.long)
    for row, pair in enumerate(taken):
        ids[row, width - len(pair.ids) :] = torch.tensor(pair.ids)
        mask[row, width - len(pair.ids) :] = 1
    device = model.device
    return PrefixBatch(
        pairs=taken,
        choices=torch.tensor(chosen),
        ids=ids.to(device),
        mask=mask.to(device),
        positions=(mask.cumsum(-1) - 1).clamp(min=0).to(device),
        better=torch.tensor([pair.better.token_id for pair in taken], device=device),
        worse=torch.tensor([pair.worse.token_id for pair in taken], device=device),
        weights=torch.tensor([pair.gap for pair in taken], device=device),
    )


@torch.no_grad()
def read_prefixes(model: Any, batch: PrefixBatch, tokens: int | None = None) -> KeyValues:
    """Keys and values of the first `tokens` columns of a batch (all but the last for None)."""
    width = batch.ids.shape[1] - 1 if tokens is None else tokens
    if width == 0:
        return ()
    cache = DynamicCache()
    model(
        input_ids=batch.ids[:, :width],
        attention_mask=batch.mask[:, :width],
        position_ids=batch.positions[:, :width],
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    return key_values(cache)


def key_values(cache: DynamicCache) -> KeyValues:
    """What a cache holds."""
    layers: Any = cache.layers
    return tuple((layer.keys, layer.values) for layer in layers)


def decision_logits(model: Any, batch: PrefixBatch, read: KeyValues) -> torch.Tensor:
    """Logits of the choice [rows, vocabulary]: one pass over the prefixes' last tokens, after what was read.

    Gradients flow to whatever a hook adds in the pass; `read` is left as it was.
    """
    output = model(
        input_ids=batch.ids[:, -1:],
        attention_mask=batch.mask,
        position_ids=batch.positions[:, -1:],
        past_key_values=DynamicCache(list(read)) if read else DynamicCache(),
        use_cache=True,
    )
    logits: torch.Tensor = output.logits[:, -1].float()
    return logits


def preference(logits: torch.Tensor, batch: PrefixBatch) -> torch.Tensor:
    """log p(better) − log p(worse) of each row [rows], in nats."""
    better = logits.gather(-1, batch.better[:, None])[:, 0]
    return better - logits.gather(-1, batch.worse[:, None])[:, 0]
