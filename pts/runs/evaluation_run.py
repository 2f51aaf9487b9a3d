"""An evaluation's run directory: the kind of run that it is, and what its manifest holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pts.runs.codec import JsonValue
from pts.runs.directory import RunKind

EVALUATION = RunKind(
    name="evaluation",
    shard="items.jsonl",
    derived=("frontier.png", "report.html", "summary.json"),
)
"""The answers, and what is made of them; summary.json comes last."""
DIGESTS = ("vectors_digest", "controls_digest", "parts_digests")
"""Keys of a run's settings that are known once its vectors, router and scorer have been read."""


@dataclass(frozen=True, slots=True)
class EvaluationResolved:
    """What an evaluation's settings came to mean, once model and data were read.

    `think_end` is the end of thinking in token ids, `second_model` the id and revision of that of `escalate`.
    `attention`, `prompt_date` and `prompt_digest` are as a search's (`pts.runs.search_run.SearchResolved`).
    """

    model_id: str
    model_revision: str | None
    dtype: str
    think_end: tuple[int, ...] | None
    dataset_id: str
    problem_schema: str
    grader: str
    second_model: str | None = None
    second_dtype: str | None = None
    attention: str | None = None
    prompt_date: str | None = None
    prompt_digest: str | None = None


@dataclass(frozen=True, slots=True)
class EvaluationEnvironment:
    """What differs between the sessions of one run: no item depends on it but by `thresholds`.

    `lines` are those of the table; `left_out` the baselines that the model cannot run, each with the reason.
    `thresholds` are those that were fitted (`pts.evaluation.thresholds.ThresholdFit`), by strategy: a later
    session may add one, and takes those that are there as they are.
    """

    device: str
    batch_rows: int | None
    problems: int
    seeds: int
    lines: tuple[str, ...]
    left_out: Mapping[str, str]
    thresholds: Mapping[str, JsonValue]
