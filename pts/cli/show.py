"""`pts show`."""

from __future__ import annotations

from pathlib import Path

import click

from pts.cli.output import print_report


@click.command("show")
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--top",
    type=click.IntRange(min=1),
    help="Maximum number of findings to show.  [default: 10; with --json all]",
)
@click.option("--problem", metavar="ID", help="Show only the findings of this problem.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary and the findings as one JSON object.")
def show_command(run: Path, top: int | None, problem: str | None, as_json: bool) -> None:
    """Show the pivotal tokens of a run in their context. The run need not be finished."""
    from pts.runs.search_run import read_search
    from pts.stages.search.report import search_report

    print_report(search_report(read_search(run), top, problem), as_json)
