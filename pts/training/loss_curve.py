"""What each step of a supervised training learnt: its loss, kept and drawn."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from pts.runs.journal import Journal
from pts.training.pictures import Panel, picture
from pts.training.watch import not_a_number


@dataclass(frozen=True, slots=True)
class LossPoint:
    """A step of a supervised training.

    `loss` is the mean negative log-likelihood of the step's `tokens` tokens before its update, in nats, and
    `accuracy` the share of them that the model held for the likeliest. `seconds` is the time of the step.
    """

    step: int
    loss: float
    accuracy: float
    tokens: int
    grad_norm: float = math.nan
    learning_rate: float = math.nan
    seconds: float = 0.0


class LossWatch:
    """Keeps the curve of a supervised training. `tokens` says how many a step learns."""

    def __init__(
        self,
        journal: Journal[LossPoint] | None,
        steps: int,
        tokens: Callable[[int], int],
        observe: Callable[[str, int, float], None],
    ) -> None:
        self._journal = journal
        self._steps = steps
        self._tokens = tokens
        self._observe = observe
        self._since = perf_counter()
        self.stopped: str | None = None
        self.points: list[LossPoint] = []

    def resumed(self, points: Sequence[LossPoint]) -> None:
        """Go on after the points of an earlier session."""
        self.points = list(points)

    def logged(self, logs: Mapping[str, Any]) -> None:
        """Take in an update's numbers and write the step down. Raises RunError for one that is no number."""
        if "loss" not in logs:
            return
        step, now = len(self.points), perf_counter()
        point = LossPoint(
            step,
            float(logs["loss"]),
            float(logs["mean_token_accuracy"]),
            self._tokens(step),
            float(logs.get("grad_norm", math.nan)),
            float(logs.get("learning_rate", math.nan)),
            now - self._since,
        )
        if not math.isfinite(point.loss) or not math.isfinite(point.grad_norm):
            raise not_a_number(step)
        self._since = now
        self.points.append(point)
        if self._journal is not None:
            self._journal.append(point)
        self._observe("training", point.tokens, (step + 1) / self._steps)


def loss_picture(points: Sequence[LossPoint]) -> bytes:
    """The curves as a PNG: loss, and the share of tokens held for the likeliest.

    Raises ConfigError where matplotlib is missing.
    """
    panels = [
        Panel("Loss", "nats a token", {"loss": [point.loss for point in points]}),
        Panel("Tokens held for the likeliest", "share", {"accuracy": [point.accuracy for point in points]}),
    ]
    return picture([point.step for point in points], panels)
