"""Trains a model, to a run directory that is the trained model's too."""

from __future__ import annotations

import logging
from collections.abc import Callable

from pts.stages.train.inputs import TrainingInputs
from pts.stages.train.reinforcement_inputs import ReinforcementInputs
from pts.stages.train.session import finished, run_directory
from pts.stages.train.shorten_inputs import ShortenInputs
from pts.training.processes import end_together, require_known_launcher, told_of_lost_ones
from pts.training.requirements import require_packages
from pts.training.run_files import TrainingSummary

logger = logging.getLogger(__name__)


def run_training(
    inputs: TrainingInputs, observe: Callable[[str, int, float], None] | None = None
) -> TrainingSummary:
    """Do the training that `inputs` describes, or what is left of it, and write its directory.

    Nothing is written before model, data, reference answers and modes have been found good. A complete run is
    left as it is. Under a launcher of several processes the first one writes. Raises PtsError.
    """
    from pts.stages.train.reinforce import reinforcement_session
    from pts.stages.train.supervise import shorten_session

    require_packages()
    require_known_launcher()
    inputs = inputs.effective().bounded()
    told = observe or (lambda _phase, _more, _share: None)
    with told_of_lost_ones(), run_directory(inputs) as directory:
        done = finished(inputs, directory)
        if done is not None:
            logger.info("%s: the training is complete.", directory.path)
            return done
        if isinstance(inputs, ShortenInputs):
            summary: TrainingSummary = shorten_session(inputs, directory, told)
        else:
            assert isinstance(inputs, ReinforcementInputs)
            summary = reinforcement_session(inputs, directory, told)
        end_together()
        return summary
