"""The stage `train-length`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pts.stages.stage import Stage
from pts.stages.train.reinforcement_inputs import LengthInputs
from pts.stages.train.stages import (
    reinforcement_report,
    run_stage,
    training_note,
    training_plan,
    training_status,
)

if TYPE_CHECKING:
    from pts.training.run_files import ReinforcementSummary

STAGE: Stage[LengthInputs, ReinforcementSummary] = Stage(
    name="train-length",
    summary="Train a model by reinforcement learning, with a reward for short completions.",
    inputs=LengthInputs,
    plan=training_plan,
    run=run_stage,
    report=reinforcement_report,
    directory=LengthInputs.directory,
    status=training_status,
    resume_note=training_note,
)
