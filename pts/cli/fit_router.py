"""`pts fit-router`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pts.cli.logs import log_to_stderr
from pts.cli.options import GroupedCommand, NumberList, options_of
from pts.cli.shared_options import PLACEMENT
from pts.cli.stage_run import run_command_stage
from pts.stages.fit_router.inputs import FitRouterInputs

_OPTIONS: dict[str, list[tuple[tuple[str, ...], str, dict[str, Any]]]] = {
    "Router": [
        (("vectors", "--vectors"), "Vector set to fit for too, and to store the router with.", {}),
        (
            ("short", "--short"),
            "Tokens of thinking of the class easy.  [default: 40% of the total]",
            {"type": int},
        ),
        (
            ("long", "--long"),
            "Tokens of thinking of the class hard.  [default: as the model likes]",
            {"type": int},
        ),
        (
            ("layer", "--layer"),
            "Decoder layer to read, from 0.  [default: by held-out loss]",
            {"type": int},
        ),
        (
            ("token_price", "--token-price"),
            "Success that a token must bring.  [default: fitted]",
            {"type": float},
        ),
        (
            ("layers_path", "--layers-path"),
            "Module with the decoder blocks, such as model.layers.  [default: found]",
            {},
        ),
    ],
    "Measurement": [
        (("problems", "--problems"), "Problems that the search did not draw.", {}),
        (("samples", "--samples"), "Completions of each with each budget.", {}),
        (
            ("levels", "--levels"),
            "Levels of the demo problems.  [default: the search's]",
            {"type": NumberList()},
        ),
        (("seed", "--seed"), "Seed of every random draw.", {}),
    ],
    "Model": PLACEMENT,
    "Output": [
        (
            ("output", "--output"),
            "Directory of the router.  [default: the vector set's, or routers/<run's name>]",
            {"type": click.Path(path_type=Path)},
        ),
        (
            ("fresh", "--fresh"),
            "Delete the router and its measurements there and start again.",
            {"is_flag": True},
        ),
    ],
}


@click.command("fit-router", cls=GroupedCommand)
@click.argument("run", type=click.Path(path_type=Path))
@options_of(FitRouterInputs, _OPTIONS)
@click.option("--json", "as_json", is_flag=True, help="One JSON object: all but the tensors.")
@click.option("--quiet", is_flag=True, help="No progress and no warnings.")
@click.option("-v", "--verbose", count=True, help="Say more; twice for everything.")
def fit_router_command(as_json: bool, quiet: bool, verbose: int, **inputs: Any) -> None:
    """Measure no, short and long thinking with the model of the search in RUN, and fit a router to choose.

    The strategy auto uses the router that is stored with its vector set. The same command again goes on where
    it was stopped.
    """
    log_to_stderr(verbose, quiet)
    run_command_stage("fit-router", inputs, quiet, as_json)
