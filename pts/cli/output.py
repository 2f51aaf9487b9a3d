"""What the commands print."""

from __future__ import annotations

import json
import os
import sys

import click
from rich.console import Console, RenderableType

from pts.stages.stage import Report

PIPED_WIDTH = 120
"""Columns of a report that goes to a file or another program, which have no width of their own."""


def print_report(report: Report, as_json: bool = False) -> None:
    """Print a report: its text, what rich prints, or one JSON object where it has that form."""
    if as_json:
        assert report.data is not None
        click.echo(json.dumps(report.data(), ensure_ascii=False))
        return
    if isinstance(report.body, str):
        click.echo(report.body)
    else:
        _print_wide(report.body, report.columns)
    if report.footer:
        click.echo(report.footer)


def _print_wide(body: RenderableType, least: int) -> None:
    """Print at the terminal's width, or a fixed one to a file; never below `least` columns."""
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    own_width = sys.stdout.isatty() or "COLUMNS" in os.environ
    console = Console(highlight=False, width=None if own_width else PIPED_WIDTH)
    if console.width < least:
        # The terminal wraps such lines; a table squeezed to fit would lose parts of its words.
        console.width = least
    console.print(body)
