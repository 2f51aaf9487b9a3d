"""An evaluation as files: the figure as PNG, and a page of tables and figure that needs no other file."""

from __future__ import annotations

import html
import logging
from collections.abc import Iterable, Sequence
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

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 70rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.3rem } h2 { font-size: 1.05rem; margin-top: 2rem }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums }
th, td { text-align: right; padding: 0.2rem 0.7rem; border-bottom: 1px solid #ddd; white-space: nowrap }
th { font-weight: 600 } .left { text-align: left } .baseline { color: #777 }
.better { color: #1d7a3a } .worse { color: #b3261e } .wide { overflow-x: auto }
svg { max-width: 100%; height: auto }
"""
_CLASSES = {1: "better", 0: "", -1: "worse"}


def write_report(summary: EvaluationSummary, directory: Path) -> None:
    """Write frontier.png and report.html; without matplotlib no PNG, and the page and the log say so."""
    picture = draw(summary, "png")
    if picture is None:
        logger.warning("%s", NO_FIGURE)
        (directory / FIGURE_NAME).unlink(missing_ok=True)
    else:
        replace_file(directory / FIGURE_NAME, lambda path: _write(path, picture))
    replace_text(directory / PAGE_NAME, page(summary))


def page(summary: EvaluationSummary) -> str:
    """The report as one HTML page, the figure in it as SVG."""
    drawn = draw(summary, "svg")
    figure = f"<p>{html.escape(NO_FIGURE)}</p>" if drawn is None else _inline(drawn.decode())
    systems = [
        ("" if system.asked else "baseline", system_cells(system)) for system in ordered_systems(summary)
    ]
    compared = [(_CLASSES[verdict], cells) for verdict, cells in comparison_rows(summary)]
    title = f"{summary.model_id} on {summary.dataset_id}"
    said = "".join(f"<p>{html.escape(system)}</p>" for system in head_lines(summary))
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>\n<body>"
        f"<h1>{html.escape(title)}</h1>{said}\n"
        f"<h2>Success against tokens</h2>\n{figure}\n"
        f"<h2>Systems</h2>\n{_table(SYSTEM_HEADINGS, systems, 1)}\n"
        f"<h2>Comparisons of success</h2>\n{_table(COMPARISON_HEADINGS, compared, 3)}\n"
        f"<p>{html.escape(note(summary))}</p></body></html>\n"
    )


def _table(headings: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]], texts: int) -> str:
    """A table whose first `texts` columns are text; each row has a class and its cells."""
    head = "".join(_cell("th", heading, at < texts) for at, heading in enumerate(headings))
    body = "".join(
        f'<tr class="{kind}">{"".join(_cell("td", cell, at < texts) for at, cell in enumerate(cells))}</tr>\n'
        for kind, cells in rows
    )
    return f'<div class="wide"><table><tr>{head}</tr>\n{body}</table></div>'


def _cell(tag: str, text: str, left: bool) -> str:
    kind = ' class="left"' if left else ""
    return f"<{tag}{kind}>{html.escape(text)}</{tag}>"


def _inline(svg: str) -> str:
    """An SVG as an element of a page: without its XML header and metadata, which name other documents."""
    body = svg[svg.index("<svg") :]
    before, _, rest = body.partition("<metadata>")
    return before + rest.partition("</metadata>")[2] if rest else body


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)
