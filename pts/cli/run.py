"""`pts run`."""

from __future__ import annotations

import click

from pts.cli.logs import log_to_stderr
from pts.cli.output import print_run
from pts.cli.search import search
from pts.stages.recipe import bundled_recipes, read_recipe, run_stage
from pts.stages.search_inputs import SearchRun


@click.command("run")
@click.argument("recipe", required=False)
@click.option("--list", "listing", is_flag=True, help="List the recipes that come with pts.")
@click.option("--quiet", is_flag=True, help="No progress and no warnings.")
@click.option("-v", "--verbose", count=True, help="Say more; twice for everything.")
def run_command(recipe: str | None, listing: bool, quiet: bool, verbose: int) -> None:
    """Run the stages of a RECIPE: a YAML file, or the name of one that comes with pts."""
    log_to_stderr(verbose, quiet)
    if listing:
        for name, what in bundled_recipes().items():
            click.echo(f"{name:<16} {what}")
        return
    if recipe is None:
        raise click.UsageError("Give a recipe, or --list to see those that come with pts.")
    for stage in read_recipe(recipe):
        if isinstance(stage.inputs, SearchRun):
            search(stage.inputs, quiet)
            print_run(stage.inputs.directory())
        else:
            click.echo(f"{stage.name}: {run_stage(stage)}")
