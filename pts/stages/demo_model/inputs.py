"""The inputs of the demo model's training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DemoModelInputs:
    """All that decides the demo model; the keys of its recipe.

    The sizes are those of `Architecture`, the schedule's fields those of `Schedule`, and `rates` maps fields of
    `WritingRates`. `threads` is part of the recipe because sums over threads differ in their last bits.
    """

    output: str
    seed: int
    threads: int
    hidden_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp_size: int
    steps: int
    tokens_per_step: int
    learning_rate: float
    weight_decay: float
    warmup_steps: int
    decay_phase: float
    drill_phase: float
    drill_first: float
    drill_later: float
    answers: float
    rates: Mapping[str, float]
