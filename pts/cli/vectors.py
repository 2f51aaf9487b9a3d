"""`pts vectors`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pts.cli.logs import log_to_stderr
from pts.cli.options import GroupedCommand, options_of
from pts.cli.output import print_report
from pts.cli.patterns import strengths
from pts.cli.progress import phase_progress
from pts.cli.shared_options import PLACEMENT, PROBLEMS, Options, without
from pts.stages.measure.run import MeasureInputs
from pts.stages.stage import Report

_DATA: Options = [
    (
        ("dataset", "--dataset"),
        "Problems that nothing was chosen on: hub id or file.  [default: fresh ones of the demo, for its sets]",
        {},
    ),
    *without(PROBLEMS, "dataset", "problems", "levels", "grader", "grader_pattern"),
]
_MEASURED: dict[str, Options] = {
    "Measurement": [
        (("problems", "--problems"), "Problems to decode.", {}),
        (("samples", "--samples"), "Completions of each, steered and not.", {}),
        (("seed", "--seed"), "Seed of every random draw.", {}),
        (
            ("same_shape", "--same-shape"),
            "Accept another model of the same shape, such as a fine-tune.",
            {"is_flag": True},
        ),
    ],
    "Problems": _DATA,
    "Model": PLACEMENT,
}


@click.group("vectors")
def vectors_command() -> None:
    """Look at vector sets."""


@vectors_command.command("show")
@click.argument("vectors")
@click.option("--revision", help="Revision of a set from the hub.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object: all but the tensors.")
def show(vectors: str, revision: str | None, as_json: bool) -> None:
    """Show the patterns of VECTORS, a directory or a hub id, with layer, norm, held-out numbers and effect."""
    from pts.report.vector_tables import VECTOR_COLUMNS, vector_report
    from pts.steering.vector_files import load_vectors, vectors_json

    loaded = load_vectors(vectors, revision)
    print_report(Report(vector_report(loaded), VECTOR_COLUMNS, data=lambda: vectors_json(loaded)), as_json)


@vectors_command.command("measure", cls=GroupedCommand)
@click.argument("vectors")
@click.option("--pattern", "patterns", multiple=True, metavar="NAME[=FACTOR]", help="Pattern, and by how much.")
@options_of(MeasureInputs, _MEASURED)
@click.option("--quiet", is_flag=True, help="No progress and no warnings.")
def measure(vectors: str, patterns: tuple[str, ...], quiet: bool, **inputs: Any) -> None:
    """Decode problems as the model is and steered by VECTORS, and say what the vectors do."""
    from pts.report.vector_tables import measured_report
    from pts.stages.measure.run import measure_set

    log_to_stderr(0, quiet)
    factors = strengths(patterns)
    with phase_progress(quiet) as observe:
        measured = measure_set(MeasureInputs(vectors, factors, **inputs), observe)
    print_report(Report(measured_report(measured)))


@vectors_command.command("compare")
@click.argument("first")
@click.argument("second")
def compare(first: str, second: str) -> None:
    """Cosines between the directions of two sets of one model, layer by layer."""
    from pts.steering.vector_algebra import cosines
    from pts.steering.vector_files import load_vectors

    for (left, right, layer), cosine in cosines(load_vectors(first), load_vectors(second)).items():
        click.echo(f"{Path(first).name}:{left}  {Path(second).name}:{right}  layer {layer}  {cosine:+.3f}")
