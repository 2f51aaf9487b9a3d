"""The stage `demo-model`: trains the bundled demo model and writes it as transformers loads it."""

from __future__ import annotations

import copy
import logging
import shutil
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TypeVar

import torch
from transformers import Qwen3ForCausalLM

from pts.demo.tokenizer import build_tokenizer
from pts.demo.training import Architecture, Schedule, new_model, train
from pts.demo.writer import WritingRates
from pts.errors import ConfigError, RunError
from pts.stages.demo_model.inputs import DemoModelInputs

log = logging.getLogger(__name__)

_READABLE = 0o644
"""A package's files are for everyone to read; save_pretrained keeps the weights to their owner."""

PartT = TypeVar("PartT", Architecture, Schedule)


def train_demo_model(config: DemoModelInputs) -> Path:
    """Trains the model and returns the directory that holds it: fp16 weights, tokenizer, chat template.

    An older model in the directory is replaced at the end, its model card kept. Raises ConfigError where a
    setting does not fit and RunError where the directory cannot be written.
    """
    architecture = _part(Architecture, config)
    schedule = _part(Schedule, config)
    rates = _rates(config.rates)
    output = Path(config.output)
    threads = torch.get_num_threads()
    torch.set_num_threads(config.threads)
    try:
        model = new_model(architecture, config.seed)
        log.info("training %d parameters for %d steps", model.num_parameters(), schedule.steps)
        train(model, schedule, rates, config.seed)
    finally:
        torch.set_num_threads(threads)
    _write(model, output)
    return output


def _part(kind: type[PartT], config: DemoModelInputs) -> PartT:
    """The fields of `kind` taken out of the configuration."""
    return kind(**{field.name: getattr(config, field.name) for field in fields(kind)})


def _rates(given: Mapping[str, float]) -> WritingRates:
    known = {field.name for field in fields(WritingRates)}
    unknown = sorted(set(given) - known)
    if unknown:
        raise ConfigError(f"rates has no {unknown[0]!r}; it has {', '.join(sorted(known))}.")
    return WritingRates(**given)


def _write(model: Qwen3ForCausalLM, output: Path) -> None:
    """Writes beside `output` and then takes its place, so that a kill leaves the old model or the new."""
    fresh = output.with_name(f".{output.name}.new")
    old = output.with_name(f".{output.name}.old")
    try:
        for leftover in (fresh, old):
            shutil.rmtree(leftover, ignore_errors=True)
        fresh.mkdir(parents=True)
        copy.deepcopy(model).half().save_pretrained(fresh)  # type: ignore[no-untyped-call]
        build_tokenizer().save_pretrained(fresh)
        for file in fresh.iterdir():
            file.chmod(_READABLE)
        card = output / "README.md"
        if card.exists():
            shutil.copy2(card, fresh / card.name)
        if output.exists():
            output.rename(old)
        fresh.rename(output)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise RunError(f"The demo model could not be written to {output}: {error.strerror}.") from error
    log.info("wrote %s", output)
