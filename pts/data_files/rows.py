"""A row of a file with its place, and a row that cannot be read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

Row: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class FileRow:
    """A row: `number` counts lines of text files and rows of Parquet from 1; `place` is "line 3" or "row 3"."""

    number: int
    place: str
    fields: Row


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be read. `reason` goes on from "it": "is not JSON", "has 2 values for 3 fields"."""

    number: int
    place: str
    reason: str
