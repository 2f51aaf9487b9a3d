"""Training by reinforcement learning: TRL's GRPO trainer, with its completions and advantages set by us."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pts.errors import ConfigError
from pts.setting_names import setting
from pts.training.drawing import PolicyDrawing
from pts.training.fit import TrainingPlan, batches, configured, is_sharded, let_train, make_trainer

if TYPE_CHECKING:
    from pts.models.load import LoadedModel
    from pts.training.trainer import Learning, ModeTrainer
    from pts.training.watch import Watch


@dataclass(frozen=True, slots=True, kw_only=True)
class ReinforcementPlan(TrainingPlan):
    """The settings of the optimisation: `prompts` problems a step have `samples` completions each.

    They are sampled at `temperature`, and are at most `longest` tokens long. `clip` is PPO's ε.
    """

    prompts: int
    samples: int
    clip: float
    temperature: float
    longest: int


def reinforce(
    loaded: LoadedModel, directory: Path, plan: ReinforcementPlan, learning: Learning, watch: Watch
) -> ModeTrainer:
    """Train to the last step, from the newest checkpoint where there is one; the trainer with what it trained.

    The model's weights are changed in place. Raises RunError for a loss that is no number, for steps without
    anything to learn, and where the system refuses a checkpoint.
    """
    from datasets import Dataset

    from pts.training.trainer import ModeTrainer

    # TRL counts rows; which problems a step has, `learning.order` says.
    rows = {"prompt": [problem.query for problem in learning.problems]}
    trainer: ModeTrainer = make_trainer(
        ModeTrainer,
        loaded,
        plan,
        watch,
        reward_funcs=_scored_with_their_draws,
        args=grpo_config(plan, directory, loaded),
        train_dataset=Dataset.from_dict(rows),
        learning=learning,
    )
    if is_sharded(trainer) and isinstance(learning.drawing, PolicyDrawing):
        raise ConfigError(
            f"the launcher shards the weights, and {setting('generation', 'pts')} reads all of them: give "
            f"{setting('generation', 'trl')}."
        )
    let_train(trainer, directory, loaded)
    return trainer


def grpo_config(plan: ReinforcementPlan, directory: Path, loaded: LoadedModel) -> Any:
    """TRL's configuration of a plan. Raises ConfigError for a field that it does not have, or that pts sets."""
    from trl.trainer.grpo_config import GRPOConfig

    step = f"{plan.prompts} problems with {plan.samples} completions each"
    return configured(
        GRPOConfig,
        plan,
        directory,
        loaded,
        batches(plan, plan.prompts, plan.samples, step, "prompts"),
        num_generations=plan.samples,
        max_completion_length=plan.longest,
        temperature=plan.temperature,
        top_p=1.0,
        top_k=0,
        beta=0.0,
        epsilon=plan.clip,
        num_iterations=1,
        scale_rewards="none",
        importance_sampling_level="sequence",
        loss_type="grpo",
    )


def _scored_with_their_draws(*_: Any, **__: Any) -> list[float]:
    """TRL wants a reward function; completions are scored where they are drawn."""
    raise AssertionError("a completion was scored by TRL.")
