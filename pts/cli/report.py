"""`pts report`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pts.cli.logs import log_to_stderr
from pts.cli.options import GroupedCommand, GroupedOption, options_of
from pts.cli.patterns import strengths
from pts.cli.shared_options import PLACEMENT, REMOTE_CODE, Options, without
from pts.cli.stage_run import run_stage
from pts.stages.report.inputs import ReportInputs
from pts.stages.stage import Step

_STEERING = "Steered beside unsteered"
_OPTIONS: dict[str, Options] = {
    "Output": [
        (
            ("output", "--output"),
            "File to write.  [default: the run's name, with .html, in the working directory]",
            {"type": click.Path(path_type=Path)},
        ),
    ],
    _STEERING: [
        (
            ("vectors", "--vectors"),
            "Vector set to read the completions with too: directory, Hub id, or one that comes with pts.",
            {},
        ),
        (
            ("same_shape", "--same-shape"),
            "Accept another model of the same shape, such as a fine-tune.",
            {"is_flag": True},
        ),
        *without(PLACEMENT, "batch_rows"),
        *REMOTE_CODE,
    ],
}


@click.command("report", cls=GroupedCommand)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(path_type=Path))
@options_of(ReportInputs, _OPTIONS)
@click.option(
    "--pattern",
    multiple=True,
    metavar="NAME[=FACTOR]",
    cls=GroupedOption,
    group=_STEERING,
    help="Pattern to steer by, and a multiple of its calibrated strength. May be repeated."
    "  [default: the set's first]",
)
@click.option("--open", "show", is_flag=True, help="Open the report in the browser.")
@click.option("--quiet", is_flag=True, help="No progress, no warnings, and nothing on success.")
def report_command(
    paths: tuple[Path, ...], pattern: tuple[str, ...], show: bool, quiet: bool, **inputs: Any
) -> None:
    """Write a report of PATH as one HTML file that needs no network.

    PATH is the directory of a search run or a training (finished or not), of a vector set or of an evaluation.
    Two search runs on the same problems are shown side by side. With --vectors the model is loaded once more,
    and the report of a search shows what the set does to its completions.
    """
    from pts.stages.registry import find_stage

    log_to_stderr(0, quiet)
    step = Step(find_stage("report"), ReportInputs(paths, pattern=strengths(pattern), **inputs))
    written = run_stage(step, quiet)
    if not quiet:
        click.echo(step.stage.report(step.inputs, written).body)
    if show:
        click.launch(written.resolve().as_uri())
