"""Rows of a Parquet file, as plain Python values."""

from __future__ import annotations

import math
import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from pts.data_files.rows import BadRow, FileRow
from pts.errors import DataError, one_line


def parquet_rows(path: Path) -> Iterator[FileRow | BadRow]:
    """The rows: decimals are ints or floats (text, where a float is too short), dates ISO text.

    Binary is text where it is UTF-8, nulls are None, dictionary-encoded columns their values, maps dicts.
    Raises DataError for a file that is not Parquet, is cut short or has two columns of a name, OSError.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as table:
            names = table.schema_arrow.names
            repeated = next((name for name, count in Counter(names).items() if count > 1), None)
            if repeated is not None:
                raise DataError(f"{path} has two columns named {repeated!r}; give each its own name.")
            number = 0
            for batch in table.iter_batches(batch_size=1024):
                yield from _batch_rows(batch, number)
                number += batch.num_rows
    except (pyarrow.ArrowException, OSError) as error:
        if getattr(error, "errno", None) is not None:  # the system's, not the format's
            raise
        raise DataError(f"{path} is not a Parquet file that can be read ({one_line(error)}).") from error


def _batch_rows(batch: Any, before: int) -> Iterator[FileRow | BadRow]:
    try:
        rows = batch.to_pylist()
    except (ValueError, OverflowError, TypeError):  # of one value: the other rows are good
        rows = None
    short = [field.name for field in batch.schema if str(field.type) == "float"]
    for index in range(batch.num_rows):
        number = before + index + 1
        place = f"row {number}"
        if rows is not None:
            fields = {name: plain(value) for name, value in rows[index].items()}
            yield FileRow(number, place, fields | {name: _short(fields[name]) for name in short})
            continue
        yield _row_by_field(batch, index, number, place)


def _row_by_field(batch: Any, index: int, number: int, place: str) -> FileRow | BadRow:
    fields: dict[str, Any] = {}
    for name in batch.schema.names:
        try:
            fields[name] = plain(batch.column(name)[index].as_py())
        except UnicodeDecodeError:
            return BadRow(number, place, f"is bad: the field {name} is not UTF-8 text")
        except (ValueError, OverflowError, TypeError) as error:
            return BadRow(number, place, f"is bad: the field {name} has no plain value ({one_line(error)})")
    return FileRow(number, place, fields)


def _short(value: float | None) -> float | None:
    """A float of 32 bits with the digits that tell it from others of its kind: 0.1, not 0.10000000149011612."""
    if value is None or not math.isfinite(value):
        return value
    return float(
        next(text for text in (f"{value:.{size}g}" for size in range(6, 10)) if _as_single(text) == value)
    )


def _as_single(text: str) -> float:
    return float(struct.unpack("f", struct.pack("f", float(text)))[0])


def plain(value: Any) -> Any:
    """A value of Arrow's as one that JSON knows, where there is one."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        if value and all(isinstance(item, tuple) and len(item) == 2 for item in value):  # a map
            return {str(key): plain(item) for key, item in value}
        return [plain(item) for item in value]
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value
    if isinstance(value, Decimal):
        if value.is_finite() and value == value.to_integral_value():
            return int(value)
        return float(value) if Decimal(repr(float(value))) == value else format(value.normalize(), "f")
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return str(value) if isinstance(value, timedelta) else value


def plain_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of a loaded data set as `parquet_rows` gives one."""
    return {name: plain(value) for name, value in row.items()}
