"""`pts run`."""

from __future__ import annotations

import click

from pts.cli.interrupts import Stopped
from pts.cli.logs import log_to_stderr
from pts.cli.output import print_report
from pts.cli.stage_run import run_stage
from pts.stages.recipe.bounds import select_stages
from pts.stages.recipe.names import named_in_recipe
from pts.stages.recipe.plan import PlannedStep, plan_stages, renewed
from pts.stages.recipe.read import bundled_recipes, read_recipe, stage_keys


@click.command("run")
@click.argument("recipe", required=False)
@click.option(
    "--from", "first", metavar="STAGE", help="Begin with this stage. Those before it must be complete."
)
@click.option("--until", "last", metavar="STAGE", help="Stop after this stage.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="[STAGE.]KEY=VALUE",
    help="Change a key of the recipe. The value is YAML, such as 3 or [2,3]. May be repeated.",
)
@click.option("--fresh", is_flag=True, help="Delete what these stages have made and start again.")
@click.option("--list", "listing", is_flag=True, help="List the recipes that come with pts.")
@click.option("--quiet", is_flag=True, help="Show no progress and no warnings, only what is deleted.")
@click.option("-v", "--verbose", count=True, help="Show more log messages; -vv shows all.")
def run_command(
    recipe: str | None,
    first: str | None,
    last: str | None,
    settings: tuple[str, ...],
    fresh: bool,
    listing: bool,
    quiet: bool,
    verbose: int,
) -> None:
    """Run the stages of a RECIPE: a YAML file, or the name of one that comes with pts.

    The stages are search, merge, extract-vectors, fit-router, train-adaptthink, train-length, train-shorten,
    eval, report and publish. --from and --until can also name the parts of extract-vectors: harvest, cluster
    and calibrate. The stage publish sends nothing unless its key push is true.

    First, pts says what each stage will do. Complete stages are not run again, and a stopped one continues.
    Where the settings, the search or the vectors of a vector set or router have changed, it is deleted and made
    again. A search or an evaluation with other settings is never deleted without --fresh: the command stops.
    """
    log_to_stderr(verbose, quiet)
    if listing:
        _list_recipes()
        return
    if recipe is None:
        raise click.UsageError("Give a recipe, or --list to see those that come with pts.")
    before, chosen = select_stages(read_recipe(recipe, settings), first, last)
    planned = plan_stages(before, chosen, fresh)
    keys = stage_keys([*before, *chosen])
    for each in planned:
        if each.plan.deletes or not quiet:
            click.echo(f"pts: {each.plan.text}", err=True)
    for each in planned:
        try:
            with named_in_recipe(each.step.name, keys):
                # What was there before is reported where it is all that was asked for.
                _run(each, quiet, report=not each.plan.idle or each is planned[-1])
        except Stopped as stopped:
            if fresh and each is not planned[0]:
                stopped.note = f"{each.step.name} was under way; the same command without --fresh continues."
            raise


def _list_recipes() -> None:
    bundled = bundled_recipes()
    width = max(map(len, bundled), default=0)
    for name, what in bundled.items():
        click.echo(f"{name:<{width}}  {what}")


def _run(planned: PlannedStep, quiet: bool, report: bool) -> None:
    """One stage with its progress, and then its report. A complete one looks whether its data still fit."""
    step = renewed(planned.step)
    result = run_stage(step, quiet)
    if not report:
        return
    print_report(step.stage.report(step.inputs, result))
    hint = None if step.stage.recipe_hint is None else step.stage.recipe_hint(step.inputs)
    if hint is not None:
        click.echo(f"\n{hint}")
