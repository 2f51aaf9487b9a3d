"""The rows of a file, by its suffix."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from pts.data_files.csv_rows import csv_rows
from pts.data_files.json_rows import json_line_rows, json_list_rows
from pts.data_files.parquet_rows import parquet_rows
from pts.data_files.rows import BadRow, FileRow
from pts.errors import DataError

LINES = ".jsonl"
"""The suffix of JSON Lines."""

_READERS: Mapping[str, Callable[[Path], Iterator[FileRow | BadRow]]] = {
    LINES: json_line_rows,
    ".json": json_list_rows,
    ".csv": csv_rows,
    ".parquet": parquet_rows,
    ".ndjson": json_line_rows,
    ".tsv": csv_rows,
}

SUFFIXES = tuple(_READERS)


def read_rows(path: Path, otherwise: str | None = None) -> Iterator[FileRow | BadRow]:
    """The rows of a file in their order, those that cannot be read among them.

    Its suffix says what it is; a file of another suffix is read as one of `otherwise`. Raises DataError where
    the file is missing, of no known kind, or cannot be read as a whole.
    """
    suffix = path.suffix.lower()
    reader = _READERS.get(suffix if suffix in _READERS else otherwise or suffix)
    if reader is None:
        raise DataError(f"{path} is not a data set that can be read; use {', '.join(SUFFIXES)}.")
    try:
        yield from reader(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error


def good_rows(path: Path, otherwise: str | None = None) -> Iterator[FileRow]:
    """The same for a file that is needed whole. Raises DataError for the first bad row, too."""
    for row in read_rows(path, otherwise):
        if isinstance(row, BadRow):
            raise DataError(f"{path} {row.place} {row.reason}; fix or remove it.")
        yield row
