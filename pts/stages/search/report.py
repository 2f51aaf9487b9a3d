"""A search run for its reader: findings in context and the run in numbers, or both as JSON."""

from __future__ import annotations

from pts.report.terminal import run_report
from pts.runs.codec import to_json
from pts.runs.pivotal_tokens import pivotal_tokens, sentences_of, tokens_of
from pts.runs.search_run import SearchResults
from pts.runs.search_summary import search_summary
from pts.stages.stage import Report

SHOWN = 10
"""Findings that a terminal shows where no number is given."""


def search_report(run: SearchResults, top: int | None = None, problem: str | None = None) -> Report:
    """The findings with the largest |Δ|, of one problem where it is given, and the summary of the whole run.

    `top` is their maximum number, None for 10 in a terminal and all as JSON, which has `summary` and
    `pivotal_tokens`, the run's own records, and `pivotal_sentences` where it searched sentences. Raises
    DataError for a problem that the run does not hold.
    """

    def data() -> dict[str, object]:
        records = pivotal_tokens(run, run.findings_of(problem)[:top])
        said: dict[str, object] = {
            "run": str(run.path),
            "summary": to_json(search_summary(run)),
            "pivotal_tokens": [to_json(record) for record in tokens_of(records)],
        }
        if run.unit != "token":
            said["pivotal_sentences"] = [to_json(record) for record in sentences_of(records)]
        return said

    return Report(run_report(run, top or SHOWN, problem), data=data)
