"""Supervised fine-tuning on completions: TRL's SFT trainer, on token ids as they were drawn, prompts masked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from pts.training.fit import Order, TrainingPlan, batches, configured, let_train, make_trainer
from pts.training.mixing import Progressive
from pts.training.solutions import Example
from pts.training.watch import finite_everywhere, not_a_number

if TYPE_CHECKING:
    from pts.models.load import LoadedModel
    from pts.training.loss_curve import LossWatch

_MASKED = -100
"""The label of a token that is not learnt, as PyTorch's cross-entropy has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisedPlan(TrainingPlan):
    """The settings of the optimisation; each step learns `examples` completions."""

    examples: int


class Places(torch.utils.data.Sampler[int]):
    """The places of all steps' examples, one step after the other."""

    def __init__(self, order: Order | Progressive, steps: int) -> None:
        self._order = order
        self._steps = steps

    def __iter__(self) -> Iterator[int]:
        """The places, in order."""
        for step in range(self._steps):
            yield from self._order(step)

    def __len__(self) -> int:
        """How many there are."""
        return self._steps * self._order.per_step


class OrderedTrainer(SFTTrainer):  # type: ignore[misc, unused-ignore]
    """TRL's trainer, which takes examples in our order: a session that goes on then has the very same."""

    def __init__(self, *args: Any, places: Places, **more: Any) -> None:
        self._places = places
        super().__init__(*args, **more)

    def _get_train_sampler(self, train_dataset: Any = None) -> Places:  # noqa: ARG002
        return self._places

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **more: Any) -> Any:
        """TRL's loss. Raises RunError where it is not a number."""
        loss = super().compute_loss(model, inputs, *args, **more)  # type: ignore[no-untyped-call]
        if not finite_everywhere(self.accelerator, loss):
            raise not_a_number(int(self.state.global_step))
        return loss


def fine_tune(
    loaded: LoadedModel,
    directory: Path,
    plan: SupervisedPlan,
    examples: Sequence[Example],
    order: Order | Progressive,
    watch: LossWatch,
) -> OrderedTrainer:
    """Train to the last step, from the newest checkpoint where there is one; the trainer with what it trained.

    `order` says which examples a step learns. The model's weights are changed in place. Raises RunError for a
    loss that is no number, and where the system refuses a checkpoint.
    """
    from datasets import Dataset

    trainer: OrderedTrainer = make_trainer(
        OrderedTrainer,
        loaded,
        plan,
        watch,
        args=sft_config(plan, directory, loaded),
        train_dataset=Dataset.from_list([labelled(example) for example in examples]),
        places=Places(order, plan.steps),
    )
    let_train(trainer, directory, loaded)
    return trainer


def labelled(example: Example) -> dict[str, list[int]]:
    """An example as TRL's collator reads it: all token ids, and the completion's as labels."""
    return {
        "input_ids": [*example.prompt, *example.completion],
        "labels": [*[_MASKED] * len(example.prompt), *example.completion],
    }


def sft_config(plan: SupervisedPlan, directory: Path, loaded: LoadedModel) -> Any:
    """TRL's configuration of a plan. Raises ConfigError for a field that it does not have, or that pts sets."""
    step = f"{plan.examples} completions of an update"
    return configured(
        SFTConfig,
        plan,
        directory,
        loaded,
        batches(plan, plan.examples, 1, step, "examples"),
        max_length=None,
        packing=False,
        shuffle_dataset=False,
        dataset_kwargs={"skip_prepare_dataset": True},
    )
