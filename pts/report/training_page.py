"""The report of a training run: its curves as a picture, and where it stands by level."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from pts.errors import DataError, RunError
from pts.report.one_file import Page
from pts.runs.journal import Journal
from pts.runs.manifest import read_manifest
from pts.training.curves import CurvePoint, curves_picture
from pts.training.loss_curve import LossPoint, loss_picture
from pts.training.run_files import SHORTEN, TRAINING

_ENDS = 10
"""Steps at either end of a run over which its table takes means."""


@dataclass(frozen=True, slots=True)
class TrainingData:
    """A training run, finished or not, as its report shows it."""

    name: str
    points: tuple[CurvePoint, ...] | tuple[LossPoint, ...]
    kind: str = "training"


def training_page(path: Path) -> Page:
    """The page of a training run. Raises RunError or DataError where there is nothing to show."""
    manifest = read_manifest(path)
    if manifest is None:
        raise RunError(f"{path} is not a run: it has no manifest.json.")
    settings, resolved = manifest.settings, manifest.resolved
    curve = _loss_curve(path) if settings.get("method") == SHORTEN else _reward_curve(path)
    points = curve.points
    if not points:
        raise DataError(f"{path} has no step yet: the training has just begun, or was stopped at once.")
    training = settings.get("training")
    steps = training.get("steps") if isinstance(training, Mapping) else None
    unfinished = (
        []
        if (path / "summary.json").exists()
        else [f"The training is not finished: {len(points)} of {steps} steps are done."]
    )
    return Page(
        title=f"{resolved.get('model_id')} trained by {settings.get('method')}",
        head=[f"{curve.head} An evaluation on other problems says what the model does: pts eval."],
        facts=[
            ("Problems", (f"{manifest.problems.count} of {resolved.get('dataset_id')}",)),
            ("Steps", (f"{len(points)} of {steps}",)),
            ("Learning rate", (f"{resolved.get('learning_rate')}",)),
        ],
        warnings=unfinished,
        template="training_report.html.j2",
        scripts=(),
        data=TrainingData(path.resolve().name, points),
        values={
            "picture": base64.b64encode(curve.picture()).decode("ascii"),
            "shown": curve.shown,
            "headings": ("", f"first {_ENDS} steps", f"last {_ENDS} steps"),
            "rows": [("", row) for row in curve.rows],
        },
    )


@dataclass(frozen=True, slots=True)
class _Curve:
    """A run's points, with what its page says of them; `shown` is what the picture shows."""

    points: tuple[CurvePoint, ...] | tuple[LossPoint, ...]
    picture: Callable[[], bytes]
    rows: list[tuple[str, ...]]
    head: str
    shown: str


def _reward_curve(path: Path) -> _Curve:
    points = tuple(Journal(path / TRAINING.shard, CurvePoint).read())
    return _Curve(
        points,
        lambda: curves_picture(points),
        [*_means(points, _REWARD_ROWS), *_levels(points)] if points else [],
        "What training saw, on the problems that it trained on and at its own sampler.",
        "Reward and success, length, and the share of no thinking",
    )


def _loss_curve(path: Path) -> _Curve:
    points = tuple(Journal(path / TRAINING.shard, LossPoint).read())
    return _Curve(
        points,
        lambda: loss_picture(points),
        _means(points, _LOSS_ROWS) if points else [],
        "What the model learnt: completions that it drew before.",
        "Loss, and the share of tokens held for the likeliest,",
    )


_REWARD_ROWS = (
    ("reward", "reward", 3),
    ("success", "success", 3),
    ("tokens", "tokens", 1),
    ("share of no thinking", "no_thinking", 3),
)
_LOSS_ROWS = (
    ("loss, nats a token", "loss", 3),
    ("share of tokens held for the likeliest", "accuracy", 3),
    ("tokens learnt", "tokens", 1),
)
"""The rows of a page's table: what each is called, its field, and its digits."""


def _means(points: Sequence[object], rows: Sequence[tuple[str, str, int]]) -> list[tuple[str, ...]]:
    """Means over the first and the last steps."""
    ends = (points[:_ENDS], points[-_ENDS:])
    return [
        (name, *(f"{fmean(getattr(point, key) for point in end):.{digits}f}" for end in ends))
        for name, key, digits in rows
    ]


def _levels(points: Sequence[CurvePoint]) -> list[tuple[str, ...]]:
    """The share of no thinking by level, over the first and the last steps."""
    ends = (points[:_ENDS], points[-_ENDS:])
    rows: list[tuple[str, ...]] = []
    levels = sorted({level for point in points for level in point.levels})
    for level in levels if len(levels) > 1 else ():
        shares = ([point.levels[level].no_thinking for point in end if level in point.levels] for end in ends)
        rows.append(
            (
                f"share of no thinking, level {level}",
                *(f"{fmean(each):.3f}" if each else "–" for each in shares),
            )
        )
    return rows
