"""Rows of a CSV file with a header."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from pts.data_files.plain_text import open_text_bytes
from pts.data_files.rows import BadRow, FileRow
from pts.data_files.values import text_fault
from pts.errors import DataError

_LONGEST_FIELD = 2**31 - 1
"""Python's own limit is 131,072 characters, which the solution of a problem may exceed."""
_DELIMITERS = ",\t;|"


def csv_rows(path: Path) -> Iterator[FileRow | BadRow]:
    """The rows, by the names of the header; a row's place is the line that it begins on.

    Fields are set apart by commas, or by the tabs, semicolons or bars of a header without commas. A column
    without a name that comes first is what pandas writes its index to, and is left out. Raises DataError for a
    file that is not text, a header that names a field twice or a later column not at all; OSError.
    """
    with open_text_bytes(path):
        pass
    # What is not UTF-8 becomes a surrogate: an error to whoever reads that field, and to nobody else.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
        first = lines.readline()
        reader = csv.reader(chain([first], lines), delimiter=_delimiter(first), strict=True)
        header: list[str] | None = None
        while True:
            begins = reader.line_num + 1
            try:
                values = _next_row(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if header is None:
                    raise DataError(f"{path} line {begins} is not CSV ({error}); fix it.") from error
                yield BadRow(begins, f"line {begins}", f"is not CSV ({error})")
                continue
            if not values or (len(values) == 1 and not values[0].strip()):
                continue
            if header is None:
                header = _header(path, values)
                continue
            yield _row(header, values, begins)


def _next_row(reader: Iterator[list[str]]) -> list[str]:
    """The next row, however long its fields are; the limit is the process's, so it is put back."""
    before = csv.field_size_limit(_LONGEST_FIELD)
    try:
        return next(reader)
    finally:
        csv.field_size_limit(before)


def _delimiter(header: str) -> str:
    bare = re.sub(r'"[^"]*"', "", header)
    if "," in bare:
        return ","
    return max(_DELIMITERS, key=bare.count)


def _header(path: Path, names: Sequence[str]) -> list[str]:
    header = [name.strip() for name in names]
    for place, name in enumerate(header):
        fault = text_fault(name)
        if fault is not None:
            raise DataError(f"{path}: the header's field {place + 1} {fault}; fix or convert it.")
        if name and name in header[:place]:
            raise DataError(f"{path}: the header names the field {name!r} twice; give each its own name.")
        if not name and place > 0:
            raise DataError(
                f"{path}: the header does not name column {place + 1}; name it, or remove the column."
            )
    return header


def _row(header: Sequence[str], values: Sequence[str], begins: int) -> FileRow | BadRow:
    place = f"line {begins}"
    if len(values) != len(header):
        reason = f"has not as many values ({len(values)}) as the header has fields ({len(header)})"
        return BadRow(begins, place, f"{reason}; a value that holds the delimiter is quoted")
    fields = {name: value for name, value in zip(header, values, strict=True) if name}
    for name, value in fields.items():
        if "\0" in value:
            return BadRow(begins, place, f"is bad: the field {name} holds a NUL character")
    return FileRow(begins, place, fields)
