"""Batches of pairs with their prefixes read once: what the harvest and the fitted directions start from.

Memory: a batch has as many rows as the keys and values of its tokens and its logits may take bytes
(`pts.steering.reading_memory`), and is read in passes over some of its columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pts.policies.transformers.forward import forward, pieces
from pts.policies.transformers.model_cache import empty_cache, goes_on_by_steps
from pts.steering.pairs import Pair
from pts.steering.read_cache import ReadLayers, read_cache, read_layers, states_saved
from pts.steering.reading_memory import ReadingMemory

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

    Of equal length where the model reads on from a state by single tokens: these take no mask.
    What `memory` allows bounds a batch too (by default half of what is free); one pair can always be read.
    """
    memory = memory or ReadingMemory.of(model)
    most = min(most_tokens, memory.batch_tokens), min(most_rows, memory.batch_rows)
    for group in _groups(pairs, *most, alike=goes_on_by_steps(model)):
        yield prefix_batch(model, pairs, group)


def step_batches(
    model: Any, pairs: Sequence[Pair], chosen: Sequence[int], memory: ReadingMemory
) -> list[PrefixBatch]:
    """The pairs at `chosen` places as one batch, or as several where they do not fit in memory together."""
    width, alike = max(len(pairs[index].ids) for index in chosen), goes_on_by_steps(model)
    if not alike and len(chosen) <= memory.batch_rows and len(chosen) * width <= memory.batch_tokens:
        return [prefix_batch(model, pairs, chosen)]
    taken = [pairs[index] for index in chosen]
    groups = _groups(taken, memory.batch_tokens, memory.batch_rows, alike=alike)
    return [prefix_batch(model, pairs, [chosen[place] for place in group]) for group in groups]


def _groups(pairs: Sequence[Pair], most_tokens: int, most_rows: int, *, alike: bool) -> Iterator[list[int]]:
    """Places of pairs in groups, by length; those of a group are of one length where they must be `alike`."""
    order = sorted(range(len(pairs)), key=lambda index: len(pairs[index].ids))
    group: list[int] = []
    for index in order:
        length = len(pairs[index].ids)
        full = len(group) == most_rows or length * (len(group) + 1) > most_tokens
        if group and (full or (alike and length != len(pairs[group[0]].ids))):
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
def read_prefixes(model: Any, batch: PrefixBatch, memory: ReadingMemory | None = None) -> ReadLayers:
    """What a model keeps of all columns of a batch but the last."""
    memory = memory or ReadingMemory.of(model)
    rows, width = batch.ids.shape[0], batch.ids.shape[1] - 1
    if width == 0:
        return ()
    cache = empty_cache(model)
    for start, end in pieces(model, width, memory.columns(rows, width)):
        read = slice(start, end)
        mask = padding_mask(model, batch.mask[:, :end])
        forward(model, batch.ids[:, read], batch.positions[:, read], cache, mask=mask)
    return read_layers(cache)


def decision_logits(model: Any, batch: PrefixBatch, read: ReadLayers) -> torch.Tensor:
    """Logits of the choice [rows, vocabulary]: one pass over the prefixes' last tokens, after what was read.

    Gradients flow to whatever a hook adds in the pass; `read` is left as it was.
    """
    cache, mask = read_cache(model, read), padding_mask(model, batch.mask)
    with states_saved(cache):
        logits = forward(model, batch.ids[:, -1:], batch.positions[:, -1:], cache, mask=mask)
    return logits[:, -1].float()


def padding_mask(model: Any, mask: torch.Tensor) -> torch.Tensor | None:
    """What a model hears of the padding; None for one whose batches have none, since its steps take no mask."""
    return None if goes_on_by_steps(model) else mask


def preference(logits: torch.Tensor, batch: PrefixBatch) -> torch.Tensor:
    """log p(better) − log p(worse) of each row [rows], in nats."""
    better = logits.gather(-1, batch.better[:, None])[:, 0]
    return better - logits.gather(-1, batch.worse[:, None])[:, 0]
