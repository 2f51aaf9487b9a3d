"""A field's value as text, or what is wrong with it."""

from __future__ import annotations

import math
import re
from decimal import Decimal

from pts.errors import DataError

_SURROGATE = re.compile("[\ud800-\udfff]")
_NOT_A_NUMBER = frozenset({"nan", "<na>"})
"""What a missing value becomes where a table is turned into text."""


def text_fault(text: str) -> str | None:
    """What keeps tokenizers from reading a text, as a phrase that goes on from "it"; None for a good text."""
    found = _SURROGATE.search(text)
    if found is None:
        return None
    code = ord(found.group())
    if 0xDC80 <= code <= 0xDCFF:
        return f"is not UTF-8 text (byte 0x{code - 0xDC00:02x} at character {found.start()})"
    return f"holds half of a surrogate pair (\\u{code:04x} at character {found.start()}), which is no character"


def field_text(value: object, where: str) -> str:
    """A field's value as text without outer spaces: numbers in plain digits, true and false as yes and no.

    Raises DataError, which begins with `where`, for a missing, empty or NaN value, a list, an object, bytes,
    and text that no tokenizer reads.
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float) and math.isfinite(value):
        return _digits(value)
    if not isinstance(value, str) or not value.strip() or value.strip().casefold() in _NOT_A_NUMBER:
        raise DataError(f"{where} is {_shown(value)}, not text or a number; fix or remove the row.")
    fault = text_fault(value)
    if fault is not None:
        raise DataError(f"{where} {fault}; fix or remove the row.")
    return value.strip()


def id_text(value: object, where: str) -> str:
    """An id as text: 7, 7.0 and "7" are one. Raises DataError as `field_text` does, and for true and false."""
    if isinstance(value, bool):
        raise DataError(f"{where} is {value}, not text or a number; fix or remove the row.")
    return field_text(value, where)


def _digits(value: float) -> str:
    if value.is_integer():
        return str(int(value))
    written = repr(value)
    return format(Decimal(written), "f") if "e" in written else written


def _shown(value: object) -> str:
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return f"an object ({', '.join(map(str, value))[:60]})"
    if isinstance(value, bytes):
        return "binary data"
    written = repr(value)
    return written if len(written) <= 80 else f"{written[:77]}..."
