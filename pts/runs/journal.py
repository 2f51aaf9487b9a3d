"""The append-only journal of records: one line of JSON each, readable after a kill at any moment."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Generic, TypeVar

from pts.data_files import json_line
from pts.errors import RunError
from pts.runs.codec import ShapeError, from_json, to_json
from pts.runs.files import append_bytes, replace_text, write_failure
from pts.setting_names import setting

T = TypeVar("T")

logger = logging.getLogger(__name__)


class Journal(Generic[T]):
    """Records of one kind (a dataclass, or `dict`) in a file that only grows.

    Records are on the disk when `append` returns, all or none of them. A kill may leave half a line at the end:
    `read` leaves it out and the next `append` cuts it off. With `headed`, the first line is no record but says
    what the journal is of (see `begin` and `header`). `remedy` ends the error for a line that cannot be read.

    Example:
        journal = Journal(folder / "items.jsonl", Item)
        journal.append(item)
        items = journal.read()
    """

    def __init__(
        self,
        path: Path,
        kind: type[T],
        *,
        headed: bool = False,
        remedy: str | None = None,
    ) -> None:
        self.path = path
        self._kind = kind
        self._headed = headed
        self._remedy = remedy
        self._whole = False

    def begin(self, header: Mapping[str, object]) -> None:
        """Make the file, with its header alone. Raises RunError where the system refuses."""
        replace_text(self.path, json_line(to_json(header)) + "\n")
        self._whole = True

    def header(self) -> dict[str, object] | None:
        """What the journal is of; None where there is no file, or its first line does not say."""
        if not self.path.exists():
            return None
        with self.path.open("rb") as file:
            first = file.readline()
        try:
            header = json.loads(first) if first.endswith(b"\n") else None
        except ValueError:
            return None
        return header if isinstance(header, dict) else None

    def read(self) -> list[T]:
        """All whole records in order, [] where there is no file. Raises RunError, naming the line."""
        return list(self._records())

    def append(self, *records: T) -> None:
        """Add records durably. Raises RunError, the file as it was, where the system refuses."""
        if not self._whole:
            self._cut_half_line()
            self._whole = True
        append_bytes(self.path, "".join(json_line(to_json(record)) + "\n" for record in records).encode())

    def _records(self) -> Iterator[T]:
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n") or (self._headed and number == 1):
                    continue
                try:
                    record = from_json(self._kind, json.loads(line))
                except (ValueError, ShapeError) as error:
                    remedy = self._remedy or (
                        f"restore the file from a copy, or start again with {setting('fresh', True)} or "
                        "another "
                        f"{setting('output')}"
                    )
                    raise RunError(f"{self.path} line {number} cannot be read ({error}): {remedy}.") from error
                yield record

    def _cut_half_line(self) -> None:
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            if not file.seek(0, os.SEEK_END):
                return
            file.seek(-1, os.SEEK_END)
            if file.read(1) == b"\n":
                return
        data = self.path.read_bytes()
        whole = data.rfind(b"\n") + 1
        logger.warning(
            "%s: the last line was cut off after %d bytes and is dropped; its content is computed again.",
            self.path,
            len(data) - whole,
        )
        try:
            os.truncate(self.path, whole)
        except OSError as error:
            raise write_failure(self.path, error) from error
