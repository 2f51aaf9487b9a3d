"""Writing that a crash, a full disk or an interrupt cannot leave half-done."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pts.errors import RunError

TEMPORARY_SUFFIX = ".tmp"
_WINDOWS = os.name == "nt"


def write_failure(path: Path, error: OSError) -> RunError:
    """The one-line error for a write that the system refused: disk full, quota, file-size limit."""
    return RunError(
        f"could not write {path}: {error.strerror or error}. What was finished before is kept; "
        "make room and run the same command again to continue."
    )


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then put it in its place in one step.

    A reader sees the old file or the new one, never a part. Raises RunError where the system refuses.
    """
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    try:
        write(temporary)
        _sync(temporary)
        os.replace(temporary, path)
        _sync_directory(path.parent)
    except OSError as error:
        raise write_failure(path, error) from error
    finally:
        # Where nothing can be written nothing can be removed, and the first error is the one to tell.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def replace_text(path: Path, text: str) -> None:
    """Replace a file by `text` in UTF-8, in one step. Raises RunError where the system refuses."""
    replace_file(path, lambda temporary: _write_bytes(temporary, text.encode()))


def append_bytes(path: Path, data: bytes, *, sync: bool = True) -> None:
    """Append `data` durably, or leave the file as it was and raise RunError.

    Without `sync` it outlives the process from now on, and a crash of the machine after the next call with it.
    """
    try:
        is_new = not path.exists()
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            if is_new:
                # A file whose name is not on the disk is lost in a crash, however safe its bytes are.
                _sync_directory(path.parent)
            _append_or_undo(descriptor, data, sync)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise write_failure(path, error) from error


def make_directories(path: Path) -> list[Path]:
    """Make a directory and those above it that are missing, durably; those made, outermost first.

    Raises OSError, whose `filename` says where.
    """
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    made = missing[::-1]
    for folder in made:
        folder.mkdir(exist_ok=True)
        _sync_directory(folder.parent)
    return made


def _append_or_undo(descriptor: int, data: bytes, sync: bool) -> None:
    end = os.fstat(descriptor).st_size
    try:
        written = 0
        while written < len(data):
            written += os.write(descriptor, data[written:])
        if sync:
            os.fsync(descriptor)
    except BaseException:
        # An interrupt as much as a full disk: a file can always be cut back, and half a line is nobody's.
        os.ftruncate(descriptor, end)
        raise


def _write_bytes(path: Path, data: bytes) -> None:
    # Unbuffered: what a buffer fails to flush is tried again, and fails again, when the file is closed.
    with open(path, "wb", buffering=0) as file:
        written = 0
        while written < len(data):
            written += file.write(data[written:])


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_directory(path: Path) -> None:
    """Put a directory's list of names on the disk; Windows has no way to, and does so by itself."""
    if not _WINDOWS:
        _sync(path)
