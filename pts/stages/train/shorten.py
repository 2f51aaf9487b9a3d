"""The stage `train-shorten`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pts.stages.stage import Stage
from pts.stages.train.shorten_inputs import ShortenInputs
from pts.stages.train.stages import run_stage, shorten_report, training_note, training_plan, training_status

if TYPE_CHECKING:
    from pts.training.run_files import ShortenSummary

STAGE: Stage[ShortenInputs, ShortenSummary] = Stage(
    name="train-shorten",
    summary="Train a model on the shortest of its own right completions.",
    inputs=ShortenInputs,
    plan=training_plan,
    run=run_stage,
    report=shorten_report,
    directory=ShortenInputs.directory,
    status=training_status,
    resume_note=training_note,
)
