"""A training step's completions, drawn with the weights of now by our policy or by TRL's generation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pts.models.load import LoadedModel
from pts.models.prompt import PromptFormat
from pts.policies import policy_of
from pts.policies.protocol import SteerablePolicy
from pts.policies.transformers.distribution import truncate
from pts.records import Problem, Sampling, TokenIds
from pts.seeds import derive_seed
from pts.training.curves import Drawn
from pts.training.objectives import Objective
from pts.training.samples import Asker, Mode, Sample, draw

if TYPE_CHECKING:
    from pts.training.trainer import ModeTrainer


@dataclass(frozen=True, slots=True)
class PolicyDrawing:
    """Draws with our own policy over the very weights that are trained.

    `decoding` is the sampler that the trained model will answer with: its share of no thinking is reported.
    """

    loaded: LoadedModel
    prompt_format: PromptFormat
    asker: Asker
    objective: Objective
    decoding: Sampling
    seed: int
    batch_rows: int | None = None

    def __call__(self, trainer: ModeTrainer, problems: Sequence[Problem], n: int, step: int) -> list[Drawn]:
        """The groups of a step; its draws come from the step and the problem alone."""
        modes = self.objective.modes(n)
        seed = derive_seed(self.seed, "step", step)
        model: Any = trainer.model
        was_training = model.training
        model.eval()
        try:
            with torch.no_grad():
                # A new one each step: what a policy has read of a prompt belongs to the weights it was read by.
                policy = policy_of(self.loaded, self.prompt_format, batch_rows=self.batch_rows)
                groups = draw(policy, self.asker, [(problem, modes) for problem in problems], seed)
                prompts = [policy.encode(problem) + lead_of(self.asker) for problem in problems]
                shares = [self._no_thinking(policy, prompt) for prompt in prompts]
        finally:
            model.train(was_training)
        return scored(self.objective, problems, groups, prompts, shares, step)

    def _no_thinking(self, policy: SteerablePolicy, prompt: TokenIds) -> tuple[float, float]:
        """The probability of no thinking after a prompt, at the training sampler and at the decoding one."""
        if self.asker.modes is None:
            return 0.0, 0.0
        first = self.asker.modes.no_thinking[0]
        training = policy.next_token_probs(prompt, (first,), self.asker.sampling)[0]
        # The same logits, up to a constant, at the other temperature and truncated.
        logits = torch.full((1, policy.vocabulary_size), -math.inf)
        logits[0, torch.from_numpy(training.ids)] = self.asker.sampling.temperature * torch.from_numpy(
            np.log(training.probs)
        ).to(logits.dtype)
        return training.prob(first), truncate(logits, self.decoding).row(0).prob(first)


@dataclass(frozen=True, slots=True)
class TrlDrawing:
    """Draws with TRL's own generation: vLLM beside the trainer, or `generate` where weights are sharded.

    Log-probabilities are read by one more pass of the model, so that the ratio is to what is trained.
    """

    asker: Asker
    objective: Objective
    encode: Callable[[Problem], TokenIds]
    decode: Callable[[TokenIds], str]
    end_token_ids: frozenset[int]

    def __call__(self, trainer: ModeTrainer, problems: Sequence[Problem], n: int, step: int) -> list[Drawn]:
        """The groups of a step. Equal prompts stand in runs of half a group, as TRL's vLLM wants them."""
        modes = self.objective.modes(n)
        prompts = [self.encode(problem) + lead_of(self.asker) for problem in problems]
        begun = [(prompt, self._opening(mode)) for prompt in prompts for mode in modes]
        rows = [list(prompt + opening) for prompt, opening in begun]
        alike = n // len(set(modes))
        written, _ = trainer._generate_single_turn(rows, None, {}, alike)  # type: ignore[no-untyped-call]
        completions = [(*opening, *map(int, ids)) for (_, opening), ids in zip(begun, written, strict=True)]
        logs = self._log_probs(trainer, [prompt for prompt, _ in begun], completions)
        groups: list[list[Sample]] = []
        for place, problem in enumerate(problems):
            own = range(place * n, (place + 1) * n)
            groups.append(
                [
                    self._sample(problem, modes[row - own[0]], completions[row], begun[row][1], logs[row])
                    for row in own
                ]
            )
        shares = self._shares(trainer, prompts)
        return scored(self.objective, problems, groups, prompts, shares, step)

    def _opening(self, mode: Mode) -> TokenIds:
        if mode == "free" or self.asker.modes is None:
            return ()
        return self.asker.modes.no_thinking if mode == "no thinking" else self.asker.modes.opener

    def _sample(
        self, problem: Problem, mode: Mode, completion: TokenIds, opening: TokenIds, logs: Sequence[float]
    ) -> Sample:
        budget = self.asker.no_thinking_budget if mode == "no thinking" else self.asker.sampling.budget
        cut = len(completion) > budget or completion[-1] not in self.end_token_ids
        known = (math.nan,) * len(opening) + tuple(logs[len(opening) : budget])
        return self.asker.judged(self.decode, problem, completion[:budget], cut, known, forced=mode != "free")

    def _log_probs(
        self, trainer: ModeTrainer, prompts: Sequence[TokenIds], completions: Sequence[TokenIds]
    ) -> list[list[float]]:
        width, longest = max(map(len, completions)), max(map(len, prompts))
        prompt_ids, prompt_mask = trainer._ids(prompts, longest, left=True)
        ids, mask = trainer._ids(completions, width, left=False)
        device = trainer.accelerator.device
        with torch.no_grad():
            logs, _, _ = trainer._get_per_token_logps_and_entropies(
                trainer.model,
                torch.cat([prompt_ids, ids], dim=1).to(device),
                torch.cat([prompt_mask, mask], dim=1).to(device),
                width,
                batch_size=trainer.args.per_device_train_batch_size,
            )
        return [row[: len(completion)] for row, completion in zip(logs.tolist(), completions, strict=True)]

    def _shares(self, trainer: ModeTrainer, prompts: Sequence[TokenIds]) -> list[tuple[float, float]]:
        """The probability of no thinking at the training sampler; that at another is not read here."""
        if self.asker.modes is None:
            return [(0.0, 0.0)] * len(prompts)
        first = self.asker.modes.no_thinking[:1]
        logs = self._log_probs(trainer, prompts, [first] * len(prompts))
        return [(math.exp(row[0]), math.nan) for row in logs]


def lead_of(asker: Asker) -> TokenIds:
    """What both modes share after a prompt."""
    return () if asker.modes is None else asker.modes.lead


def scored(
    objective: Objective,
    problems: Sequence[Problem],
    groups: Sequence[Sequence[Sample]],
    prompts: Sequence[TokenIds],
    shares: Sequence[tuple[float, float]],
    step: int,
) -> list[Drawn]:
    """The groups with their rewards and advantages."""
    return [
        Drawn(problem, prompt, group, objective.scored(problem, group, step), *share)
        for problem, prompt, group, share in zip(problems, prompts, groups, shares, strict=True)
    ]
