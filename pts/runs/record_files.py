"""Records of any kind as JSON Lines or Parquet, written whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pts.data_files import json_line
from pts.runs.codec import to_json
from pts.runs.files import replace_file


def write_jsonl_records(path: Path, records: Iterable[object]) -> None:
    """Replace `path` by one JSON object a line, a line at a time in memory. Raises RunError."""

    def write(temporary: Path) -> None:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            for record in records:
                file.write(json_line(to_json(record)) + "\n")

    replace_file(path, write)


def write_parquet_records(path: Path, records: Iterable[object], schema: Any) -> None:
    """Replace `path` by a Parquet table with the columns of `schema` (pyarrow's). Raises RunError.

    The schema is given rather than inferred: no records have the same columns as many.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist([to_json(record) for record in records], schema=schema)
    replace_file(path, lambda temporary: pq.write_table(table, temporary, compression="zstd"))
