"""Coconut's continuous thoughts: after the prompt a model reads its own last hidden state in place of a token.

Hao et al. 2024, "Training Large Language Models to Reason in a Continuous Latent Space", section 3. The last
hidden state is the one that the model's head reads, so after the final norm. Their number is fixed before, so
that no token has to end them. With `pause` each thought is a fixed token instead, which costs as much compute
and carries nothing from step to step (the paper's control "pause as thought").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache

from pts.policies.transformers.distribution import truncate
from pts.records import Sampling, TokenIds

_NOT_LEARNT = -100


@dataclass
class Reader:
    """A causal model that reads rows of a batch on and on; `mask` [rows, length] is of all that was read.

    Gradients go through everything that was read.
    """

    model: Any
    mask: torch.Tensor = field(default_factory=lambda: torch.empty(0))

    def __post_init__(self) -> None:
        self.cache = DynamicCache(config=self.model.config)

    def read(self, inputs: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Read embeddings [rows, new, width] with their mask [rows, new]; their last hidden states."""
        self.mask = torch.cat([self.mask, mask], dim=1) if self.mask.numel() else mask
        places = (self.mask.cumsum(1) - 1).clamp(min=0)[:, -mask.size(1) :]
        out = self.model.get_decoder()(
            inputs_embeds=inputs,
            attention_mask=self.mask,
            position_ids=places,
            past_key_values=self.cache,
            use_cache=True,
        )
        hidden: torch.Tensor = out.last_hidden_state
        return hidden

    def keep(self, rows: torch.Tensor) -> None:
        """Go on with some of the rows alone."""
        self.cache.batch_select_indices(rows)
        self.mask = self.mask[rows]


def think(
    model: Any, prompts: Sequence[TokenIds], thoughts: int, pause: int | None
) -> tuple[Reader, torch.Tensor]:
    """Read prompts and then `thoughts` thoughts; the last hidden state [rows, 1, width] predicts the next."""
    table = model.get_input_embeddings()
    ids, mask = padded(prompts, left=True)
    reader = Reader(model)
    hidden = reader.read(table(ids), mask)[:, -1:]
    for _ in range(thoughts):
        thought = hidden if pause is None else table(torch.full((len(prompts), 1), pause))
        hidden = reader.read(thought, torch.ones(len(prompts), 1, dtype=torch.long))
    return reader, hidden


def learning_loss(
    model: Any, prompts: Sequence[TokenIds], rests: Sequence[TokenIds], thoughts: int, pause: int | None
) -> torch.Tensor:
    """The mean negative log-likelihood, in nats, of the tokens that follow prompt and thoughts."""
    reader, first = think(model, prompts, thoughts, pause)
    ids, mask = padded(rests, left=False)
    hidden = reader.read(model.get_input_embeddings()(ids[:, :-1]), mask[:, :-1])
    logits = model.get_output_embeddings()(torch.cat([first, hidden], dim=1))
    labels = ids.masked_fill(mask == 0, _NOT_LEARNT)
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=_NOT_LEARNT)


@torch.no_grad()
def complete(
    model: Any,
    prompts: Sequence[TokenIds],
    thoughts: int,
    pause: int | None,
    sampling: Sampling,
    stops: Sequence[int],
    rng: np.random.Generator,
) -> list[list[int]]:
    """What is written after prompt and thoughts, the end token included. Thoughts count in the budget."""
    written: list[list[int]] = [[] for _ in prompts]
    rows = np.arange(len(prompts))
    reader, hidden = think(model, prompts, thoughts, pause)
    for _ in range(sampling.budget - thoughts):
        found = truncate(model.get_output_embeddings()(hidden[:, -1]), sampling)
        uniform = rng.random((len(rows), 1)) * found.probs.sum(axis=1, keepdims=True)
        places = (np.cumsum(found.probs, axis=1) > uniform).argmax(axis=1)
        tokens = found.ids[np.arange(len(rows)), places]
        for row, token in zip(rows, tokens, strict=True):
            written[row].append(int(token))
        going = np.flatnonzero(~np.isin(tokens, list(stops)))
        if not len(going):
            break
        if len(going) < len(rows):
            reader.keep(torch.from_numpy(going))
            rows, tokens = rows[going], tokens[going]
        inputs = model.get_input_embeddings()(torch.from_numpy(tokens)[:, None])
        hidden = reader.read(inputs, torch.ones(len(rows), 1, dtype=torch.long))
    return written


def padded(rows: Sequence[TokenIds], *, left: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and their mask [rows, width], padded on one side."""
    width = max(map(len, rows))
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for place, row in enumerate(rows):
        taken = slice(width - len(row), width) if left else slice(0, len(row))
        ids[place, taken] = torch.tensor(row)
        mask[place, taken] = 1
    return ids, mask
