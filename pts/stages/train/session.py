"""What the sessions of every kind of training share: their directory, its manifest, and what they leave."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pts.runs.codec import to_json
from pts.runs.directory import RunDirectory, open_run
from pts.runs.files import replace_file, replace_text
from pts.runs.manifest import read_manifest
from pts.runs.settle import settle_manifest
from pts.stages.shared.recorded import dtype_name
from pts.stages.train.inputs import TrainingInputs
from pts.stages.train.subject import Subject
from pts.training.processes import process_count, rank
from pts.training.run_files import (
    TRAINING,
    TrainingEnvironment,
    TrainingResolved,
    TrainingSummary,
    latest_checkpoint,
    read_summary,
    step_of,
)

if TYPE_CHECKING:
    from pathlib import Path

LAST_STEPS = 10
"""Steps over which a summary's means are taken."""


@contextmanager
def run_directory(inputs: TrainingInputs) -> Iterator[RunDirectory]:
    """The run directory, held by the first process; the others read it without a lock."""
    if rank() == 0:
        with open_run(inputs.directory(), TRAINING) as directory:
            yield directory
        return
    # Before the first one writes: all find the same, and a complete run is complete to all.
    path = inputs.directory()
    yield RunDirectory(path, TRAINING, read_manifest(path))


def finished(inputs: TrainingInputs, directory: RunDirectory) -> TrainingSummary | None:
    """The summary of a run that is complete. Raises RunError for one with other settings."""
    if inputs.fresh or directory.manifest is None:
        return None
    directory.require_same("configuration", directory.manifest.settings, inputs.settings())
    return read_summary(directory.path, directory.manifest.settings)


def plan_fields(inputs: TrainingInputs) -> dict[str, Any]:
    """The settings of the optimisation that every kind of training has, as `TrainingPlan` takes them."""
    from pts.training.fit import parsed_settings

    return {
        "steps": inputs.steps,
        "learning_rate": inputs.rate(),
        "schedule": inputs.trl_schedule(),
        "warmup": inputs.warmup,
        "save_every": inputs.save_every,
        "seed": inputs.seed,
        "micro_batch": inputs.micro_batch,
        "lora_rank": inputs.lora_rank if inputs.lora else None,
        "gradient_checkpointing": inputs.gradient_checkpointing,
        "trl_settings": parsed_settings(inputs.trl_settings),
    }


def resolved_fields(inputs: TrainingInputs, subject: Subject) -> dict[str, Any]:
    """What the settings came to mean, as `TrainingResolved` takes it."""
    loaded, modes = subject.loaded, subject.modes
    return {
        "model_id": loaded.model_id,
        "model_revision": loaded.revision,
        "dtype": dtype_name(loaded),
        "dataset_id": subject.problem_set.name,
        "problem_schema": subject.problem_set.schema,
        "grader": subject.grader_name,
        "attention": loaded.attention,
        "prompt_date": subject.prompt_format.written_on,
        "prompt_digest": subject.digest,
        "learning_rate": inputs.rate(),
        "lead": None if modes is None else modes.lead,
        "no_thinking": None if modes is None else modes.no_thinking,
    }


def settle(
    inputs: TrainingInputs, directory: RunDirectory, resolved: TrainingResolved, subject: Subject
) -> None:
    """Write the manifest, or bring that of a run that goes on up to date."""
    settle_manifest(
        directory,
        settings=inputs.settings(),
        resolved=resolved,
        environment=TrainingEnvironment(
            str(subject.loaded.device),
            process_count(),
            inputs.batch_rows,
            inputs.micro_batch,
        ),
        problems=list(subject.digests.values()),
        fresh=inputs.fresh,
    )


def write_derived(
    directory: RunDirectory, summary: TrainingSummary, resolved: TrainingResolved, picture: bytes
) -> None:
    """Write curves, card and summary, the summary last: it says that the run is complete."""
    from pts.publishing.card_text import CARD_NAME, is_untouched
    from pts.publishing.training_card import training_card

    def write(temporary: Path) -> None:
        temporary.write_bytes(picture)

    replace_file(directory.path / "curves.png", write)
    card = directory.path / CARD_NAME
    if not card.exists() or is_untouched(card.read_text(encoding="utf-8")):
        replace_text(card, training_card(summary, resolved, directory.path.name, None))
    text = json.dumps(to_json(summary), ensure_ascii=False, indent=2) + "\n"
    replace_text(directory.path / "summary.json", text)


def resume_note(inputs: TrainingInputs) -> str:
    """A sentence on what a stopped training leaves and how to go on with it."""
    path = inputs.directory()
    checkpoint = latest_checkpoint(path)
    again = "the same command without --fresh" if inputs.fresh else "the same command"
    if checkpoint is None:
        return f"no checkpoint had been written yet; {again} starts again, with what was drawn before."
    return f"{step_of(checkpoint)} of {inputs.steps} steps are kept in {path}; {again} continues."
