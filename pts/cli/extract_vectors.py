"""`pts extract-vectors`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pts.cli.logs import log_to_stderr
from pts.cli.options import GroupedCommand, NumberList, TextList, options_of
from pts.cli.shared_options import ENDPOINT, ENGINE, PLACEMENT, RAY, REMOTE_CODE
from pts.cli.stage_run import run_command_stage
from pts.stages.extract.inputs import GATES, METHODS, PATTERNS_BY, ExtractInputs

_OPTIONS: dict[str, list[tuple[tuple[str, ...], str, dict[str, Any]]]] = {
    "Vectors": [
        (
            ("methods", "--methods"),
            f"Methods that make a direction: {', '.join(METHODS)}.",
            {"type": TextList()},
        ),
        (
            ("gates", "--gates"),
            f"Gates to try, which decide where a vector is added: {', '.join(GATES)}.",
            {"type": TextList()},
        ),
        (
            ("layers", "--layers"),
            "Decoder layers to try, from 0.  [default: three around the middle]",
            {"type": NumberList()},
        ),
        (
            ("together", "--together"),
            "Add a vector at each of these layers (default: all), trained together, in place of choosing one.",
            {"is_flag": True},
        ),
        (
            ("strengths", "--strengths"),
            "Norms to try, in multiples of the residual stream's mean norm; both signs are tried.",
            {"type": NumberList(float)},
        ),
        (
            ("patterns", "--patterns"),
            "Patterns are clusters of the contrasts, labels from words, or (auto) clusters if there are any.",
            {"type": click.Choice(PATTERNS_BY)},
        ),
        (
            ("lexicon", "--lexicon"),
            "YAML or JSON file with pattern names and their words.  [default: five patterns]",
            {"type": click.Path(path_type=Path)},
        ),
        (
            ("layers_path", "--layers-path"),
            "Module that holds the decoder blocks, such as model.layers.  [default: detected]",
            {},
        ),
    ],
    "Measurement": [
        (
            ("calibration_problems", "--calibration-problems"),
            "Number of problems to choose layer, strength, sign and gate on.",
            {},
        ),
        (("samples", "--samples"), "Completions of each of these problems.", {}),
        (("test_problems", "--test-problems"), "Number of other problems to measure the effect on.", {}),
        (("test_samples", "--test-samples"), "Completions of each test problem.", {}),
        (
            ("random", "--random"),
            "Number of random directions that are calibrated alike.  [default: 19; 20 more for each method"
            " beyond the first]",
            {"type": int},
        ),
        (
            ("divergence", "--divergence/--no-divergence"),
            "Measure the KL divergence per token between steered and unsteered.",
            {},
        ),
        (("seed", "--seed"), "Seed of every random draw.", {}),
    ],
    "Model": [*ENGINE, *ENDPOINT, *PLACEMENT, *REMOTE_CODE],
    "Ray": RAY,
    "Output": [
        (
            ("output", "--output"),
            "Directory of the vector set.  [default: vectors/<run's name>]",
            {"type": click.Path(path_type=Path)},
        ),
        (("fresh", "--fresh"), "Delete what is in the output directory and start again.", {"is_flag": True}),
    ],
}


@click.command("extract-vectors", cls=GroupedCommand)
@click.argument("run", type=click.Path(path_type=Path))
@options_of(ExtractInputs, _OPTIONS)
@click.option("--quiet", is_flag=True, help="Show no progress and no warnings.")
@click.option("-v", "--verbose", count=True, help="Show more log messages; -vv shows all.")
def extract_vectors_command(quiet: bool, verbose: int, **inputs: Any) -> None:
    """Make steering vectors of the pivotal tokens in RUN, choose how to add them, and measure what they do.

    To continue an extraction that was stopped, give the same command again.
    """
    log_to_stderr(verbose, quiet)
    run_command_stage("extract-vectors", inputs, quiet)
