"""Batches of pairs with their prefixes read once: what the harvest and the fitted directions start from.

Memory: a batch has as many rows as the keys and values of its tokens and its logits may take bytes
(`pts.steering.reading_memory`), and is read in passes over some of its columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer

from pts.steering.pairs import Pair
from pts.steering.reading_memory import ReadingMemory

KeyValues: TypeAlias = tuple[tuple[torch.Tensor, torch.Tensor], ...]
"""Keys and values [rows, heads, tokens, size] of each layer."""

BATCH_TOKENS, BATCH_ROWS = 16_384, 128
"""Tokens and rows of a batch, where memory allows them."""


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
    model: Any,
    pairs: Sequence[Pair],
    most_tokens: int = BATCH_TOKENS,
    most_rows: int = BATCH_ROWS,
    memory: ReadingMemory | None = None,
) -> Iterator[PrefixBatch]:
    """The pairs in batches of about equal length, the shortest prefixes first, so that little is padding.

    What `memory` allows bounds a batch too (by default half of what is free); one pair can always be read.
    """
    memory = memory or ReadingMemory.of(model)
    for group in _groups(pairs, min(most_tokens, memory.batch_tokens), min(most_rows, memory.batch_rows)):
        yield prefix_batch(model, pairs, group)


def step_batches(
    model: Any, pairs: Sequence[Pair], chosen: Sequence[int], memory: ReadingMemory
) -> list[PrefixBatch]:
    """The pairs at `chosen` places as one batch, or as several where they do not fit in memory together."""
    width = max(len(pairs[index].ids) for index in chosen)
    if len(chosen) <= memory.batch_rows and len(chosen) * width <= memory.batch_tokens:
        return [prefix_batch(model, pairs, chosen)]
    groups = _groups([pairs[index] for index in chosen], memory.batch_tokens, memory.batch_rows)
    return [prefix_batch(model, pairs, [chosen[place] for place in group]) for group in groups]


def _groups(pairs: Sequence[Pair], most_tokens: int, most_rows: int) -> Iterator[list[int]]:
    """Places of pairs in groups, by length."""
    order = sorted(range(len(pairs)), key=lambda index: len(pairs[index].ids))
    group: list[int] = []
    for index in order:
        if group and (len(group) == most_rows or len(pairs[index].ids) * (len(group) + 1) > most_tokens):
            yield group
            group = []
        group.append(index)
    if group:
        yield group


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
def read_prefixes(model: Any, batch: PrefixBatch, memory: ReadingMemory | None = None) -> KeyValues:
    """Keys and values of all columns of a batch but the last."""
    memory = memory or ReadingMemory.of(model)
    rows, width = batch.ids.shape[0], batch.ids.shape[1] - 1
    if width == 0:
        return ()
    cache = DynamicCache()
    size = memory.columns(rows, width)
    for start in range(0, width, size):
        end = min(width, start + size)
        model(
            input_ids=batch.ids[:, start:end],
            attention_mask=batch.mask[:, :end],
            position_ids=batch.positions[:, start:end],
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
    return key_values(cache)


def key_values(cache: DynamicCache) -> KeyValues:
    """What a cache holds."""
    layers: Any = cache.layers
    return tuple((layer.keys, layer.values) for layer in layers)


class _ReadLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """Keys and values that one pass attends over and leaves as they are."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What was read, with the pass's own behind it."""
        assert self.keys is not None
        assert self.values is not None
        return torch.cat([self.keys, key_states], dim=-2), torch.cat([self.values, value_states], dim=-2)


def read_cache(read: KeyValues) -> DynamicCache:
    """A cache for one pass after what was read, of which it makes no copy."""
    cache = DynamicCache()
    for keys, values in read:
        layer = _ReadLayer()  # type: ignore[no-untyped-call]
        layer.lazy_initialization(keys, values)
        layer.keys, layer.values = keys, values
        cache.layers.append(layer)
    return cache


def decision_logits(model: Any, batch: PrefixBatch, read: KeyValues) -> torch.Tensor:
    """Logits of the choice [rows, vocabulary]: one pass over the prefixes' last tokens, after what was read.

    Gradients flow to whatever a hook adds in the pass; `read` is left as it was.
    """
    output = model(
        input_ids=batch.ids[:, -1:],
        attention_mask=batch.mask,
        position_ids=batch.positions[:, -1:],
        past_key_values=read_cache(read),
        use_cache=True,
    )
    logits: torch.Tensor = output.logits[:, -1].float()
    return logits


def preference(logits: torch.Tensor, batch: PrefixBatch) -> torch.Tensor:
    """log p(better) − log p(worse) of each row [rows], in nats."""
    better = logits.gather(-1, batch.better[:, None])[:, 0]
    return better - logits.gather(-1, batch.worse[:, None])[:, 0]
