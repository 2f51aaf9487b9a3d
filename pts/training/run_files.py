"""A training run's directory: the kind of run that it is, its checkpoints, and the model that it leaves."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pts.errors import RunError, one_line
from pts.runs.codec import from_json
from pts.runs.directory import RunKind
from pts.runs.files import make_directories, write_failure
from pts.runs.manifest import read_manifest

CHECKPOINTS = "checkpoints"
ADAPTER = "adapter"
_WHOLE = "complete"
"""The file that says of a checkpoint that all of it is there."""
TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("chat_template.jinja", "vocab.json", "merges.txt", "tokenizer.model"),
)
MODEL_FILES = ("model.safetensors", "generation_config.json", *TOKENIZER_FILES, "config.json")
"""What a trained model is, config.json last: without it the directory is no model."""
TRAINING = RunKind(
    name="training",
    shard="curves.jsonl",
    derived=(*MODEL_FILES, "curves.png", "README.md", "summary.json"),
    others=(CHECKPOINTS, ADAPTER),
)
"""The curves, and what is made by training; summary.json comes last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResolved:
    """What a training run's settings came to mean, once model and data were read.

    `no_thinking` and `lead` are how answers without thinking begin, in token ids; None for a model that is
    asked as it is. The rest is as a search's (`pts.runs.search_run.SearchResolved`).
    """

    model_id: str
    model_revision: str | None
    dtype: str
    dataset_id: str
    problem_schema: str
    grader: str
    attention: str | None
    prompt_date: str | None
    prompt_digest: str | None
    learning_rate: float
    lead: tuple[int, ...] | None = None
    no_thinking: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReinforcementResolved(TrainingResolved):
    """Of reinforcement learning: `references` is the digest of the reference means, None for none."""

    references: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShortenResolved(TrainingResolved):
    """Of shortening: `completions` is the digest of what is learnt."""

    completions: str


@dataclass(frozen=True, slots=True)
class TrainingEnvironment:
    """What may differ between the sessions of one run."""

    device: str
    processes: int
    batch_rows: int | None
    micro_batch: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSummary:
    """What every training run came to: how it was made, and the time that its steps took."""

    method: str
    model_id: str
    dataset_id: str
    steps: int
    seconds: float
    settings: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReinforcementSummary(TrainingSummary):
    """What reinforcement learning came to.

    `success`, `tokens` and `no_thinking` are means over the last steps, at the sampler of training and on the
    problems trained on: what the model does is for an evaluation to say. `levels` has the share of no thinking
    by level there, `references` the unchanged model's thinking success by level. `stopped` says why training
    ended before its last step.
    """

    success: float
    tokens: float
    no_thinking: float
    levels: Mapping[str, float]
    references: Mapping[str, float]
    stopped: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShortenSummary(TrainingSummary):
    """What shortening came to.

    Of `problems` asked, `unsolved` had no right completion with thinking. `success` is the unchanged model's
    over its completions with thinking. `thinking` of them were learnt, one for each other problem, and are
    `thinking_tokens` long on average; all right ones of these problems are `right_tokens`. `no_thinking` is the
    number learnt without thinking. `loss` is the mean over the last steps, in nats a token. Of a search's
    completions `shortened` lack `dropped` sentences together; both are None for drawn ones.
    """

    problems: int
    unsolved: int
    success: float
    right_tokens: float
    thinking: int
    thinking_tokens: float
    no_thinking: int
    loss: float
    shortened: int | None = None
    dropped: int | None = None


SHORTEN = "shorten"
"""The method whose run has a curve of the loss, and a summary of its own."""


def latest_checkpoint(directory: Path) -> Path | None:
    """The newest whole checkpoint of a run; None for none."""
    whole = [path for path in _checkpoints(directory) if (path / _WHOLE).exists()]
    return max(whole, key=step_of, default=None)


def delete_unfinished(directory: Path) -> None:
    """Delete the checkpoints that a kill left half-written. Raises RunError where the system refuses."""
    for path in _checkpoints(directory):
        if not (path / _WHOLE).exists():
            try:
                shutil.rmtree(path)
            except OSError as error:
                raise write_failure(path, error) from error


def _checkpoints(directory: Path) -> list[Path]:
    return list((directory / CHECKPOINTS).glob("checkpoint-*"))


def step_of(checkpoint: Path) -> int:
    """The number of updates behind a checkpoint."""
    return int(checkpoint.name.removeprefix("checkpoint-"))


def mark_whole(checkpoint: Path) -> None:
    """Say of a checkpoint that all of it is there. Raises RunError where the system refuses."""
    try:
        (checkpoint / _WHOLE).write_text("", encoding="utf-8")
    except OSError as error:
        raise write_failure(checkpoint, error) from error


def read_summary(directory: Path, settings: Mapping[str, object]) -> TrainingSummary | None:
    """The summary of a run with these settings, None for none. Raises ValueError for one that is broken."""
    path = directory / "summary.json"
    if not path.exists():
        return None
    data = json.loads(path.read_text(encoding="utf-8"))
    if settings.get("method") == SHORTEN:
        return from_json(ShortenSummary, data)
    return from_json(ReinforcementSummary, data)


def resolved_of(settings: Mapping[str, object], resolved: Mapping[str, object]) -> TrainingResolved:
    """What a manifest's settings came to mean. Raises ValueError for one that is broken."""
    if settings.get("method") == SHORTEN:
        return from_json(ShortenResolved, resolved)
    return from_json(ReinforcementResolved, resolved)


def read_training(directory: Path) -> tuple[TrainingSummary, TrainingResolved]:
    """What a complete training run came to, and what its settings came to mean.

    Raises RunError where there is none, or where it is not complete.
    """
    manifest = read_manifest(directory)
    summary = directory / "summary.json"
    if manifest is None or manifest.kind != TRAINING.name:
        raise RunError(f"{directory} is not a training run: it has no manifest of `pts train`.")
    try:
        found = read_summary(directory, manifest.settings)
        resolved = resolved_of(manifest.settings, manifest.resolved)
    except ValueError as error:
        raise RunError(f"{summary} cannot be read ({one_line(error)}); restore it from a copy.") from error
    if found is None:
        raise RunError(f"{directory}: its training is not complete; give the train command again.")
    return found, resolved


def write_model(directory: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a folder with a model's files, then put them into the run's directory one by one.

    config.json comes last. Raises RunError where the system refuses, or where `write` left no model.
    """
    folder = directory / CHECKPOINTS / "model.new"
    try:
        shutil.rmtree(folder, ignore_errors=True)
        make_directories(folder)
        write(folder)
        for name in MODEL_FILES:
            if (folder / name).exists():
                os.replace(folder / name, directory / name)
        shutil.rmtree(folder)
    except OSError as error:
        raise write_failure(directory, error) from error
    if not (directory / "model.safetensors").exists() or not (directory / "config.json").exists():
        raise RunError(f"{directory}: the trained model was not saved as safetensors; this is a fault of pts.")
