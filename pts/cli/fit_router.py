"""`pts fit-router`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pts.cli.logs import log_to_stderr
from pts.cli.options import GroupedCommand, NumberList, options_of
from pts.cli.shared_options import PLACEMENT, REMOTE_CODE
from pts.cli.stage_run import run_command_stage
from pts.stages.fit_router.inputs import FitRouterInputs

_OPTIONS: dict[str, list[tuple[tuple[str, ...], str, dict[str, Any]]]] = {
    "Router": [
        (("vectors", "--vectors"), "Vector set to fit for too, and to store the router with.", {}),
        (
            ("short", "--short"),
            "Thinking budget of the class easy, in tokens.  [default: 40% of the total]",
            {"type": int},
        ),
        (
            ("long", "--long"),
            "Thinking budget of the class hard, in tokens.  [default: no limit]",
            {"type": int},
        ),
        (
            ("layer", "--layer"),
            "Decoder layer to read, from 0.  [default: the one with the lowest held-out loss]",
            {"type": int},
        ),
        (
            ("token_price", "--token-price"),
            "Price of a token: the gain in success that it must be worth.  [default: fitted]",
            {"type": float},
        ),
        (
            ("layers_path", "--layers-path"),
            "Module that holds the decoder blocks, such as model.layers.  [default: detected]",
            {},
        ),
    ],
    "Measurement": [
        (("problems", "--problems"), "Number of problems to measure on; the search did not draw them.", {}),
        (("samples", "--samples"), "Completions of each problem with each budget.", {}),
        (
            ("levels", "--levels"),
            "Levels of the demo problems.  [default: the search's]",
            {"type": NumberList()},
        ),
        (("seed", "--seed"), "Seed of every random draw.", {}),
    ],
    "Model": [*PLACEMENT, *REMOTE_CODE],
    "Output": [
        (
            ("output", "--output"),
            "Directory of the router.  [default: the vector set's, or routers/<run's name>]",
            {"type": click.Path(path_type=Path)},
        ),
        (
            ("fresh", "--fresh"),
            "Delete the router and its measurements and start again.",
            {"is_flag": True},
        ),
    ],
}


@click.command("fit-router", cls=GroupedCommand)
@click.argument("run", type=click.Path(path_type=Path))
@options_of(FitRouterInputs, _OPTIONS)
@click.option("--json", "as_json", is_flag=True, help="Print everything but the tensors as one JSON object.")
@click.option("--quiet", is_flag=True, help="Show no progress and no warnings.")
@click.option("-v", "--verbose", count=True, help="Show more log messages; -vv shows all.")
def fit_router_command(as_json: bool, quiet: bool, verbose: int, **inputs: Any) -> None:
    """Measure no, short and long thinking with the model of the search RUN, and fit a router that chooses.

    The strategy auto uses the router that is stored with its vector set. To continue a fit that was stopped,
    give the same command again.
    """
    log_to_stderr(verbose, quiet)
    run_command_stage("fit-router", inputs, quiet, as_json)
