"""Lets a TRL trainer run from its newest checkpoint, with errors of one line, and leaves the trained model."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from pts.errors import ConfigError, RunError, one_line
from pts.runs.files import write_failure
from pts.runs.journal import Journal
from pts.seeds import derive_seed
from pts.setting_names import setting
from pts.training.processes import process_count
from pts.training.run_files import (
    ADAPTER,
    CHECKPOINTS,
    delete_unfinished,
    latest_checkpoint,
    mark_whole,
    step_of,
    write_model,
)

if TYPE_CHECKING:
    from transformers import TrainerCallback

    from pts.models.load import LoadedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPlan:
    """The settings of the optimisation that every kind of training has, as users give them.

    `micro_batch` completions are read together (None: all of a process's). The learning rate rises over
    `warmup` steps; `schedule` is what it does then. A checkpoint is kept every `save_every` steps. `lora_rank`
    None trains all weights. `trl_settings` are further fields of TRL's configuration.
    """

    steps: int
    learning_rate: float
    schedule: str
    warmup: int
    save_every: int
    seed: int
    micro_batch: int | None = None
    lora_rank: int | None = None
    gradient_checkpointing: bool = False
    trl_settings: Mapping[str, object] | None = None


class Stepped(Protocol):
    """A point of a curve."""

    @property
    def step(self) -> int:
        """The update that it is of, from 0."""


class Hearer(Protocol):
    """Hears of a training's updates."""

    stopped: str | None
    """Why nothing is left to learn; None while there is something."""

    def logged(self, logs: Mapping[str, Any]) -> None:
        """Take in an update's numbers."""


PointT = TypeVar("PointT", bound=Stepped)


def make_trainer(kind: Any, loaded: LoadedModel, plan: TrainingPlan, watch: Hearer, **more: Any) -> Any:
    """A TRL trainer of class `kind` over the model, which tells `watch` of its updates and prints nothing."""
    from transformers import PrinterCallback
    from transformers.utils.logging import disable_progress_bar

    # Nothing is sent to anybody by training, and a run shows its own progress.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    disable_progress_bar()  # type: ignore[no-untyped-call]
    loaded.model.requires_grad_(plan.lora_rank is None)
    with warnings.catch_warnings():
        # PEFT and TRL ask for what transformers will rename: nothing that a user could change.
        warnings.simplefilter("ignore", FutureWarning)
        trainer = kind(
            model=loaded.model,
            processing_class=loaded.tokenizer,
            peft_config=None if plan.lora_rank is None else _lora(plan.lora_rank),
            callbacks=[_watching(watch)],
            **more,
        )
    trainer.remove_callback(PrinterCallback)
    require_sharding(trainer)
    if is_sharded(trainer) and plan.lora_rank is not None:
        raise ConfigError(
            f"an adapter cannot be merged where the weights are sharded: leave {setting('lora', True)} out, or "
            "launch without sharding."
        )
    return trainer


def let_train(trainer: Any, directory: Path, loaded: LoadedModel) -> None:
    """Train to the last step, from the newest checkpoint where there is one.

    The model's weights are changed in place. Raises RunError for a loss that is no number, for steps without
    anything to learn, and where the system refuses a checkpoint.
    """
    checkpoint = latest_checkpoint(directory)
    try:
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    except OSError as error:
        raise write_failure(directory / CHECKPOINTS, error) from error
    except Exception as error:
        if _is_refused_write(error):
            raise RunError(
                f"could not write a checkpoint in {directory / CHECKPOINTS} ({one_line(error)}). What was "
                "saved before is kept; make room and run the same command again to continue."
            ) from error
        raise
    finally:
        loaded.model.eval()


def save_trained(trainer: Any, directory: Path, loaded: LoadedModel, lora: bool) -> None:
    """Write the trained model into the run's directory, as transformers loads it; of a LoRA run merged, and
    the adapter beside it. Every process calls this, the first one writes. Raises RunError where the system
    refuses."""
    if not trainer.is_world_process_zero():
        if is_sharded(trainer):
            trainer.save_model(str(directory / CHECKPOINTS / "model.new"))
        return

    def write(folder: Path) -> None:
        if lora:
            trainer.save_model(str(directory / ADAPTER))
            (directory / ADAPTER / "training_args.bin").unlink(missing_ok=True)
            merged = trainer.accelerator.unwrap_model(trainer.model).merge_and_unload()
            merged.save_pretrained(folder, max_shard_size="10000GB")
        elif is_sharded(trainer):
            trainer.save_model(str(folder))
        else:
            trainer.accelerator.unwrap_model(trainer.model).save_pretrained(folder, max_shard_size="10000GB")
        loaded.tokenizer.save_pretrained(folder)

    try:
        write_model(directory, write)
    except Exception as error:
        if _is_refused_write(error):
            raise RunError(
                f"could not write the trained model in {directory} ({one_line(error)}). Its checkpoints are "
                "kept; make room and run the same command again."
            ) from error
        raise


def require_sharding(trainer: Any) -> None:
    """Raise ConfigError where a launcher asks for FSDP and accelerate leaves it out: it does on a CPU."""
    asked = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    if asked and process_count() > 1 and trainer.accelerator.distributed_type != "FSDP":
        raise ConfigError(
            "the launcher asks for FSDP, and accelerate does not shard weights on this device: launch without "
            "FSDP, or on GPUs."
        )


def is_sharded(trainer: Any) -> bool:
    """Whether each process has only a part of the weights: FSDP, or DeepSpeed ZeRO-3."""
    plugin = getattr(trainer.accelerator.state, "deepspeed_plugin", None)
    return bool(trainer.is_fsdp_enabled) or (plugin is not None and plugin.zero_stage == 3)


def configured(
    kind: type, plan: TrainingPlan, directory: Path, loaded: LoadedModel, rows: tuple[int, int], **more: Any
) -> Any:
    """TRL's configuration of a plan, of class `kind`, for `rows` as `batches` gives them.

    `more` are fields of this kind. Raises ConfigError for a field that it does not have, or that pts sets.
    """
    import torch

    own, micro = rows
    device = loaded.device.type
    set_here: dict[str, Any] = {
        "output_dir": str(directory / CHECKPOINTS),
        "max_steps": plan.steps,
        "learning_rate": plan.learning_rate,
        "lr_scheduler_type": plan.schedule,
        "warmup_steps": plan.warmup,
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": own // micro,
        "seed": plan.seed % 2**32,
        "logging_steps": 1,
        "save_strategy": "steps",
        "save_steps": plan.save_every,
        "report_to": "none",
        "disable_tqdm": True,
        "activation_checkpointing": plan.gradient_checkpointing,
        **more,
    }
    defaults: dict[str, Any] = {
        "adam_beta1": 0.9,
        "adam_beta2": 0.95,
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "save_total_limit": 2,
        "bf16": device == "cuda" and torch.cuda.is_bf16_supported(),
        "use_cpu": device == "cpu",
        "dataloader_pin_memory": device == "cuda",
        "vllm_importance_sampling_correction": False,
        # The other processes of a launcher would say what the first one does not.
        "log_level_replica": "error",
    }
    given = dict(plan.trl_settings or {})
    known = {entry.name for entry in fields(kind)}
    for name in given:
        if name not in known or name in set_here:
            why = "is set by an option of pts" if name in set_here else f"is no field of TRL's {kind.__name__}"
            raise ConfigError(f"{setting('trl_settings')} names {name}, which {why}.")
    try:
        return kind(
            **{**set_here, **{name: value for name, value in defaults.items() if name in known}, **given}
        )
    except (TypeError, ValueError) as error:
        raise ConfigError(f"TRL refuses these settings: {one_line(error)}.") from error


def batches(plan: TrainingPlan, units: int, rows_each: int, what: str, option: str) -> tuple[int, int]:
    """A process's rows of a step, and those of them that are read together, of `units` that stay whole.

    Raises ConfigError, which names `what` a step has and the `option` for it, where they do not divide.
    """
    processes = process_count()
    own = units * rows_each // processes
    micro = own if plan.micro_batch is None else min(plan.micro_batch, own)
    if units % processes or own % micro:
        raise ConfigError(
            f"{what} do not divide into {processes} processes and batches of {micro}: give other "
            f"{setting(option)} or {setting('micro_batch')}."
        )
    return own, micro


def parsed_settings(given: Sequence[str]) -> dict[str, object]:
    """`NAME=VALUE` texts as fields: a value is JSON where it can be read so, else text. Raises ConfigError."""
    parsed: dict[str, object] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise ConfigError(f"{setting('trl_settings')} {text!r} is not NAME=VALUE.")
        try:
            parsed[name] = json.loads(value)
        except ValueError:
            parsed[name] = value
    return parsed


@dataclass(frozen=True, slots=True)
class Order:
    """The places of what each step takes: all once, in an order drawn by the seed, then all again.

    `size` is the number of all, `per_step` that of a step.
    """

    size: int
    per_step: int
    seed: int

    def __call__(self, step: int) -> list[int]:
        """The places of a step (from 0)."""
        first = step * self.per_step
        return [self._at(place) for place in range(first, first + self.per_step)]

    def _at(self, place: int) -> int:
        turn, within = divmod(place, self.size)
        shuffled = np.random.default_rng(derive_seed(self.seed, "order", turn)).permutation(self.size)
        return int(shuffled[within])


def cut_curves(journal: Journal[PointT], directory: Path) -> list[PointT]:
    """The points up to the newest checkpoint; the file is cut there, for the steps after it come again."""
    delete_unfinished(directory)
    checkpoint = latest_checkpoint(directory)
    done = 0 if checkpoint is None else step_of(checkpoint)
    points = [point for point in journal.read() if point.step < done]
    journal.path.unlink(missing_ok=True)
    if points:
        journal.append(*points)
    return points


def _watching(watch: Hearer) -> TrainerCallback:
    """TRL's callback by which a watch hears of updates and marks checkpoints as whole."""
    from transformers import TrainerCallback

    class Watching(TrainerCallback):
        """Tells a watch of a training's updates, and stops it where the watch says so."""

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **more: Any) -> None:  # noqa: ARG002
            """Write an update down."""
            watch.logged(logs or {})

        def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:  # noqa: ARG002
            """Stop where nothing is left to learn."""
            control.should_training_stop = control.should_training_stop or watch.stopped is not None

        def on_save(self, args: Any, state: Any, control: Any, **more: Any) -> None:  # noqa: ARG002
            """Mark the checkpoint that was written just now."""
            if state.is_world_process_zero:
                mark_whole(Path(args.output_dir) / f"checkpoint-{state.global_step}")

    return Watching()


def _lora(rank: int) -> Any:
    from peft import LoraConfig

    return LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")


def _is_refused_write(error: Exception) -> bool:
    """Whether an exception that is no OSError says that the system refused a write: safetensors and torch."""
    words = ("no space left", "file too large", "disk quota", "os error 28", "os error 27", "write failed")
    return any(word in str(error).lower() for word in (*words, "enforce fail at inline_container"))
