"""Bytes of a file as text: UTF-8, with or without a byte-order mark."""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import BinaryIO

from pts.errors import DataError

_OTHER_FORMATS: tuple[tuple[bytes, str], ...] = (
    (codecs.BOM_UTF32_LE, "UTF-32 text, not UTF-8; convert it first"),
    (codecs.BOM_UTF32_BE, "UTF-32 text, not UTF-8; convert it first"),
    (codecs.BOM_UTF16_LE, "UTF-16 text, not UTF-8; convert it first"),
    (codecs.BOM_UTF16_BE, "UTF-16 text, not UTF-8; convert it first"),
    (b"\x1f\x8b", "compressed by gzip; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd; unpack it first"),
    (b"BZh", "compressed by bzip2; unpack it first"),
    (b"\xfd7zXZ", "compressed by xz; unpack it first"),
    (b"PK\x03\x04", "a zip archive or a spreadsheet; unpack it, or save it as CSV"),
    (b"PAR1", "a Parquet file; name it .parquet"),
)
"""How files begin that are no UTF-8 text, and what they are."""


def require_text(path: Path, start: bytes) -> None:
    """Raise DataError where a file that begins with `start` is in another encoding, or not text at all."""
    for mark, what in _OTHER_FORMATS:
        if start.startswith(mark):
            raise DataError(f"{path} is {what}.")
    if b"\0" in start[:4]:
        raise DataError(f"{path} is not UTF-8 text (it looks like UTF-16); convert it first.")


def open_text_bytes(path: Path) -> BinaryIO:
    """A text file opened for its bytes. Raises DataError as `require_text` does, OSError."""
    file = path.open("rb")
    try:
        start = file.read(8)
        require_text(path, start)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file


def read_text(path: Path) -> str:
    """A text file, without its byte-order mark. Raises DataError where it cannot be read or is not UTF-8."""
    try:
        with open_text_bytes(path) as file:
            return file.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text (byte {error.start}); convert it first.") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
