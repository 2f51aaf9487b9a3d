"""An evaluation as files: the figure as PNG, and a page of tables and figure that needs no other file."""

from __future__ import annotations

import logging
from pathlib import Path

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
from pts.report.evaluation_figure import draw
from pts.runs.files import replace_file, replace_text

logger = logging.getLogger(__name__)

FIGURE_NAME, PAGE_NAME = "frontier.png", "report.html"
NO_FIGURE = "The figure was not drawn: matplotlib is not installed (pip install matplotlib)."

_CLASSES = {1: "better", 0: "", -1: "worse"}


def write_page(summary: EvaluationSummary, directory: Path) -> None:
    """Write frontier.png and report.html; without matplotlib no PNG, and the page and the log say so."""
    picture = draw(summary, "png")
    if picture is None:
        logger.warning("%s", NO_FIGURE)
        (directory / FIGURE_NAME).unlink(missing_ok=True)
    else:
        replace_file(directory / FIGURE_NAME, lambda path: path.write_bytes(picture))
    replace_text(directory / PAGE_NAME, page(summary))


def page(summary: EvaluationSummary) -> str:
    """The report as one HTML page, the figure in it as SVG."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("pts.report"),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("evaluation.html.j2").render(
        title=f"{summary.model_id} on {summary.dataset_id}",
        head=head_lines(summary),
        figure=figure_markup(summary),
        no_figure=NO_FIGURE,
        system_headings=SYSTEM_HEADINGS,
        systems=[
            ("" if system.asked else "baseline", system_cells(system)) for system in ordered_systems(summary)
        ],
        comparison_headings=COMPARISON_HEADINGS,
        comparisons=[(_CLASSES[verdict], cells) for verdict, cells in comparison_rows(summary)],
        note=note(summary),
    )


def figure_markup(summary: EvaluationSummary) -> str | None:
    """Success against tokens as an SVG element of a page; None where matplotlib is not installed."""
    drawn = draw(summary, "svg")
    return None if drawn is None else _inline(drawn.decode())


def _inline(svg: str) -> str:
    """An SVG as an element of a page: without its XML header and metadata, which name other documents."""
    body = svg[svg.index("<svg") :]
    before, _, rest = body.partition("<metadata>")
    return before + rest.partition("</metadata>")[2] if rest else body
