"""Tensors in a safetensors file, whole or not at all, beside a JSON file that says what they are."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from pts.errors import PtsError
from pts.runs.codec import ShapeError, from_json
from pts.runs.files import replace_file, write_failure

T = TypeVar("T")


def read_entry(path: Path, kind: type[T], newest: int, error: type[PtsError], again: str) -> T:
    """What the JSON file holds, a dataclass with the key `schema_version`, up to the version `newest`.

    Raises `error`, which says `again` to who can get the file anew.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as cause:
        raise error(f"{path} cannot be read ({cause}): {again}.") from cause
    version = data.get("schema_version") if isinstance(data, dict) else None
    if isinstance(version, int) and version > newest:
        raise error(f"{path} was written by a newer pts (schema {version}); use that version to read it.")
    try:
        return from_json(kind, data)
    except ShapeError as cause:
        raise error(f"{path} does not hold what it should ({cause}): {again}.") from cause


def read_tensors(
    path: Path, expected: Collection[str], error: type[PtsError], again: str
) -> dict[str, torch.Tensor]:
    """The tensors of a file, which are those that the JSON beside it names. Raises `error` as `read_entry`."""
    try:
        tensors = load_file(str(path))
    except (OSError, SafetensorError, ValueError) as cause:
        raise error(f"{path} cannot be read ({cause}): it is cut short; {again}.") from cause
    odd = sorted(set(expected) ^ set(tensors))
    if odd:
        where = f"{path.stem}.json alone" if odd[0] in expected else f"{path.name} alone"
        raise error(f"{path.parent}: tensors and JSON disagree: {odd[0]} is in {where}; {again}.")
    return tensors


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Replace `path` by the tensors. Raises RunError where the system refuses: a full disk, a folder gone."""
    replace_file(path, lambda temporary: _save(temporary, tensors))


def write_passing_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write tensors that are made anew after a crash, without waiting for the disk. Raises RunError."""
    try:
        _save(path, tensors)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise write_failure(path, error) from error


def _save(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    try:
        # The library's files are their owner's alone; ours are as open as any other that is made here.
        path.touch()
        mode = path.stat().st_mode
        save_file(dict(tensors), str(path))
        path.chmod(mode)
    except SafetensorError as error:
        # What the system said, in the library's own type.
        raise OSError(str(error)) from error
