"""An evaluation as the data of its report: its summary, and who solved which problem with what answer."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pts.errors import RunError
from pts.evaluation.items import Item
from pts.evaluation.summary import EvaluationSummary
from pts.report.continuations import shortened
from pts.report.evaluation_cells import (
    COMPARISON_HEADINGS,
    SYSTEM_HEADINGS,
    comparison_rows,
    head_lines,
    note,
    ordered_systems,
    system_cells,
)
from pts.report.one_file import Page
from pts.runs.codec import ShapeError, from_json
from pts.runs.evaluation_run import EVALUATION
from pts.runs.journal import Journal

SUMMARY = EVALUATION.derived[-1]


@dataclass(frozen=True, slots=True)
class AnswerData:
    """One answer: its text after the thinking (None where only a baseline gave it), and what it took."""

    success: bool
    tokens: int
    cut: bool
    text: str | None


@dataclass(frozen=True, slots=True)
class AnsweredProblem:
    """A problem's reference and its answers, `answers[system][seed]`, in the order of the summary's systems."""

    id: str
    reference: str
    answers: tuple[tuple[AnswerData, ...], ...]


@dataclass(frozen=True, slots=True)
class EvaluationData:
    """A finished evaluation. `summary.lines` are its systems.

    `missing` counts the answers of the summary that are no longer in the run's file.
    """

    name: str
    summary: EvaluationSummary
    problems: tuple[AnsweredProblem, ...]
    missing: int = 0
    kind: Literal["evaluation"] = "evaluation"


def evaluation_data(path: Path) -> EvaluationData:
    """What a report shows of the evaluation at `path`. Raises RunError where it is not finished or readable."""
    summary = read_summary(path)
    items = {item.key: item for item in Journal(path / EVALUATION.shard, Item).read()}
    asked = {system.name for system in summary.lines if system.asked}
    first = summary.lines[0].name
    # As the first system has them; where its answers were cut, as the others do.
    names = {system.name for system in summary.lines}
    order = sorted((key for key in items if key[0] in names), key=lambda key: key[0] != first)
    references = {problem: items[line, problem, seed].reference for line, problem, seed in reversed(order)}
    problems = list(dict.fromkeys(problem for _, problem, _ in order))[: summary.problems]

    def answers(system: str, problem: str) -> tuple[AnswerData, ...]:
        keys = [(system, problem, seed) for seed in range(summary.seeds)]
        return tuple(_answer(items[key], key[0] in asked) for key in keys if key in items)

    answered = tuple(
        AnsweredProblem(
            problem, references[problem], tuple(answers(system.name, problem) for system in summary.lines)
        )
        for problem in problems
    )
    there = sum(len(found) for problem in answered for found in problem.answers)
    whole = len(summary.lines) * summary.problems * summary.seeds
    return EvaluationData(path.resolve().name, summary, answered, whole - there)


def evaluation_report_page(data: EvaluationData) -> Page:
    """The page of an evaluation."""
    summary = data.summary
    return Page(
        title=f"{summary.model_id} on {summary.dataset_id}",
        head=head_lines(summary),
        facts=[
            ("Answers", (f"{summary.items:,}, of {summary.tokens_generated:,} tokens",)),
            ("Vectors", (summary.vectors or "none",)),
        ],
        warnings=[_lost(data)] if data.missing else [],
        template="evaluation_report.html.j2",
        scripts=("evaluation.js",),
        data=data,
        values={
            "system_headings": SYSTEM_HEADINGS,
            "systems": [
                ("" if system.asked else "baseline", system_cells(system))
                for system in ordered_systems(summary)
            ],
            "comparison_headings": COMPARISON_HEADINGS,
            "comparisons": [
                ({1: "better", 0: "", -1: "worse"}[verdict], cells)
                for verdict, cells in comparison_rows(summary)
            ],
            "note": note(summary),
        },
    )


def _lost(data: EvaluationData) -> str:
    """That answers are gone, and what that changes."""
    return (
        f"{data.missing:,} answers are no longer in the run's {EVALUATION.shard}. The tables are those of all "
        "answers; problems are compared by what is left. The command of the evaluation draws what is missing."
    )


def _answer(item: Item, shown: bool) -> AnswerData:
    return AnswerData(
        item.success, item.ledger.total, not item.ended, shortened(item.answer) if shown else None
    )


def read_summary(path: Path) -> EvaluationSummary:
    """The numbers of the evaluation at `path`. Raises RunError where it is not finished or readable."""
    where = path / SUMMARY
    if not where.exists():
        raise RunError(f"{path} is not finished: give the command of the evaluation again to continue it.")
    try:
        return from_json(EvaluationSummary, json.loads(where.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        reason = error if isinstance(error, ShapeError) else "no JSON"
        raise RunError(
            f"{where} cannot be read ({reason}): give the evaluation's command again, which writes it anew."
        ) from error
