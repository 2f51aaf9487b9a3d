"""`pts vectors`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from pts.cli.logs import log_to_stderr
from pts.cli.output import print_report
from pts.cli.patterns import strengths
from pts.cli.progress import phase_progress


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
    if as_json:
        click.echo(json.dumps(vectors_json(loaded), ensure_ascii=False))
    else:
        print_report(vector_report(loaded), VECTOR_COLUMNS)


@vectors_command.command("measure")
@click.argument("vectors")
@click.option("--pattern", "patterns", multiple=True, metavar="NAME[=FACTOR]", help="Pattern, and by how much.")
@click.option("--dataset", help="Problems that nothing was chosen on.  [default: fresh demo problems]")
@click.option("--split", help="Split of the data set.")
@click.option("--problems", default=100, show_default=True, help="Problems to decode.")
@click.option("--samples", default=4, show_default=True, help="Completions of each, steered and not.")
@click.option("--seed", default=1, show_default=True, help="Seed of every random draw.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps.")
@click.option("--same-shape", is_flag=True, help="Accept another model of the same shape, such as a fine-tune.")
@click.option("--quiet", is_flag=True, help="No progress and no warnings.")
def measure(vectors: str, patterns: tuple[str, ...], quiet: bool, **inputs: Any) -> None:
    """Decode problems as the model is and steered by VECTORS, and say what the vectors do."""
    from pts.report.vector_tables import measured_report
    from pts.stages.measure import MeasureRun, measure_set

    log_to_stderr(0, quiet)
    factors = strengths(patterns)
    with phase_progress(quiet) as observe:
        measured = measure_set(MeasureRun(vectors, factors, **inputs), observe)
    print_report(measured_report(measured))


@vectors_command.command("compare")
@click.argument("first")
@click.argument("second")
def compare(first: str, second: str) -> None:
    """Cosines between the directions of two sets of one model, layer by layer."""
    from pts.steering.vector_algebra import cosines
    from pts.steering.vector_files import load_vectors

    for (left, right, layer), cosine in cosines(load_vectors(first), load_vectors(second)).items():
        click.echo(f"{Path(first).name}:{left}  {Path(second).name}:{right}  layer {layer}  {cosine:+.3f}")
