"""AdaptThink and length rewards as TRL's GRPO trainer with its completions and advantages set by us."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from trl.trainer.grpo_trainer import GRPOTrainer

from pts.errors import RunError
from pts.records import Problem, TokenIds
from pts.setting_names import setting
from pts.training.curves import Drawn
from pts.training.modes import Modes
from pts.training.ratios import Form, clipped_loss, old_log_probs, padded, ratios


class Drawing(Protocol):
    """Draws and scores the completions of a step, with the policy as it is now."""

    def __call__(self, trainer: ModeTrainer, problems: Sequence[Problem], n: int, step: int) -> list[Drawn]:
        """The groups of `n` completions of each problem, at a step (from 0)."""


@dataclass(frozen=True, slots=True)
class Learning:
    """What a `ModeTrainer` needs beside TRL's own settings.

    `modes` is None for a model that is asked as it is, `clip` PPO's ε; `heard` is told of every step's draws,
    of all processes, before the update.
    """

    problems: Sequence[Problem]
    modes: Modes | None
    drawing: Drawing
    form: Form
    clip: float
    heard: Callable[[int, list[Drawn]], None]


class ModeTrainer(GRPOTrainer):  # type: ignore[misc, unused-ignore]
    """TRL's trainer, whose completions may be made to begin in a mode.

    It overrides where completions are generated and scored: there it sets advantages (no group mean but what
    the objective takes, no scaling) and the log-probabilities that the importance ratio is to. TRL's own loss
    with the ratio of sequences is the form `sequence`; `full` has its own few lines.
    """

    def __init__(self, *args: Any, learning: Learning, **more: Any) -> None:
        super().__init__(*args, **more)
        self.learning = learning

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Draw, score and batch the completions of this process's rows, each problem's n rows in a run."""
        from accelerate.utils import gather_object

        n, step = int(self.num_generations or 1), int(self.state.global_step)
        problems = [self.learning.problems[int(row["place"])] for row in inputs[::n]]
        drawn = self.learning.drawing(self, problems, n, step)
        self.learning.heard(step, list(gather_object(drawn)))
        return self._batched(drawn)

    def _batched(self, drawn: Sequence[Drawn]) -> dict[str, torch.Tensor]:
        """The tensors that TRL's loss reads: prompts [batch, prompt] padded left, the rest right."""
        samples = [sample for one in drawn for sample in one.group]
        width = max(sample.tokens for sample in samples)
        completions, completion_mask = self._ids([sample.completion for sample in samples], width, left=False)
        prompts = [one.prompt for one in drawn for _ in one.group]
        longest = max(map(len, prompts))
        prompt_ids, prompt_mask = self._ids(prompts, longest, left=True)
        old = padded([old_log_probs(sample, self.learning.modes) for sample in samples], width)
        advantages = torch.tensor([score.advantage for one in drawn for score in one.scored])
        device = self.accelerator.device
        batch = {
            "prompt_ids": prompt_ids,
            "prompt_mask": prompt_mask,
            "completion_ids": completions,
            "completion_mask": completion_mask,
            "advantages": advantages,
            "old_per_token_logps": old,
            "num_items_in_batch": completion_mask.sum(),
        }
        return {name: tensor.to(device) for name, tensor in batch.items()}

    def _ids(self, rows: Sequence[TokenIds], width: int, *, left: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids and their mask [rows, width], padded on one side."""
        ids = torch.full((len(rows), width), int(self._tokenizer.pad_token_id))
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        for place, row in enumerate(rows):
            taken = slice(width - len(row), width) if left else slice(0, len(row))
            ids[place, taken] = torch.tensor(row)
            mask[place, taken] = 1
        return ids, mask

    def _compute_loss(self, model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """TRL's loss, or that of full ratios. Raises RunError where it is not a number."""
        if self.learning.form == "full":
            loss = self._full_ratio_loss(model, inputs)
        else:
            loss = super()._compute_loss(model, inputs)  # type: ignore[no-untyped-call]
        if not torch.isfinite(loss):
            raise RunError(
                f"the loss of step {int(self.state.global_step) + 1} is not a number: give a lower "
                f"{setting('learning_rate')}, with {setting('fresh', True)}. What was saved before is kept."
            )
        return loss

    def _full_ratio_loss(self, model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        mask = inputs["completion_mask"]
        log_probs, _, _ = self._get_per_token_logps_and_entropies(
            model,
            torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1),
            torch.cat([inputs["prompt_mask"], mask], dim=1),
            mask.size(1),
        )
        ratio = ratios(log_probs, inputs["old_per_token_logps"], mask, "full")
        loss = clipped_loss(ratio, inputs["advantages"], self.learning.clip)
        return loss / self.current_gradient_accumulation_steps
