"""An evaluation in the terminal: its systems, and the comparisons between them."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from pts.evaluation.summary import EvaluationSummary
from pts.report.evaluation_cells import (
    COMPARISON_HEADINGS,
    SYSTEM_HEADINGS,
    comparison_rows,
    head_lines,
    note,
    ordered_systems,
    system_cells,
)
from pts.report.rendering import plain_table

EVALUATION_COLUMNS = 140
"""Columns that the tables need."""
_STYLES = {1: "green", 0: "", -1: "red"}


def evaluation_report(summary: EvaluationSummary) -> RenderableType:
    """What was measured, the systems (baselines dimmed) and the comparisons (in colour where clear)."""
    systems = plain_table("Systems", SYSTEM_HEADINGS[:1], SYSTEM_HEADINGS[1:])
    for system in ordered_systems(summary):
        systems.add_row(*system_cells(system), style="" if system.asked else "dim")
    parts: list[RenderableType] = [Text(line) for line in head_lines(summary)]
    parts += [Text(), systems]
    if summary.comparisons or summary.direction is not None:
        comparisons = plain_table("Comparisons of success", COMPARISON_HEADINGS[:3], COMPARISON_HEADINGS[3:])
        for verdict, cells in comparison_rows(summary):
            comparisons.add_row(*cells, style=_STYLES[verdict])
        parts += [Text(), comparisons]
    return Group(*parts, Text(), Text(note(summary)))
