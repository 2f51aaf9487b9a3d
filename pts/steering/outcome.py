"""`outcome`: a vector trained on graded rollouts by how much better than their prefix they did."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pts.errors import ConfigError
from pts.steering.fitting_data import FittingData
from pts.steering.gates import token_gate
from pts.steering.reading_memory import ReadingMemory
from pts.steering.rollout_batches import ReadRollout, Steered, batches, policy_logs
from pts.steering.vector_algebra import unit_direction


@dataclass(frozen=True, slots=True)
class OutcomeFit:
    """How vectors are trained on rollouts.

    `clip` is how far a token's ratio to the policy that drew it may go before it says no more (PPO, Schulman et
    al. 2017), `kl` the price of a nat of KL(steered ‖ that policy) per token, in success. `cap` is a vector's
    largest norm, in multiples of the residual stream's mean norm, which Adam going straight reaches in
    `cap_steps`. A step reads about `step_tokens` tokens.
    """

    steps: int = 40
    step_tokens: int = 4_096
    clip: float = 1.0
    kl: float = 0.05
    cap: float = 0.8
    cap_steps: int = 10


DEFAULT_FIT = OutcomeFit()


def outcome_direction(data: FittingData, layer: int) -> torch.Tensor:
    """The vector that makes rollouts likelier by how much better than their prefix they did.

    Trained as it is then added: after the tokens of the `tokens` gate, or everywhere where no token stands
    before pivots more often than elsewhere. Raises ConfigError where there are no rollouts.
    """
    return unit_direction(outcome_vectors(data, (layer,))[layer], "outcome", layer)


def outcome_vectors(
    data: FittingData, layers: Sequence[int], fit: OutcomeFit = DEFAULT_FIT
) -> dict[int, torch.Tensor]:
    """Vectors by layer [hidden], trained together on the data's rollouts."""
    if data.rollouts is None:
        raise ConfigError("the method outcome is fitted to a run's graded rollouts, and there are pairs alone.")
    after = token_gate(data, layers[len(layers) // 2]).token_ids or None
    width = int(data.model.config.get_text_config(decoder=True).hidden_size)
    begin = Steered(data.blocks, {layer: torch.zeros(width) for layer in layers}, after)
    rollouts = data.rollouts.read(data.model, data.memory)
    norms = {layer: data.norm(layer) for layer in layers}
    temperature = data.rollouts.sampling.temperature
    return trained(data.model, rollouts, begin, norms, temperature, data.memory, data.seed, fit)


def trained(
    model: Any,
    rollouts: Sequence[ReadRollout],
    begin: Steered,
    norms: Mapping[int, float],
    temperature: float,
    memory: ReadingMemory,
    seed: int,
    fit: OutcomeFit = DEFAULT_FIT,
) -> dict[int, torch.Tensor]:
    """Vectors by layer [hidden], from those of `begin` on: the policy gradient with them as its only parameters
    (bias-only adaptation, Sinii et al. 2025).

    `norms` are the residual stream's mean norms. Every step takes other rollouts, in an order drawn anew for
    each time through.
    """
    vectors = {
        layer: vector.detach().clone().to(model.device).requires_grad_()
        for layer, vector in begin.vectors.items()
    }
    steered = Steered(begin.blocks, vectors, begin.after)
    groups = [
        {"params": [vector], "lr": fit.cap * norms[layer] / (fit.cap_steps * len(vector) ** 0.5)}
        for layer, vector in vectors.items()
    ]
    optimiser = torch.optim.Adam(groups)
    steps = _steps(rollouts, fit.step_tokens, seed)
    for _ in range(fit.steps):
        taken = next(steps)
        scale = sum(each.weight * len(each.column) for each in taken)
        optimiser.zero_grad()
        for batch in batches(model, taken, memory):
            log_ratio, kl = policy_logs(model, batch, steered, temperature)
            ratio, advantage = log_ratio.exp(), batch.advantages
            clipped = ratio.clamp(1 - fit.clip, 1 + fit.clip)
            gain = torch.minimum(ratio * advantage, clipped * advantage) - fit.kl * kl
            loss = -(batch.weights[:, None] * gain).sum() / scale
            loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        with torch.no_grad():
            for layer, vector in vectors.items():
                vector *= min(1.0, fit.cap * norms[layer] / max(float(vector.norm()), 1e-12))
    return {layer: vector.detach().cpu() for layer, vector in vectors.items()}


def _steps(rollouts: Sequence[ReadRollout], tokens: int, seed: int) -> Iterator[list[ReadRollout]]:
    """The rollouts of each step, without end."""
    generator = np.random.default_rng(seed)
    while True:
        taken: list[ReadRollout] = []
        read = 0
        for place in generator.permutation(len(rollouts)).tolist():
            taken.append(rollouts[place])
            read += len(rollouts[place].ids)
            if read >= tokens:
                yield taken
                taken, read = [], 0
        if taken:
            yield taken
