"""Rows of a data set from a local file or directory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pts.data_files import SUFFIXES, FileRow, good_rows
from pts.data_files.parquet_rows import plain_row
from pts.errors import ConfigError, DataError, one_line
from pts.setting_names import setting


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


def local_rows(dataset: str, split: str | None) -> Iterator[FileRow]:
    """The rows of a file or of a directory that `save_to_disk` wrote, read as they are asked for.

    Raises DataError for one that is missing or a row that cannot be read, ConfigError for a split of a file.
    """
    path = Path(dataset).expanduser()
    if not path.exists():
        raise DataError(
            f"There is no data set at {dataset}; check the path, or try {setting('dataset', 'demo')}."
        )
    if path.is_dir():
        return loaded_rows(_load_directory(path), str(path), split)
    if split is not None:
        raise ConfigError(f"{dataset} is a file and has no split {split!r}; leave {setting('split')} out.")
    return good_rows(path)


def _load_directory(path: Path) -> Any:
    if not (path / "dataset_dict.json").exists() and not (path / "state.json").exists():
        raise DataError(
            f"The directory {path} was not written by datasets.save_to_disk; give one of its files "
            f"({', '.join(SUFFIXES)}) instead."
        )
    import datasets

    try:
        return datasets.load_from_disk(str(path))
    except (OSError, ValueError) as error:
        raise DataError(f"The data set at {path} cannot be read: {one_line(error)}.") from error


def loaded_rows(loaded: Any, name: str, split: str | None) -> Iterator[FileRow]:
    """The rows of a loaded `Dataset`, or of one split of a `DatasetDict`.

    Raises DataError where the split is not there, or is not named and there are several.
    """
    if isinstance(loaded, dict):
        splits = sorted(loaded)
        if split is None and len(splits) == 1:
            split = splits[0]
        if split is None:
            raise DataError(
                f"{name} has several splits; choose one with {setting('split')}: {', '.join(splits)}."
            )
        if split not in loaded:
            raise DataError(f"{name} has no split {split!r}; it has {', '.join(splits)}.")
        loaded = loaded[split]
    elif split is not None and str(loaded.split) != split:
        raise DataError(f"{name} holds the split {loaded.split}, not {split!r}; leave {setting('split')} out.")
    return (FileRow(number, f"row {number}", plain_row(row)) for number, row in enumerate(loaded, start=1))
