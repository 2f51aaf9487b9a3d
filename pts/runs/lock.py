"""One writer a run directory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from pts.errors import RunError
from pts.runs.files import write_failure
from pts.setting_names import setting

LOCK_NAME = ".lock"
OWNER_NAME = ".lock-owner"


@contextmanager
def sole_writer(directory: Path) -> Iterator[None]:
    """Hold the directory's lock, which the system releases when the process ends, however it ends.

    Raises RunError at once where another process holds it, or where the directory cannot be written.
    """
    lock = FileLock(directory / LOCK_NAME, blocking=False)
    try:
        lock.acquire()
    except Timeout:
        raise RunError(
            f"{directory} is in use by {_owner(directory)}. Wait for it to end, or give another "
            f"{setting('output')}."
        ) from None
    except OSError as error:
        raise write_failure(directory / LOCK_NAME, error) from error
    try:
        _sign(directory / OWNER_NAME)
        yield
    finally:
        lock.release()


def _sign(path: Path) -> None:
    # A file of its own: some versions of filelock empty the lock file itself when a second process tries it.
    try:
        path.write_text(f"{os.getpid()}\n")
    except OSError as error:
        raise write_failure(path, error) from error


def _owner(directory: Path) -> str:
    try:
        return f"process {int((directory / OWNER_NAME).read_text())}"
    except (OSError, ValueError):
        return "another process"
