"""`pts run`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pts.cli.eval import evaluate
from pts.cli.extract_vectors import extract
from pts.cli.fit_router import fit_router
from pts.cli.interrupts import Stopped
from pts.cli.logs import log_to_stderr
from pts.cli.output import print_report, print_run
from pts.cli.search import search
from pts.stages.extract.inputs import ExtractInputs
from pts.stages.fit_router.inputs import FitRouterInputs
from pts.stages.recipe.errors import in_recipe_keys
from pts.stages.recipe.plan import is_part_done, is_router_done, plan_stages, renewed
from pts.stages.recipe.read import Stage, bundled_recipes, read_recipe, run_stage, select_stages, stage_keys
from pts.stages.search.inputs import SearchInputs

if TYPE_CHECKING:
    from pts.stages.publish.run import PublishInputs


@click.command("run")
@click.argument("recipe", required=False)
@click.option(
    "--from", "first", metavar="STAGE", help="Begin with this stage; those before it must be complete."
)
@click.option("--until", "last", metavar="STAGE", help="Stop after this stage.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="[STAGE.]KEY=VALUE",
    help="Change a key of the recipe; the value is YAML, a list [2,3]. May be given again and again.",
)
@click.option("--fresh", is_flag=True, help="Delete what these stages have made before and start anew.")
@click.option("--list", "listing", is_flag=True, help="List the recipes that come with pts.")
@click.option("--quiet", is_flag=True, help="No progress and no warnings; what is deleted is still said.")
@click.option("-v", "--verbose", count=True, help="Say more; twice for everything.")
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

    The stages are search, extract-vectors (in it harvest, cluster and calibrate, which --from and --until can
    name too), fit-router, eval and publish, which sends nothing unless its key push is true. What each will do
    is said first.

    The same command again leaves complete stages as they are and continues one that was stopped. Where the
    settings of extract-vectors have changed, or its search has other pairs, the vector set is deleted and made
    again; so is a router whose settings, search or vectors have changed. A search costs most: with other
    settings it is refused, unless --fresh allows to delete it; so is an evaluation.
    """
    log_to_stderr(verbose, quiet)
    if listing:
        bundled = bundled_recipes()
        width = max(map(len, bundled), default=0)
        for name, what in bundled.items():
            click.echo(f"{name:<{width}}  {what}")
        return
    if recipe is None:
        raise click.UsageError("Give a recipe, or --list to see those that come with pts.")
    before, chosen = select_stages(read_recipe(recipe, settings), first, last)
    steps = plan_stages(before, chosen, fresh)
    keys = stage_keys([*before, *chosen])
    for step in steps:
        if step.deletes or not quiet:
            click.echo(f"pts: {step.said}", err=True)
    for step in steps:
        try:
            # What was there before is reported where it is all that was asked for.
            with in_recipe_keys(step.stage.name, keys):
                _run(renewed(step.stage), quiet, report=not step.idle or step is steps[-1])
        except Stopped as stopped:
            if fresh and step.stage.name != "search":
                stopped.note = f"{step.stage.name} was under way; the same command without --fresh continues."
            raise


def _run(stage: Stage, quiet: bool, report: bool) -> None:
    """One stage with its progress, and then its report. A complete one looks whether its data still fit."""
    if isinstance(stage.inputs, SearchInputs):
        search(stage.inputs, quiet)
        if report:
            print_run(stage.inputs.directory())
    elif isinstance(stage.inputs, ExtractInputs):
        _extract(stage.inputs, quiet, report)
    elif isinstance(stage.inputs, FitRouterInputs):
        _fit_router(stage.inputs, quiet, report)
    elif stage.name == "eval":
        evaluate(stage.inputs, quiet)
    elif stage.name == "publish":
        _publish(stage.inputs)
    else:
        click.echo(f"{stage.name}: {run_stage(stage)}")


def _extract(inputs: ExtractInputs, quiet: bool, report: bool) -> None:
    from pts.report.vector_tables import VECTOR_COLUMNS, vector_report

    vectors = None if is_part_done(inputs) else extract(inputs, quiet)
    if not report:
        return
    if vectors is not None:
        print_report(vector_report(vectors), VECTOR_COLUMNS)
    elif inputs.until == "harvest":
        click.echo(f"harvest: the activations are in {inputs.directory()}")
    else:
        click.echo(f"cluster: {_pattern_counts(inputs.directory())}")


def _fit_router(inputs: FitRouterInputs, quiet: bool, report: bool) -> None:
    from pts.decoding.routers.files import load_router
    from pts.report.router_tables import router_report

    directory = inputs.directory()
    router = load_router(directory) if is_router_done(inputs) else fit_router(inputs, quiet)
    if report:
        click.echo(f"{router_report(router)}\nstored in {directory}")


def _pattern_counts(directory: Path) -> str:
    """How many pairs each pattern has, most first, and where that is written."""
    from pts.stages.extract.patterns import PATTERNS_NAME

    path = directory / PATTERNS_NAME
    found = json.loads(path.read_text(encoding="utf-8"))
    sizes = sorted(((len(group["members"]), group["name"]) for group in found["groups"]), reverse=True)
    return f"by {found['basis']}: {', '.join(f'{name} {size}' for size, name in sizes)}; see {path}"


def _publish(inputs: PublishInputs) -> None:
    from pts.cli.push_to_hub import print_plan, print_published, quiet_client
    from pts.publishing.contents import Contents
    from pts.publishing.hub_errors import AGAIN
    from pts.stages.publish.run import run_publish

    if inputs.push:
        quiet_client(bars=False)
    try:
        published = run_publish(inputs)
    except Stopped as stopped:
        stopped.note = f"{AGAIN[0].lower()}{AGAIN[1:]}."
        raise
    if not isinstance(published, Contents):
        print_published(published, as_json=False)
        return
    print_plan(published, inputs.target(), as_json=False)
    named = "" if inputs.repo_id else " --set publish.repo_id=OWNER/NAME"
    click.echo(f"\nNothing was sent; --set publish.push=true{named} publishes this.")
