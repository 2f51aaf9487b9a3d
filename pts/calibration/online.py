"""Vectors trained on policy, by rollouts of the steered model: how far vectors can go at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pts.errors import DataError
from pts.evaluation.decoder import Decoder
from pts.models.decoder_layers import decoder_layers
from pts.records import Problem, RolloutRequest
from pts.seeds import derive_seed
from pts.steering.graded_rollouts import Graded, RolloutSample, Start
from pts.steering.hooks import Intervention
from pts.steering.outcome import OutcomeFit, trained
from pts.steering.reading_memory import ReadingMemory
from pts.steering.rollout_batches import Steered, read_rollouts
from pts.steering.vector_set import Gate


@dataclass(frozen=True, slots=True)
class OnlineFit:
    """How vectors are trained on policy: in each of `rounds`, `samples` completions each of the next `problems`
    problems, then `fit.steps` steps on them."""

    rounds: int = 6
    problems: int = 48
    samples: int = 8
    fit: OutcomeFit = OutcomeFit(steps=12)  # noqa: RUF009 (frozen)


@dataclass(frozen=True, slots=True, eq=False)
class OnlineVectors:
    """The trained vectors by layer [hidden], the generated tokens that they cost, and each round's success."""

    vectors: dict[int, torch.Tensor]
    tokens: int
    success: tuple[float, ...]


def train_online(
    decoder: Decoder,
    problems: Sequence[Problem],
    norms: dict[int, float],
    gate: Gate,
    seed: int = 0,
    online: OnlineFit = OnlineFit(),
) -> OnlineVectors:
    """Train vectors on the steered model's own rollouts, at the layers of `norms` (residual's mean norms).

    The objective of `outcome`, with each round's rollouts drawn by the vectors of the round before, and the
    value of a prompt taken from its other completions (GRPO, Shao et al. 2024, with a vector as the only
    parameter). Ratio and KL are to the policy that drew the round. The gate is `always` or `tokens`. Raises
    DataError where no round has a problem with both outcomes.
    """
    model = decoder.loaded.model
    width = int(model.config.get_text_config(decoder=True).hidden_size)
    after = gate.token_ids if gate.kind == "tokens" else None
    memory = ReadingMemory.of(model, decoder.memory_bytes)
    blocks = decoder_layers(model, decoder.layers_path)
    steered = Steered(blocks, {layer: torch.zeros(width) for layer in norms}, after)
    tokens, success, learned = 0, [], False
    for number in range(online.rounds):
        first = number * online.problems
        chosen = [problems[(first + place) % len(problems)] for place in range(online.problems)]
        sample, generated = _draw(decoder, chosen, steered, gate, online.samples, derive_seed(seed, number))
        tokens += generated
        success.append(sum(row.count * row.success for row in sample.rollouts) / (len(chosen) * online.samples))
        rollouts = read_rollouts(model, sample, memory, f"round {number + 1}", steered)
        if not rollouts:
            continue
        learned = True
        vectors = trained(
            model, rollouts, steered, norms, decoder.sampling.temperature, memory, seed + number, online.fit
        )
        steered = Steered(blocks, vectors, after)
    if not learned:
        raise DataError(
            "no problem was both solved and failed in any round, so that nothing tells good from bad: give "
            "problems that the model solves sometimes."
        )
    return OnlineVectors(dict(steered.vectors), tokens, tuple(success))


def _draw(
    decoder: Decoder, problems: Sequence[Problem], steered: Steered, gate: Gate, samples: int, seed: int
) -> tuple[RolloutSample, int]:
    """Graded completions of the steered model, and how many tokens were generated."""
    variant = [Intervention(layer, vector, gate) for layer, vector in steered.vectors.items()]
    rows: list[Graded] = []
    tokens = 0
    with decoder.steered([variant]) as policy:
        requests = [
            RolloutRequest(
                policy.encode(problem),
                n=samples,
                seed=derive_seed(seed, place, problem.id),
                variant=1,
                key=str(place),
                sampling=decoder.sampling,
            )
            for place, problem in enumerate(problems)
        ]
        starts = [
            Start(f"{request.key} {problem.id}", request.prompt, ())
            for request, problem in zip(requests, problems, strict=True)
        ]
        for rollout in policy.rollouts(requests):
            place = int(rollout.request.key)
            text = policy.decode(rollout.completion, decoder.sampling.stop)
            solved = rollout.finish == "end" and decoder.grade(text, problems[place].answer)
            rows.append(Graded(place, "free", rollout.completion, rollout.count, solved))
            tokens += rollout.count * len(rollout.completion)
    rows.sort(key=lambda row: (row.start, row.new))
    return RolloutSample(tuple(starts), tuple(rows), decoder.sampling), tokens
