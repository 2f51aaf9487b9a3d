"""`pts train`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from pts.cli.interrupts import Stopped
from pts.cli.logs import log_to_stderr
from pts.cli.options import GroupedCommand, NumberList, options_of
from pts.cli.shared_options import MODEL, PROBLEMS, PROMPT, SAMPLER, Options, without
from pts.cli.stage_run import run_command_stage, run_stage
from pts.errors import PtsError
from pts.stages.registry import find_stage
from pts.stages.stage import Step
from pts.stages.train.reinforcement_inputs import AdaptThinkInputs, LengthInputs
from pts.stages.train.shorten_inputs import ShortenInputs

_PATIENCE = 20.0
"""Seconds that the other processes of a launcher leave the first one to report an error."""

_DATA: Options = [
    (
        ("problems", "--problems"),
        "Number of problems to train on.  [default: all; 1000 of demo]",
        {"type": int},
    ),
    *without(PROBLEMS, "problems"),
]
_RATE: Options = [
    (
        ("learning_rate", "--learning-rate"),
        "Highest learning rate.  [default: 2e-6; 2e-5 with --lora; 1e-3 for demo]",
        {"type": float},
    ),
]
_SUPERVISED_RATE: Options = [
    (
        ("learning_rate", "--learning-rate"),
        "Highest learning rate.  [default: 2e-5; 2e-4 with --lora; 1e-3 for demo]",
        {"type": float},
    ),
]
_UPDATES: Options = [
    (
        ("schedule", "--schedule"),
        "How the learning rate goes on after it has risen.",
        {"type": click.Choice(["constant", "linear", "cosine"])},
    ),
    (("warmup", "--warmup"), "Updates over which the learning rate rises.", {}),
]
_SEED: Options = [
    (("seed", "--seed"), "Seed of every random draw.", {}),
    (
        ("smoke", "--smoke"),
        "A minute's trial: few problems, completions and updates.",
        {"is_flag": True},
    ),
]
_STEPS: Options = [(("steps", "--steps"), "Number of updates.", {})]
_TRAINING: Options = [
    *_STEPS,
    (("prompts", "--prompts"), "Problems of an update.", {}),
    (("samples", "--samples"), "Completions of each problem in an update.", {}),
    *_RATE,
    *_UPDATES,
    (("clip", "--clip"), "How far an importance ratio may be from 1 and still be learnt from.", {}),
    *_SEED,
]
_NO_THINKING_BUDGET: Options = [
    (
        ("no_thinking_budget", "--no-thinking-budget"),
        "Maximum length of a completion without thinking: tokens, or a share of the budget.",
        {"type": str},
    ),
]
_COMPLETIONS: Options = [
    (("temperature", "--temperature"), "Sampling temperature of training; nothing is truncated.", {}),
    (
        ("budget", "--budget"),
        "Maximum number of new tokens in a completion; a longer one has failed.  [default: 512; 96 for demo]",
        {"type": int},
    ),
    *_NO_THINKING_BUDGET,
    (
        ("generation", "--generation"),
        "What draws completions: pts, or trl (vLLM with --trl-setting use_vllm=true; sharded weights).",
        {"type": click.Choice(["pts", "trl"])},
    ),
]
_MEMORY: Options = [
    (
        ("lora", "--lora"),
        "Train an adapter in place of all weights; it is merged in the end.",
        {"is_flag": True},
    ),
    (("lora_rank", "--lora-rank"), "Rank of the adapter.", {}),
    (
        ("micro_batch", "--micro-batch"),
        "Completions that are read together in an update.  [default: all of a process]",
        {"type": int},
    ),
    (
        ("gradient_checkpointing", "--gradient-checkpointing"),
        "Compute activations twice to save memory.",
        {"is_flag": True},
    ),
    (
        ("trl_settings", "--trl-setting"),
        "Another field of TRL's configuration (GRPOConfig, SFTConfig). May be repeated.",
        {"multiple": True, "show_default": False, "metavar": "NAME=VALUE"},
    ),
]
_RUN: Options = [
    (
        ("output", "--output"),
        "Directory of the run, and of the trained model.  [default: models/<model>-<method>]",
        {"type": click.Path(path_type=Path)},
    ),
    (("save_every", "--save-every"), "Updates between two checkpoints.", {}),
    (("fresh", "--fresh"), "Delete the run in the output directory and start again.", {"is_flag": True}),
]
_SHARED: dict[str, Options] = {
    "Memory and TRL": _MEMORY,
    "Problems": _DATA,
    "Model": without(MODEL, "engine"),
    "Prompt": PROMPT,
    "Run": _RUN,
}
_REST: dict[str, Options] = {"Completions": _COMPLETIONS, **_SHARED}
_ADAPTTHINK: Options = [
    (("delta", "--delta"), "What no thinking is worth, in success.", {}),
    (
        ("form", "--form"),
        "Importance ratio of a completion: the tokens' geometric mean (sequence, as in the authors' code), or "
        "their product (full, as in the paper).",
        {"type": click.Choice(["sequence", "full"])},
    ),
    (
        ("importance_sampling", "--importance-sampling/--no-importance-sampling"),
        "Make half of the completions think and half not, or let the model choose.",
        {},
    ),
    (
        ("opener", "--opener"),
        "Forced first word of thinking, such as Alright; own: as the model writes.",
        {},
    ),
    (
        ("reference", "--reference"),
        "Whose thinking a completion is compared with: the unchanged model's, or the policy's own.",
        {"type": click.Choice(["unchanged", "own"])},
    ),
    (
        ("reference_samples", "--reference-samples"),
        "Completions of the unchanged model for each problem; 16 know its success to ±0.25.",
        {},
    ),
    (
        ("references", "--references"),
        "Directory of the unchanged model's success.  [default: the output's name with -references]",
        {"type": click.Path(path_type=Path)},
    ),
    (
        ("length_alpha", "--length-alpha"),
        "Weight of a reward for short thinking that succeeds; 0 for none.",
        {},
    ),
]
_LENGTH: Options = [
    (
        ("reward", "--reward"),
        "Form of the length reward (docs/training.md has each).",
        {"type": click.Choice(["linear", "kimi", "gated-linear", "target", "limit", "ratio", "cosine"])},
    ),
    (("alpha", "--alpha"), "Weight of the length reward; 0 is plain reinforcement learning.", {}),
    (
        ("count", "--count"),
        "Tokens that are its length.",
        {"type": click.Choice(["thinking", "answer", "all"])},
    ),
    (
        ("target", "--target"),
        "Length that target, limit and ratio compare with, and below which gated-linear gives no more: tokens, "
        "or a share of the budget.",
        {"type": str},
    ),
    (
        ("limits", "--limits"),
        "limit: the limits of successive stages, in tokens, such as 60,48,40.",
        {"type": NumberList(float)},
    ),
]
_SHORTEN: Options = [
    (
        ("samples", "--samples"),
        "Completions of each problem with thinking, of which the shortest right one is learnt.",
        {},
    ),
    (
        ("from_search", "--from-search"),
        "Learn right completions of this run of pts search instead, without the sentences of their thinking "
        "that hardly change the chance of success. Model, problems, prompt and sampler are then the run's.",
        {"type": click.Path(path_type=Path)},
    ),
    (
        ("min_effect", "--min-effect"),
        "With --from-search: minimum change of the chance of success of a sentence that stays in any case.  "
        "[default: 0.1]",
        {"type": float},
    ),
    (
        ("mixing", "--mixing"),
        "Learn short completions alone (none), or the longest right ones too, and less and less of them "
        "(progressive).",
        {"type": click.Choice(["none", "progressive"])},
    ),
    (
        ("hybrid", "--hybrid"),
        "Learn the answer without thinking too, where at least half of those drawn are right.",
        {"is_flag": True},
    ),
    (
        ("completions", "--completions"),
        "Directory of the completions.  [default: the output's name with -completions]",
        {"type": click.Path(path_type=Path)},
    ),
    *without(SAMPLER, "stop"),
    *_NO_THINKING_BUDGET,
]
_FINE_TUNING: Options = [
    *_STEPS,
    (("examples", "--examples"), "Completions that an update learns.", {}),
    *_SUPERVISED_RATE,
    *_UPDATES,
    *_SEED,
]


@click.group("train")
def train_command() -> None:
    """Train a model when and how long to think: `pip install 'pivotal-tokens[train]'`."""


def _finished(command: Callable[..., None]) -> Callable[..., None]:
    """The options that every command of training ends with."""
    for option in (
        click.option("-v", "--verbose", count=True, help="Show more log messages; -vv shows all."),
        click.option("--quiet", is_flag=True, help="Show no progress and no warnings."),
        click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON object."),
    ):
        command = option(command)
    return command


def _train(name: str, inputs: dict[str, Any], quiet: bool, as_json: bool, verbose: int) -> None:
    """Train; of a launcher's processes the first one alone shows progress and prints the report."""
    from pts.training.processes import rank

    first = rank() == 0
    log_to_stderr(verbose, quiet or not first)
    if verbose == 0:
        # PyTorch's own log, whose warnings every process would print.
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    if first:
        run_command_stage(name, inputs, quiet, as_json)
        return
    stage = find_stage(name)
    with _after_the_first(rank()):
        run_stage(Step(stage, stage.inputs(**inputs)), quiet=True)


@contextmanager
def _after_the_first(rank: int) -> Iterator[None]:
    """Let the first process report what all of them meet: a launcher then ends the others, which say nothing.

    An error that this process alone met is reported after a while, with its rank; a lost one is not.
    """
    from pts.training.processes import LostProcess

    try:
        try:
            yield
        except PtsError as error:
            time.sleep(_PATIENCE)
            if isinstance(error, LostProcess):
                raise click.exceptions.Exit(2) from error
            raise type(error)(f"process {rank}: {error}") from error
    except Stopped as stopped:
        raise click.exceptions.Exit(128 + stopped.signal_number) from stopped


@train_command.command("adaptthink", cls=GroupedCommand)
@options_of(AdaptThinkInputs, {"AdaptThink": _ADAPTTHINK, "Training": _TRAINING, **_REST})
@_finished
def adaptthink(as_json: bool, quiet: bool, verbose: int, **inputs: Any) -> None:
    """Train a model to choose between thinking and not, by reinforcement learning (Zhang et al. 2025).

    To continue a run that was stopped, give the same command again.
    """
    _train("train-adaptthink", inputs, quiet, as_json, verbose)


@train_command.command("length", cls=GroupedCommand)
@options_of(LengthInputs, {"Length": _LENGTH, "Training": _TRAINING, **_REST})
@_finished
def length(as_json: bool, quiet: bool, verbose: int, **inputs: Any) -> None:
    """Train a model by reinforcement learning on success, with a reward for short completions.

    To continue a run that was stopped, give the same command again.
    """
    _train("train-length", inputs, quiet, as_json, verbose)


@train_command.command("shorten", cls=GroupedCommand)
@options_of(ShortenInputs, {"Completions": _SHORTEN, "Training": _FINE_TUNING, **_SHARED})
@_finished
def shorten(as_json: bool, quiet: bool, verbose: int, **inputs: Any) -> None:
    """Train a model on the shortest of its own right completions, by supervised fine-tuning.

    To continue a run that was stopped, give the same command again.
    """
    _train("train-shorten", inputs, quiet, as_json, verbose)
