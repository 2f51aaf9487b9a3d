"""One row as the schemas read it: its fields, its problem's id, and where it is, for messages."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pts.data_files import Row, field_text, parse_json
from pts.errors import DataError


def value_at(row: Row, field: str) -> Any:
    """A field's value. A name that is no field may lead into objects and lists: `reward.truth`, `turns.0.text`.

    None where there is nothing.
    """
    if field in row:
        return row[field]
    value: Any = row
    for part in field.split("."):
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return None if value is row else value


@dataclass(frozen=True, slots=True)
class Entry:
    """A row that is read: `item` is its problem's id, `place` where it is ("d.jsonl line 3")."""

    row: Row
    item: str
    place: str

    def value(self, field: str) -> Any:
        """A field's value as it is; None where there is none."""
        return value_at(self.row, field)

    def where(self, field: str) -> str:
        """How messages name a field of this row."""
        return f"{self.place}: the field {field} of problem {self.item}"

    def text(self, field: str) -> str:
        """A field's value as text. Raises DataError for an empty one, a truth value, a list or an object."""
        value = self.value(field)
        if isinstance(value, bool):
            raise DataError(f"{self.where(field)} is {value}, not text or a number; fix or remove the row.")
        return field_text(value, self.where(field))

    def has_text(self, field: str) -> bool:
        """Whether the field holds a text that is not blank."""
        value = self.value(field)
        return isinstance(value, str) and bool(value.strip())

    def items(self, field: str) -> Sequence[Any] | None:
        """A field's list, or the list that its text is, as JSON or Python writes it; None where it is none."""
        value = self.value(field)
        if isinstance(value, str) and value.strip().startswith("["):
            value = _listed(value)
        return value if isinstance(value, list | tuple) else None

    def failure(self, fault: str) -> DataError:
        """The error for this row: `fault` goes on from "problem 7"."""
        return DataError(f"{self.place}: problem {self.item} {fault}; fix or remove the row.")


def _listed(text: str) -> Any:
    """The list that a cell of a table was written from."""
    try:
        return parse_json(text)
    except ValueError:
        pass
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
