"""Keeps a training's curve, and stops it where nothing can be learnt any more."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pts.errors import RunError
from pts.runs.journal import Journal
from pts.setting_names import setting
from pts.training.curves import CurvePoint, Drawn, curve_point

EQUAL_STEPS = 20
"""Steps in a row without any difference in reward, after which training stops."""


class Watch:
    """Keeps the curve of a run and stops it where nothing can be learnt any more."""

    def __init__(
        self, journal: Journal[CurvePoint] | None, steps: int, observe: Callable[[str, int, float], None]
    ) -> None:
        self._journal = journal
        self._steps = steps
        self._observe = observe
        self._open: CurvePoint | None = None
        self._equal = 0
        self.stopped: str | None = None
        self.points: list[CurvePoint] = []

    def heard(self, step: int, drawn: Sequence[Drawn]) -> None:
        """Take in what a step drew, of all processes, before its update.

        Raises RunError where there is nothing to learn from.
        """
        point = curve_point(step, drawn)
        self._open = point if self._open is None or self._open.step != step else self._open
        self._equal = self._equal + 1 if point.equal else 0
        tokens = sum(sample.tokens for one in drawn for sample in one.group)
        self._observe("training", tokens, step / self._steps)
        if self._equal < EQUAL_STEPS:
            return
        solved = all(sample.success for one in drawn for sample in one.group)
        what = f"all completions of {EQUAL_STEPS} steps in a row had the same reward"
        if not solved:
            raise RunError(
                f"{what} (success {point.success:.2f}, {point.cut:.0%} cut by the limit), so there is nothing "
                f"to learn from: give problems that the model solves sometimes, or a larger "
                f"{setting('budget')}."
            )
        self.stopped = f"{what}: they solve every problem"

    def logged(self, logs: Mapping[str, Any]) -> None:
        """Take in an update's numbers and write the step down."""
        if self._open is None or "loss" not in logs:
            return
        point = replace(
            self._open,
            loss=float(logs["loss"]),
            grad_norm=float(logs.get("grad_norm", math.nan)),
            learning_rate=float(logs.get("learning_rate", math.nan)),
            seconds=float(logs.get("step_time") or 0.0),
        )
        self._open = None
        if not math.isfinite(point.loss) or not math.isfinite(point.grad_norm):
            raise not_a_number(point.step)
        self.points.append(point)
        if self._journal is not None:
            self._journal.append(point)

    def resumed(self, points: Sequence[CurvePoint]) -> None:
        """Go on after the points of an earlier session."""
        self.points = list(points)
        for point in points:
            self._equal = self._equal + 1 if point.equal else 0


def finite_everywhere(accelerator: Any, loss: Any) -> bool:
    """Whether the loss is a number on every process: all of them then stop at the same step."""
    return bool(accelerator.gather(loss.detach().isfinite().reshape(1)).all())


def not_a_number(step: int) -> RunError:
    """What to say where a step (from 0) has a loss or gradient that is no number."""
    return RunError(
        f"the loss of step {step + 1} is not a number: give a lower {setting('learning_rate')}, with "
        f"{setting('fresh', True)}. What was saved before is kept."
    )
