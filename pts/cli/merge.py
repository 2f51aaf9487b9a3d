"""`pts merge`."""

from __future__ import annotations

from pathlib import Path

import click

from pts.cli.logs import log_to_stderr
from pts.cli.stage_run import run_command_stage


@click.command("merge")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=click.Path(path_type=Path))
@click.option(
    "--output",
    required=True,
    metavar="DIR",
    help="Run directory of the whole.",
    type=click.Path(path_type=Path),
)
@click.option("--fresh", is_flag=True, help="Delete the run in the output directory and merge again.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary and the findings as one JSON object.")
@click.option("--quiet", is_flag=True, help="Show no warnings.")
def merge_command(runs: tuple[Path, ...], output: Path, fresh: bool, as_json: bool, quiet: bool) -> None:
    """Put the shards of a search together into one run.

    Each RUN is the directory of a search with --shard. All shards must be there. The findings are then
    selected over the whole run, as if one process had searched it.
    """
    log_to_stderr(0, quiet)
    run_command_stage("merge", {"runs": runs, "output": output, "fresh": fresh}, quiet, as_json)
