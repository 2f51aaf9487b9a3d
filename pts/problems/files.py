"""Rows of a data set from a local file or directory."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

from pts.errors import ConfigError, DataError

Row: TypeAlias = Mapping[str, Any]

SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")


def looks_local(dataset: str) -> bool:
    """Whether the name can only mean a file or directory here, or one is there."""
    path = Path(dataset).expanduser()
    return (
        path.exists()
        or path.suffix.lower() in SUFFIXES
        or path.is_absolute()
        or dataset.startswith((".", "~"))
        or dataset.count("/") > 1
    )


def read_local(dataset: str, split: str | None, limit: int | None) -> list[Row]:
    """The first `limit` rows (all, for None) of a file or of a directory that `save_to_disk` wrote.

    Raises DataError for one that is missing or cannot be read, ConfigError for a split of a file.
    """
    path = Path(dataset).expanduser()
    if not path.exists():
        raise DataError(f"There is no data set at {dataset}; check the path, or try --dataset demo.")
    if path.is_dir():
        return _read_directory(path, split, limit)
    if split is not None:
        raise ConfigError(f"{dataset} is a file and has no split {split!r}; leave --split out.")
    readers = {".jsonl": _jsonl_rows, ".json": _json_rows, ".csv": _csv_rows, ".parquet": _parquet_rows}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{dataset} is not a data set that can be read; use {', '.join(SUFFIXES)}.")
    try:
        return list(islice(reader(path), limit))
    except UnicodeDecodeError as error:
        raise DataError(f"{dataset} is not UTF-8 text (byte {error.start}); convert it first.") from error
    except OSError as error:
        raise DataError(f"{dataset} cannot be read: {error.strerror or error}.") from error


def _jsonl_rows(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(
                    f"{path} line {number} is not JSON ({error.msg}); mend or remove it."
                ) from error
            if not isinstance(row, dict):
                raise DataError(f"{path} line {number} is not a JSON object with fields; mend or remove it.")
            yield row


def _json_rows(path: Path) -> Iterator[Row]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path} line {error.lineno} is not JSON ({error.msg}); name the file .jsonl if each "
            "line is an object."
        ) from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{path} is not a list of JSON objects; write it as one, or as .jsonl.")
    yield from rows


def _csv_rows(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.DictReader(lines, strict=True)
        try:
            for row in reader:
                if None in row or None in row.values():
                    raise DataError(
                        f"{path} line {reader.line_num} has not as many values as the header has fields "
                        f"({len(reader.fieldnames or ())}); mend or quote it."
                    )
                yield row
        except csv.Error as error:
            raise DataError(f"{path} line {reader.line_num} is not CSV ({error}); mend it.") from error


def _parquet_rows(path: Path) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as table:
            for batch in table.iter_batches(batch_size=1024):
                yield from batch.to_pylist()
    except pyarrow.ArrowException as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path} is not a Parquet file that can be read ({reason}).") from error


def _read_directory(path: Path, split: str | None, limit: int | None) -> list[Row]:
    if not (path / "dataset_dict.json").exists() and not (path / "state.json").exists():
        raise DataError(
            f"The directory {path} was not written by datasets.save_to_disk; give one of its files "
            f"({', '.join(SUFFIXES)}) instead."
        )
    import datasets

    try:
        loaded = datasets.load_from_disk(str(path))
    except (OSError, ValueError) as error:
        raise DataError(f"The data set at {path} cannot be read: {first_line(error)}.") from error
    return first_rows(loaded, str(path), split, limit)


def first_rows(loaded: Any, name: str, split: str | None, limit: int | None) -> list[Row]:
    """The first rows of a loaded `Dataset`, or of one split of a `DatasetDict`.

    Raises DataError where the split is not there, or is not named and there are several.
    """
    if isinstance(loaded, dict):
        splits = sorted(loaded)
        if split is None and len(splits) == 1:
            split = splits[0]
        if split is None:
            raise DataError(f"{name} has several splits; choose one with --split: {', '.join(splits)}.")
        if split not in loaded:
            raise DataError(f"{name} has no split {split!r}; it has {', '.join(splits)}.")
        loaded = loaded[split]
    elif split is not None and str(loaded.split) != split:
        raise DataError(f"{name} holds the split {loaded.split}, not {split!r}; leave --split out.")
    count = len(loaded) if limit is None else min(limit, len(loaded))
    return list(loaded.select(range(count)))


def first_line(error: BaseException) -> str:
    """An error's message in one line, without its final full stop."""
    return " ".join(str(error).split())[:300].rstrip(".")
