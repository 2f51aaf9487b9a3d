"""`pts vectors`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pts.cli.interrupts import Stopped
from pts.cli.logs import log_to_stderr
from pts.cli.options import GroupedCommand, options_of
from pts.cli.output import print_report
from pts.cli.patterns import strengths
from pts.cli.progress import phase_progress
from pts.cli.shared_options import PLACEMENT, PROBLEMS, REMOTE_CODE, Options, without
from pts.stages.measure.inputs import MeasureInputs
from pts.stages.stage import Report

_DATA: Options = [
    (
        ("dataset", "--dataset"),
        "Problems on which nothing was chosen: Hub id or file.  [default for sets of the demo: fresh ones]",
        {},
    ),
    *without(PROBLEMS, "dataset", "problems", "levels", "grader", "grader_pattern"),
]
_MEASURED: dict[str, Options] = {
    "Measurement": [
        (("problems", "--problems"), "Number of problems to decode.", {}),
        (("samples", "--samples"), "Completions of each problem, unsteered and with each vector.", {}),
        (
            ("random", "--random"),
            "Number of random vectors of the same form to measure beside it; 19 or more test it at 5%.",
            {},
        ),
        (
            ("race", "--race"),
            "Drop the worse half of all vectors after 1/8, 3/8 and 3/4 of the problems: under half the cost.",
            {"is_flag": True},
        ),
        (
            ("output", "--output"),
            "Directory that keeps what is measured: a stopped command goes on, with more problems too.",
            {"type": click.Path(path_type=Path)},
        ),
        (("seed", "--seed"), "Seed of every random draw.", {}),
        (
            ("examples", "--examples"),
            "Also write a few completions, token by token, into VECTORS for pts report.",
            {"is_flag": True},
        ),
        (
            ("record", "--record"),
            "Also write the result into VECTORS: what shows or publishes the set then tells it.",
            {"is_flag": True},
        ),
        (
            ("same_shape", "--same-shape"),
            "Accept another model of the same shape, such as a fine-tune.",
            {"is_flag": True},
        ),
    ],
    "Problems": _DATA,
    "Model": [
        (("model", "--model"), "Where the set's model is.  [default: where its search found it]", {}),
        *PLACEMENT,
        *REMOTE_CODE,
    ],
}


@click.group("vectors")
def vectors_command() -> None:
    """Show, measure and compare vector sets."""


@vectors_command.command("show")
@click.argument("vectors")
@click.option("--revision", help="Revision of the vector set on the Hub.")
@click.option("--json", "as_json", is_flag=True, help="Print everything but the tensors as one JSON object.")
def show(vectors: str, revision: str | None, as_json: bool) -> None:
    """Show the patterns of a vector set: layer, norm, held-out numbers, effect.

    VECTORS is a directory, a Hub id, or the name of a set that comes with pts,
    such as demo.
    """
    from pts.report.vector_tables import VECTOR_COLUMNS, vector_report
    from pts.steering.vector_files import load_vectors, vectors_json

    loaded = load_vectors(vectors, revision)
    print_report(Report(vector_report(loaded), VECTOR_COLUMNS, data=lambda: vectors_json(loaded)), as_json)


@vectors_command.command("measure", cls=GroupedCommand)
@click.argument("vectors")
@click.option(
    "--pattern",
    "patterns",
    multiple=True,
    metavar="NAME[=FACTOR]",
    help="Pattern to steer by, and a multiple of its calibrated strength. May be repeated.",
)
@options_of(MeasureInputs, _MEASURED)
@click.option("--json", "as_json", is_flag=True, help="Print the figures as one JSON object.")
@click.option("--quiet", is_flag=True, help="Show no progress and no warnings.")
def measure(vectors: str, patterns: tuple[str, ...], as_json: bool, quiet: bool, **inputs: Any) -> None:
    """Measure success on problems: unsteered, steered by VECTORS, and by random vectors in their place.

    VECTORS is a directory, a Hub id, or the name of a set that comes with pts,
    such as demo.
    """
    from pts.report.vector_tables import measured_report
    from pts.stages.measure.run import measure_set, resume_note

    log_to_stderr(0, quiet)
    asked = MeasureInputs(vectors, strengths(patterns), **inputs)
    try:
        with phase_progress(quiet) as observe:
            measured = measure_set(asked, observe)
    except Stopped as stopped:
        stopped.note = resume_note(asked)
        raise
    print_report(Report(measured_report(measured), data=measured.figures), as_json)


@vectors_command.command("compare")
@click.argument("first")
@click.argument("second")
def compare(first: str, second: str) -> None:
    """Show the cosines between the directions of two sets of one model, layer by layer."""
    from pts.steering.vector_algebra import cosines
    from pts.steering.vector_files import load_vectors

    for (left, right, layer), cosine in cosines(load_vectors(first), load_vectors(second)).items():
        click.echo(f"{Path(first).name}:{left}  {Path(second).name}:{right}  layer {layer}  {cosine:+.3f}")
