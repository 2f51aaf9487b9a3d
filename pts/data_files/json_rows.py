"""Rows of JSON Lines, and of a file that is one JSON list."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pts.data_files.json_text import JsonError, parse_json, parse_json_at
from pts.data_files.plain_text import open_text_bytes, read_text
from pts.data_files.rows import BadRow, FileRow
from pts.errors import DataError

_MARK = b"\xef\xbb\xbf"
_SPACE = re.compile(r"[ \t\r\n]*")


def json_line_rows(path: Path) -> Iterator[FileRow | BadRow]:
    """The objects of a file of JSON Lines; blank lines are skipped.

    A line ends at a line feed, a carriage return or both, and nowhere else: U+2028 and the like are text.
    Raises DataError for a file that is not text or is one JSON list over several lines, OSError.
    """
    number = 0
    with open_text_bytes(path) as file:
        for raw in file:
            cut = not raw.endswith((b"\n", b"\r"))
            for line in raw.rstrip(b"\r\n").split(b"\r"):
                number += 1
                content = line.removeprefix(_MARK).strip()
                if content:
                    yield _line_row(path, number, content, cut)


def _line_row(path: Path, number: int, line: bytes, cut: bool) -> FileRow | BadRow:
    place = f"line {number}"
    try:
        row = parse_json(line.decode())
    except UnicodeDecodeError as error:
        return BadRow(number, place, f"is not UTF-8 text (byte {error.start} of the line)")
    except JsonError as error:
        if number == 1 and (line == b"[" or (line.startswith(b"[") and line.endswith(b"},"))):
            raise DataError(
                f"{path} line 1 is not JSON by itself: the file is one JSON list; name it .json, or write an "
                "object on each line."
            ) from error
        hint = "; the file ends there, as if it were cut short" if cut and "is not JSON (" in str(error) else ""
        return BadRow(number, place, f"{error}{hint}")
    return _object_row(number, place, row)


def json_list_rows(path: Path) -> Iterator[FileRow | BadRow]:
    """The objects of a file that is one JSON list. Raises DataError where it is something else, OSError."""
    text = read_text(path)
    position = _after_space(text, 0)
    if text[position : position + 1] != "[":
        raise DataError(_no_list(path, text))
    position, number = _after_space(text, position + 1), 0
    while number or text[position : position + 1] != "]":  # the list may be empty, but not end in a comma
        number += 1
        try:
            row, position = parse_json_at(text, position)
        except JsonError as error:
            raise DataError(f"{path} line {_line(text, position)} {error}; fix it.") from error
        yield _object_row(number, f"row {number}", row)
        position = _after_space(text, position)
        if text[position : position + 1] == "]":
            break
        if text[position : position + 1] != ",":
            raise DataError(f"{path} line {_line(text, position)} is not JSON (Expecting ',' or ']'); fix it.")
        position = _after_space(text, position + 1)
    if text[position + 1 :].strip():
        raise DataError(f"{path} line {_line(text, position)} is not JSON (more follows the list); fix it.")


def _no_list(path: Path, text: str) -> str:
    try:
        parse_json(text)
    except JsonError as error:
        return f"{path} {error}; name the file .jsonl if each line is an object."
    return f"{path} is not a list of JSON objects; write it as one, or as .jsonl."


def _object_row(number: int, place: str, row: Any) -> FileRow | BadRow:
    if isinstance(row, dict):
        return FileRow(number, place, row)
    hint = "; a file that is one JSON list is named .json" if isinstance(row, list) else ""
    return BadRow(number, place, f"is not a JSON object with fields{hint}")


def _after_space(text: str, position: int) -> int:
    space = _SPACE.match(text, position)
    return position if space is None else space.end()


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1
