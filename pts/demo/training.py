"""Trains the demo model from nothing: drill first, then the mix, then the mix at a falling learning rate."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch.nn import functional
from transformers import GenerationConfig, Qwen3Config, Qwen3ForCausalLM

from pts.demo.training_examples import IGNORED, Mixture, batches
from pts.demo.vocabulary import PAD, TURN_END, vocabulary
from pts.demo.writer import WritingRates

log = logging.getLogger(__name__)

_LOG_EVERY = 50


@dataclass(frozen=True, slots=True)
class Architecture:
    """The sizes of the Qwen3 model."""

    hidden_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp_size: int


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast to learn.

    The first `drill_phase` of the steps draws `drill_first` of its examples from the drill, the rest
    `drill_later`; `answers` of the other examples are without thinking. The learning rate rises over
    `warmup_steps`, stays, and falls to zero over the last `decay_phase` of the steps.
    """

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


def new_model(architecture: Architecture, seed: int) -> Qwen3ForCausalLM:
    """A Qwen3 model over the demo vocabulary with random weights of the seed, in fp32."""
    words = vocabulary()
    config = Qwen3Config(
        vocab_size=len(words),
        hidden_size=architecture.hidden_size,
        intermediate_size=architecture.mlp_size,
        num_hidden_layers=architecture.layers,
        num_attention_heads=architecture.heads,
        num_key_value_heads=architecture.kv_heads,
        head_dim=architecture.head_dim,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        pad_token_id=words.index(PAD),
        eos_token_id=words.index(TURN_END),
        bos_token_id=None,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Qwen3ForCausalLM(config)
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        eos_token_id=config.eos_token_id, pad_token_id=config.pad_token_id
    )
    return model


def train(model: Qwen3ForCausalLM, schedule: Schedule, rates: WritingRates, seed: int) -> list[float]:
    """Trains the model in place; returns the mean loss of every step, in nats a learned token."""
    optimizer = _optimizer(model, schedule)
    losses: list[float] = []
    started, tokens = time.monotonic(), 0
    model.train()
    for step, (ids, labels) in enumerate(_phases(schedule, rates, random.Random(seed))):
        for group in optimizer.param_groups:
            group["lr"] = schedule.learning_rate * _rate(step, schedule)
        loss = _loss(model, ids, labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        tokens += ids.numel()
        if (step + 1) % _LOG_EVERY == 0:
            _report(step + 1, schedule.steps, losses, tokens, time.monotonic() - started)
    model.eval()  # type: ignore[no-untyped-call]
    return losses


def _phases(
    schedule: Schedule, rates: WritingRates, rng: random.Random
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    drilling = round(schedule.steps * schedule.drill_phase)
    for share, steps in ((schedule.drill_first, drilling), (schedule.drill_later, schedule.steps - drilling)):
        yield from batches(rng, Mixture(share, schedule.answers), rates, schedule.tokens_per_step, steps)


def _optimizer(model: Qwen3ForCausalLM, schedule: Schedule) -> torch.optim.Optimizer:
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": schedule.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=schedule.learning_rate, betas=(0.9, 0.98))


def _rate(step: int, schedule: Schedule) -> float:
    """The learning rate of a step as a share of the highest."""
    rising = min(1.0, (step + 1) / max(1, schedule.warmup_steps))
    falling = (schedule.steps - step) / max(1.0, schedule.steps * schedule.decay_phase)
    return min(rising, falling, 1.0)


def _loss(model: Qwen3ForCausalLM, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy over the learned tokens; the output layer sees only the positions before them."""
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
    targets = labels[:, 1:]
    learned = targets != IGNORED
    return functional.cross_entropy(model.lm_head(hidden[learned]), targets[learned])


def _report(step: int, steps: int, losses: list[float], tokens: int, seconds: float) -> None:
    recent = losses[-_LOG_EVERY:]
    log.info(
        "step %d of %d, loss %.4f, %.0f tokens/s, %.0f s left",
        *(step, steps, sum(recent) / len(recent), tokens / seconds, seconds / step * (steps - step)),
    )
