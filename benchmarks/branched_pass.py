"""A forward pass over a sequence and many short branches off it: each sees the sequence up to where it leaves.

What a model makes of every other first token at every fork of a trace is so had for about one more pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from pts.models.decoder_layers import decoder_layers, residual_of
from pts.records import TokenIds

MOST_TOKENS = 1536
"""Tokens of one pass, the sequence itself included: attention's memory grows with their square."""


@dataclass(frozen=True, slots=True)
class Branch:
    """Tokens `ids` that follow the first `start` tokens of the sequence."""

    start: int
    ids: TokenIds


@dataclass(frozen=True, slots=True)
class Reading:
    """Residual streams after layers, float32: `trunk` [tokens, layers, hidden], `branches` [n][its tokens, …].

    `log_probs` are, of each branch, those of its tokens after the first by the model itself [its tokens − 1],
    and `next_logits` the logits after its last token [vocabulary].
    """

    trunk: torch.Tensor
    branches: list[torch.Tensor]
    log_probs: list[torch.Tensor]
    next_logits: list[torch.Tensor]


class BranchedReader:
    """Reads sequences with their branches by one model; `layers` are those whose outputs are kept."""

    def __init__(self, model: Any, layers: Sequence[int]) -> None:
        self._model = model
        blocks = decoder_layers(model)
        self._blocks = [blocks[layer] for layer in layers]

    def read(self, trunk: TokenIds, branches: Sequence[Branch], *, temperature: float | None = None) -> Reading:
        """The sequence and its branches; probabilities at `temperature`, None where none are wanted."""
        reading = Reading(torch.empty(0), [], [], [])
        for group in _groups(len(trunk), branches):
            states, logits = self._pass(trunk, group, temperature is not None)
            if not len(reading.trunk):
                reading = Reading(states[: len(trunk)], [], [], [])
            at = len(trunk)
            for branch in group:
                end = at + len(branch.ids)
                reading.branches.append(states[at:end])
                if temperature is not None:
                    own = logits[at - len(trunk) : end - len(trunk)] / temperature
                    chosen = torch.tensor(branch.ids[1:])[:, None]
                    reading.log_probs.append(own[:-1].log_softmax(-1).gather(-1, chosen)[:, 0])
                    reading.next_logits.append(own[-1])
                at = end
        return reading

    @torch.inference_mode()
    def _pass(
        self, trunk: TokenIds, branches: Sequence[Branch], with_logits: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The residual streams of all tokens, and the logits [branch tokens, vocabulary] or none."""
        ids, positions, seen = _packed(trunk, branches)
        bias = torch.zeros(seen.shape, dtype=self._model.dtype)
        bias.masked_fill_(~seen, torch.finfo(self._model.dtype).min)
        kept: list[torch.Tensor] = [torch.empty(0)] * len(self._blocks)
        with _recording(self._blocks, kept):
            output = self._model(
                input_ids=ids[None],
                position_ids=positions[None],
                attention_mask=bias[None, None],
                use_cache=False,
                logits_to_keep=max(1, len(ids) - len(trunk)) if with_logits else 1,
            )
        return torch.stack(kept, dim=1), output.logits[0].float()


def _packed(trunk: TokenIds, branches: Sequence[Branch]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids [n], positions [n], and which tokens each token sees [n, n]."""
    ids = list(trunk)
    positions = list(range(len(trunk)))
    size = len(trunk) + sum(len(branch.ids) for branch in branches)
    seen = torch.zeros(size, size, dtype=torch.bool)
    seen[: len(trunk), : len(trunk)] = torch.ones(len(trunk), len(trunk), dtype=torch.bool).tril()
    for branch in branches:
        at, length = len(ids), len(branch.ids)
        seen[at : at + length, : branch.start] = True
        seen[at : at + length, at : at + length] = torch.ones(length, length, dtype=torch.bool).tril()
        ids += branch.ids
        positions += range(branch.start, branch.start + length)
    return torch.tensor(ids), torch.tensor(positions), seen


def _groups(trunk: int, branches: Sequence[Branch]) -> Iterator[Sequence[Branch]]:
    """Branches that fit into one pass together, in order; one empty group where there are none."""
    group: list[Branch] = []
    size = trunk
    for branch in branches:
        if group and size + len(branch.ids) > MOST_TOKENS:
            yield group
            group, size = [], trunk
        group.append(branch)
        size += len(branch.ids)
    yield group


@contextmanager
def _recording(blocks: Sequence[Any], kept: list[torch.Tensor]) -> Iterator[None]:
    """Puts what each block returns for its one row into `kept`, while the context lasts."""

    def hook(place: int) -> Any:
        def hear(_module: Any, _args: Any, output: object) -> None:
            kept[place] = residual_of(output)[0].float().cpu()

        return hear

    handles = [block.register_forward_hook(hook(place)) for place, block in enumerate(blocks)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
