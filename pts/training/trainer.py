"""AdaptThink and length rewards as TRL's GRPO trainer with its completions and advantages set by us."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from trl.trainer.grpo_trainer import GRPOTrainer

from pts.records import Problem, TokenIds
from pts.training.curves import Drawn
from pts.training.modes import Modes
from pts.training.ratios import Form, clipped_loss, old_log_probs, padded, ratios
from pts.training.watch import finite_everywhere, not_a_number

_ALIKE = 1.6
"""How many times longer than the shortest a completion may be that is read with it."""


class Drawing(Protocol):
    """Draws and scores the completions of a step, with the policy as it is now."""

    def __call__(self, trainer: ModeTrainer, problems: Sequence[Problem], n: int, step: int) -> list[Drawn]:
        """The groups of `n` completions of each problem, at a step (from 0)."""


@dataclass(frozen=True, slots=True)
class Learning:
    """What a `ModeTrainer` needs beside TRL's own settings.

    `order` gives the places of the problems of a step (from 0), of all processes: a session that goes on then
    has the very problems. `modes` is None for a model that is asked as it is, `clip` PPO's ε; `heard` is told
    of every step's draws, of all processes, before the update.
    """

    problems: Sequence[Problem]
    order: Callable[[int], Sequence[int]]
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
        """Draw, score and batch the completions of this process: its share of the step's problems."""
        from accelerate.utils import gather_object

        n, step = int(self.num_generations or 1), int(self.state.global_step)
        own = len(inputs) // n
        first = self.accelerator.process_index * own
        places = self.learning.order(step)[first : first + own]
        problems = [self.learning.problems[place] for place in places]
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

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        *args: Any,
        **more: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """TRL's reading, but completions of like length are read together, so that little padding is read.

        On one process: several must make the same passes.
        """
        read = super()._get_per_token_logps_and_entropies
        lengths = attention_mask[:, -logits_to_keep:].sum(1).tolist()
        alike = like_lengths(lengths) if self.accelerator.num_processes == 1 else []
        if len(alike) < 2:
            whole: tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None] = read(
                model, input_ids, attention_mask, logits_to_keep, *args, **more
            )
            return whole
        prompt = input_ids.size(1) - logits_to_keep
        parts: list[list[torch.Tensor | None]] = [[], []]
        for rows in alike:
            width = max(lengths[row] for row in rows)
            ids, mask = (each[rows, : prompt + width] for each in (input_ids, attention_mask))
            for part, found in zip(parts, read(model, ids, mask, width, *args, **more), strict=False):
                missing = logits_to_keep - width
                part.append(None if found is None else torch.nn.functional.pad(found, (0, missing)))
        order = torch.tensor([row for rows in alike for row in rows], device=input_ids.device).argsort()
        log_probs, entropies = (
            None if None in part else torch.cat([one for one in part if one is not None])[order]
            for part in parts
        )
        assert log_probs is not None
        return log_probs, entropies, None

    def _compute_loss(self, model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """TRL's loss, or that of full ratios. Raises RunError where it is not a number."""
        if self.learning.form == "full":
            loss = self._full_ratio_loss(model, inputs)
        else:
            loss = super()._compute_loss(model, inputs)  # type: ignore[no-untyped-call]
        if not finite_everywhere(self.accelerator, loss):
            raise not_a_number(int(self.state.global_step))
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


def like_lengths(lengths: Sequence[int]) -> list[list[int]]:
    """Places in groups of like length, shortest first: the longest is at most `_ALIKE` times the shortest."""
    groups: list[list[int]] = []
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        if not groups or lengths[place] > _ALIKE * lengths[groups[-1][0]]:
            groups.append([])
        groups[-1].append(place)
    return groups
