"""The stage `train-adaptthink`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pts.stages.stage import Stage
from pts.stages.train.reinforcement_inputs import AdaptThinkInputs
from pts.stages.train.stages import (
    reinforcement_report,
    run_stage,
    training_note,
    training_plan,
    training_status,
)

if TYPE_CHECKING:
    from pts.training.run_files import ReinforcementSummary

STAGE: Stage[AdaptThinkInputs, ReinforcementSummary] = Stage(
    name="train-adaptthink",
    summary="Train a model to choose between thinking and not thinking (AdaptThink).",
    inputs=AdaptThinkInputs,
    plan=training_plan,
    run=run_stage,
    report=reinforcement_report,
    directory=AdaptThinkInputs.directory,
    status=training_status,
    resume_note=training_note,
)
