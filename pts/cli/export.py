"""`pts export`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pts.cli.logs import log_to_stderr
from pts.errors import ConfigError, DataError

if TYPE_CHECKING:
    from pts.steering.vector_set import VectorSet

_TABLES = (".jsonl", ".parquet")


@dataclass(frozen=True, slots=True)
class _Written:
    """What an export wrote: how many of what, and what its reader has to know."""

    rows: int
    what: str
    note: str
    pattern: str | None = None


@click.command("export")
@click.argument("source", metavar="PATH")
@click.option(
    "--format",
    "form",
    type=click.Choice(["gguf", "optillm", "dpo", "rollouts"]),
    required=True,
    help="gguf: control vector; optillm: vector records; dpo: preference pairs; rollouts: graded completions.",
)
@click.option(
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    help="File to write: .gguf for gguf, .parquet for rollouts, else .jsonl or .parquet.",
)
@click.option(
    "--pattern",
    metavar="NAME",
    help="Pattern of the vector set.  [default: its only one; with optillm all]",
)
@click.option("--json", "as_json", is_flag=True, help="Say what was written as one JSON object.")
@click.option("--quiet", is_flag=True, help="No warnings, and nothing on success.")
def export_command(
    source: str, form: str, output: Path, pattern: str | None, as_json: bool, quiet: bool
) -> None:
    """Write what is at PATH in another program's format.

    PATH is a vector set for gguf and optillm (for optillm a local one, with its records), and a search run for
    dpo and rollouts. A card that describes the rollouts is written beside them.
    """
    log_to_stderr(0, quiet)
    _check_output(form, output)
    export: Callable[[str, Path, str | None], _Written] = _EXPORTS[form]
    written = export(source, output, pattern)
    if as_json:
        said = {"source": source, "format": form, "output": str(output), "pattern": written.pattern}
        print(json.dumps({**said, "rows": written.rows, "note": written.note}, ensure_ascii=False))
    elif not quiet:
        click.echo(f"{output}: {written.rows} {written.what}. {written.note}")


def _gguf(source: str, output: Path, pattern: str | None) -> _Written:
    from pts.steering.formats.gguf import write_gguf
    from pts.steering.vector_files import load_vectors

    vectors = load_vectors(source)
    name = _pattern(vectors, source, pattern)
    write_gguf(vectors, name, output)
    note = f"At scale 1.0 it adds what {name} adds at {vectors.vector(name).layers_named} at strength 1.0."
    return _Written(1, "control vector", note, name)


def _optillm(source: str, output: Path, pattern: str | None) -> _Written:
    from pts.steering.records import read_records_parquet, write_records_jsonl, write_records_parquet
    from pts.steering.set_location import RECORDS_NAME
    from pts.steering.vector_files import load_vectors

    vectors = load_vectors(source)
    if pattern is not None:
        vectors.vector(pattern)
    if not Path(source).expanduser().is_dir():
        raise DataError(f"{source} is on the Hub, where optillm can read it; to export it, download it first.")
    several = [name for name, vector in vectors.vectors.items() if vector.shares and pattern in (None, name)]
    if several:
        raise DataError(
            f"pattern {several[0]} is added at {vectors.vector(several[0]).layers_named}, and optillm adds at "
            "one layer: extract vectors of one layer for it."
        )
    every = read_records_parquet(Path(source).expanduser() / RECORDS_NAME)
    records = [record for record in every if pattern in (None, record.reasoning_pattern)]
    if not records:
        raise DataError(f"{source} has no records{'' if pattern is None else f' of pattern {pattern}'}.")
    write = write_records_parquet if output.suffix == ".parquet" else write_records_jsonl
    write(output, records)
    layers = ", ".join(map(str, sorted({record.steering_layer for record in records})))
    note = f"Set optillm's target_layer to {layers}: it does not read steering_layer."
    return _Written(len(records), "vector records", note, pattern)


def _dpo(source: str, output: Path, pattern: str | None) -> _Written:
    from pts.runs.run_tokenizer import load_run_detokenizer
    from pts.runs.search_run import read_search
    from pts.steering.formats.dpo import preference_pairs, write_pairs_jsonl, write_pairs_parquet

    if pattern is not None:
        raise ConfigError(
            "--pattern chooses a vector; preference pairs come from a search run, which has none."
        )
    run = read_search(Path(source).expanduser())
    pairs = preference_pairs(run, load_run_detokenizer(run))
    write = write_pairs_parquet if output.suffix == ".parquet" else write_pairs_jsonl
    write(output, pairs)
    return _Written(
        len(pairs), "preference pairs", "The difference of each is confirmed; both values are in it."
    )


def _rollouts(source: str, output: Path, pattern: str | None) -> _Written:
    from pts.publishing.rollouts_card import rollouts_card
    from pts.runs.files import replace_text
    from pts.runs.rollout_table import write_rollouts
    from pts.runs.search_run import read_search

    if pattern is not None:
        raise ConfigError("--pattern chooses a vector; rollouts come from a run and have none.")
    run = read_search(Path(source).expanduser())
    rows = write_rollouts(run, output)
    card = output.with_suffix(".md")
    replace_text(card, rollouts_card(run, output.name, rows))
    return _Written(rows, "rows of rollouts", f"{card.name} says what its columns are.")


_EXPORTS = {"gguf": _gguf, "optillm": _optillm, "dpo": _dpo, "rollouts": _rollouts}


def _pattern(vectors: VectorSet, source: str, asked: str | None) -> str:
    """The pattern asked for, or the only one. Raises ConfigError."""
    if asked is None and len(vectors.vectors) != 1:
        raise ConfigError(f"{source} has the patterns {', '.join(vectors.vectors)}: choose one with --pattern.")
    name = asked or next(iter(vectors.vectors))
    return vectors.vector(name).pattern


def _check_output(form: str, output: Path) -> None:
    """Raise ConfigError for a file that cannot be written in the format."""
    suffixes = {"gguf": (".gguf",), "rollouts": (".parquet",)}.get(form, _TABLES)
    if output.suffix not in suffixes:
        raise ConfigError(
            f"--output {output} does not fit --format {form}: it must end in {' or '.join(suffixes)}."
        )
    if output.is_dir():
        raise ConfigError(f"--output {output} is a directory; give a file.")
    if not output.parent.is_dir():
        raise ConfigError(f"--output {output}: the directory {output.parent} does not exist; create it first.")
