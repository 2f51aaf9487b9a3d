"""`pts report`."""

from __future__ import annotations

from pathlib import Path

import click

from pts.cli.logs import log_to_stderr


@click.command("report")
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="File to write.  [default: the run's name, with .html, in the working directory]",
)
@click.option("--open", "show", is_flag=True, help="Open the report in the browser.")
@click.option("--quiet", is_flag=True, help="No warnings, and nothing on success.")
def report_command(paths: tuple[Path, ...], output: Path | None, show: bool, quiet: bool) -> None:
    """Write a report of PATH as one HTML file that needs no network.

    PATH is the directory of a search run or a training (finished or not), of a vector set or of an evaluation.
    Two search runs on the same problems are shown side by side.
    """
    from pts.report.write_report import write_report

    log_to_stderr(0, quiet)
    written = write_report(*paths, output=output)
    if not quiet:
        click.echo(f"{written}: {written.stat().st_size / 1e6:.2f} MB")
    if show:
        click.launch(written.resolve().as_uri())
