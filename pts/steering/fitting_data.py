"""What directions and gates are fitted to: pairs, a harvest, and a run's rollouts, with the model."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from pts.models.decoder_layers import adding, decoder_layers
from pts.steering.harvest import Activations, Harvest
from pts.steering.pairs import Pair
from pts.steering.prefixes import (
    PrefixBatch,
    decision_logits,
    preference,
    read_prefixes,
    step_batches,
)
from pts.steering.read_cache import ReadLayers
from pts.steering.reading_memory import OwnersCache, ReadingMemory
from pts.steering.training_rollouts import TrainingRollouts

STEP_PAIRS = 48
"""Pairs of a step of training."""


@dataclass(slots=True)
class FittingData:
    """What a direction is fitted to: pairs, with the model and the harvest of their activations.

    `memory_bytes` is what reading the pairs may take (by default half of what is free). What is kept between
    steps, keys and values and activations, is bounded for all that `of` makes of one together. `rollouts` are
    those that the method `outcome` is fitted to; None where there are pairs alone.
    """

    model: Any
    pairs: list[Pair]
    harvest: Harvest
    seed: int = 0
    layers_path: str | None = None
    memory_bytes: int | None = None
    rollouts: TrainingRollouts | None = None
    _steps: list[list[PrefixBatch]] = field(default_factory=list)
    _memory: ReadingMemory | None = None
    _cache: OwnersCache | None = None
    _self: object = field(default_factory=object)

    def of(self, pairs: list[Pair], *, pivots: bool = False) -> FittingData:
        """The same of other pairs, with which this shares its memory, and of their problems' rollouts.

        With `pivots`, of the rollouts that began at the pairs' own prefixes alone.
        """
        return FittingData(
            self.model,
            pairs,
            self.harvest,
            self.seed,
            self.layers_path,
            self.memory_bytes,
            None if self.rollouts is None else self.rollouts.of(pairs, pivots=pivots),
            _memory=self.memory,
            _cache=self.cache,
        )

    @property
    def memory(self) -> ReadingMemory:
        """What reading may take."""
        if self._memory is None:
            self._memory = ReadingMemory.of(self.model, self.memory_bytes)
        return self._memory

    @property
    def cache(self) -> OwnersCache:
        """What is kept between steps."""
        if self._cache is None:
            self._cache = OwnersCache(self.memory.cache_bytes)
        return self._cache

    @property
    def blocks(self) -> Any:
        """The model's decoder blocks."""
        return decoder_layers(self.model, self.layers_path)

    def norm(self, layer: int) -> float:
        """The residual stream's mean norm at a layer."""
        return self.harvest.residual_norms[layer]

    def activations(self, layer: int) -> Activations:
        """The pairs' activations at a layer, in the pairs' order; ordinary positions of these pairs alone."""
        indices = [pair.index for pair in self.pairs]
        return self.cache.get(
            self._self, layer, lambda: self.harvest.of(layer, indices), lambda found: found.nbytes
        )

    def steps(self) -> list[list[PrefixBatch]]:
        """The pairs of each step, shuffled once: one batch, or several where memory is short."""
        if not self._steps:
            order = np.random.default_rng(self.seed).permutation(len(self.pairs)).tolist()
            self._steps = [
                step_batches(self.model, self.pairs, order[start : start + STEP_PAIRS], self.memory)
                for start in range(0, len(order), STEP_PAIRS)
            ]
        return self._steps

    def read(self, batch: PrefixBatch) -> ReadLayers:
        """What the model keeps of a batch of `steps`, kept or read anew."""
        return self.cache.get(
            self._self, id(batch), partial(read_prefixes, self.model, batch, self.memory), _nbytes
        )

    def preference(
        self, batch: PrefixBatch, vectors: Mapping[int, torch.Tensor] = MappingProxyType({})
    ) -> torch.Tensor:
        """log p(better) − log p(worse) at a batch's choices [rows], in nats.

        `vectors` [hidden] are added at their layers where the choice is made; what stands before it is read
        without.
        """
        read = self.read(batch)
        with ExitStack() as stack:
            for layer, vector in vectors.items():
                stack.enter_context(adding(self.blocks[layer], vector))
            return preference(decision_logits(self.model, batch, read), batch)


def _nbytes(read: ReadLayers) -> int:
    return sum(layer.nbytes for layer in read)
