"""`pts extract-vectors`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pts.cli.logs import log_to_stderr
from pts.cli.options import GroupedCommand, NumberList, TextList, options_of
from pts.cli.shared_options import PLACEMENT
from pts.cli.stage_run import run_command_stage
from pts.stages.extract.inputs import GATES, METHODS, PATTERNS_BY, ExtractInputs

_OPTIONS: dict[str, list[tuple[tuple[str, ...], str, dict[str, Any]]]] = {
    "Vectors": [
        (("methods", "--methods"), f"How a direction is made: {', '.join(METHODS)}.", {"type": TextList()}),
        (("gates", "--gates"), f"Where it is added: {', '.join(GATES)}.", {"type": TextList()}),
        (
            ("layers", "--layers"),
            "Decoder layers to try, from 0.  [default: three around the middle]",
            {"type": NumberList()},
        ),
        (
            ("strengths", "--strengths"),
            "Norms to try, in multiples of the residual stream's, both signs.",
            {"type": NumberList(float)},
        ),
        (
            ("patterns", "--patterns"),
            "Patterns by clusters of contrasts, by labels, or by clusters if there are any.",
            {"type": click.Choice(PATTERNS_BY)},
        ),
        (
            ("lexicon", "--lexicon"),
            "YAML or JSON of pattern names and their words.  [default: five patterns]",
            {"type": click.Path(path_type=Path)},
        ),
        (
            ("layers_path", "--layers-path"),
            "Module with the decoder blocks, such as model.layers.  [default: found]",
            {},
        ),
    ],
    "Measurement": [
        (("calibration_problems", "--calibration-problems"), "Problems to choose on.", {}),
        (("samples", "--samples"), "Completions of each of them.", {}),
        (("test_problems", "--test-problems"), "Problems to measure the effect on.", {}),
        (("test_samples", "--test-samples"), "Completions of each of them.", {}),
        (
            ("random", "--random"),
            "Random directions through the same calibration.  [default: 19; 20 more for each other method]",
            {"type": int},
        ),
        (
            ("divergence", "--divergence/--no-divergence"),
            "Measure the KL per token between steered and not.",
            {},
        ),
        (("seed", "--seed"), "Seed of every random draw.", {}),
    ],
    "Model": PLACEMENT,
    "Output": [
        (
            ("output", "--output"),
            "Directory of the vector set.  [default: vectors/<run's name>]",
            {"type": click.Path(path_type=Path)},
        ),
        (("fresh", "--fresh"), "Delete what is in that directory and start again.", {"is_flag": True}),
    ],
}


@click.command("extract-vectors", cls=GroupedCommand)
@click.argument("run", type=click.Path(path_type=Path))
@options_of(ExtractInputs, _OPTIONS)
@click.option("--quiet", is_flag=True, help="No progress and no warnings.")
@click.option("-v", "--verbose", count=True, help="Say more; twice for everything.")
def extract_vectors_command(quiet: bool, verbose: int, **inputs: Any) -> None:
    """Make steering vectors of the pivotal tokens in RUN, choose how to add them, and measure what they do.

    The same command again goes on where it was stopped, and leaves a complete set as it is.
    """
    log_to_stderr(verbose, quiet)
    run_command_stage("extract-vectors", inputs, quiet)
