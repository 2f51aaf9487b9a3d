"""JSON in and out, strictly: what Python's reader would resolve in silence is an error here."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

_SEPARATORS = {ord(character): f"\\u{ord(character):04x}" for character in "\x85\u2028\u2029"}


class JsonError(ValueError):
    """What is wrong with a text that should be JSON: a phrase that goes on from "it"."""


def parse_json(text: str) -> Any:
    """The value of a JSON text.

    NaN and Infinity are numbers, as Python and pandas write them, and half a surrogate pair stays in its text:
    whoever reads that field says so. Raises JsonError for anything else that is not JSON, an object that holds
    a key twice, a number too long to convert, and lists or objects nested too deeply.
    """
    return _guarded(lambda: _DECODER.decode(text))


def parse_json_at(text: str, position: int) -> tuple[Any, int]:
    """The value that begins at a position, and where it ends. Raises JsonError as `parse_json` does."""
    value, end = _guarded(lambda: _DECODER.raw_decode(text, position))
    return value, end


def json_line(value: object) -> str:
    """A value as one line of JSON, without its line break.

    Characters that some readers take for the end of a line (U+2028, U+2029, U+0085) are escaped.
    """
    return json.dumps(value, ensure_ascii=False, allow_nan=False).translate(_SEPARATORS)


def _guarded(parse: Callable[[], Any]) -> Any:
    try:
        return parse()
    except json.JSONDecodeError as error:
        raise JsonError(f"is not JSON ({error.msg})") from error
    except JsonError:
        raise
    except RecursionError as error:
        raise JsonError("is not JSON that can be read (it is nested too deeply)") from error
    except ValueError as error:
        limit = re.search(r"\((\d+) digits\)", str(error))
        digits = f"of more than {limit.group(1)} digits" if limit else "that is too long"
        raise JsonError(f"is not JSON that can be read (it holds a number {digits})") from error


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        raise JsonError(f"has the field {counts.most_common(1)[0][0]!r} more than once")
    return made


_DECODER = json.JSONDecoder(object_pairs_hook=_unique_keys)
