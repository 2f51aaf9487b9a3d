"""A run directory: who may write it, what in it is ours, and when a command may continue it."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pts.data_files import text_fault
from pts.errors import RunError
from pts.runs.files import TEMPORARY_SUFFIX, make_directories, write_failure
from pts.runs.lock import LOCK_NAME, OWNER_NAME, sole_writer
from pts.runs.manifest import MANIFEST_NAME, Manifest, differences, read_manifest, write_manifest
from pts.setting_names import setting

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunKind:
    """A kind of run: its name in the manifest, its append-only shard, and the files derived from that.

    `others` are files and folders beside them that a run may have.
    """

    name: str
    shard: str
    derived: tuple[str, ...]
    others: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[str, ...]:
        """Every file of a run but its lock, the manifest last."""
        return (self.shard, *self.derived, MANIFEST_NAME)


class RunDirectory:
    """A run directory that this process holds the lock of; made by `open_run` alone."""

    def __init__(self, path: Path, kind: RunKind, manifest: Manifest | None) -> None:
        self.path = path
        self.kind = kind
        self._manifest = manifest

    @property
    def manifest(self) -> Manifest | None:
        """The manifest of the run that is here, or None where there is none yet."""
        return self._manifest

    @property
    def shard(self) -> Path:
        """Where the append-only lines are."""
        return self.path / self.kind.shard

    def write_manifest(self, manifest: Manifest) -> None:
        """Replace the manifest in one step. Raises RunError where the system refuses."""
        write_manifest(self.path, manifest)
        self._manifest = manifest

    def require_same_resolved(self, old: Mapping[str, object], new: Mapping[str, object]) -> None:
        """Raise RunError where what was recorded of model and data is other now, as `require_same` does.

        What only one of two versions records is unknown, and no difference.
        """
        both = old.keys() & new.keys()
        self.require_same(
            "model or data", *({k: v for k, v in each.items() if k in both} for each in (old, new))
        )

    def require_same(self, part: str, old: Mapping[str, object], new: Mapping[str, object]) -> None:
        """Raise RunError, naming each key that differs with both values, unless the two are equal."""
        changed = differences(old, new)
        if changed:
            raise RunError(
                f"{self.path} holds a run with another {part}: {'; '.join(changed)}. "
                f"Give another {setting('output')}, or {setting('fresh', True)} to delete that run and "
                "start again."
            )

    def clear(self) -> None:
        """Delete the run that is here: its own files and nothing else. Raises RunError."""
        # The manifest goes last, so that a kill in between leaves a run that can be cleared again.
        for name in (*self.kind.others, *self.kind.files):
            try:
                if (self.path / name).is_dir():
                    shutil.rmtree(self.path / name)
                else:
                    (self.path / name).unlink(missing_ok=True)
            except OSError as error:
                raise write_failure(self.path / name, error) from error
        self._manifest = None


@contextmanager
def open_run(path: Path, kind: RunKind, named: str = "output") -> Iterator[RunDirectory]:
    """Lock the directory for a run of `kind`, making it where it is not there.

    `named` is the setting that gives the directory. Nothing is left behind if no manifest was written by the
    end. Raises RunError where another process holds the lock, where the directory holds anything but a run of
    this kind, or where it cannot be made.
    """
    _require_kind(path, kind, named)
    made = _make_directories(path, named)
    try:
        with sole_writer(path):
            directory = RunDirectory(path, kind, _require_kind(path, kind, named))
            try:
                yield directory
            finally:
                _remove_leftovers(path, kind)
    finally:
        if not (path / MANIFEST_NAME).exists():
            for folder in reversed(made):
                with suppress(OSError):
                    folder.rmdir()


def find_run(path: Path) -> Manifest:
    """The manifest of the run at `path`, for a reader: no lock is taken. Raises RunError if there is none."""
    _require_utf8(path)
    manifest = read_manifest(path)
    if manifest is None:
        what = "is not a run: it has no manifest.json" if path.exists() else "does not exist"
        raise RunError(f"{path} {what}. Give the directory that `pts search --output` wrote.")
    return manifest


def _require_utf8(path: Path) -> None:
    """Raise RunError for a name that some of the libraries which read and write a run's files do not take."""
    fault = text_fault(str(path))
    if fault is not None:
        shown = os.fsencode(path).decode(errors="backslashreplace")
        raise RunError(f"the directory name {shown} {fault}: give it another name.")


def _require_kind(path: Path, kind: RunKind, named: str) -> Manifest | None:
    _require_utf8(path)
    if path.exists() and not path.is_dir():
        raise RunError(f"{path} is a file; {setting(named)} must be a directory, new or of an earlier run.")
    manifest = read_manifest(path)
    if manifest is None:
        _require_empty(path, kind, named)
    elif manifest.kind != kind.name:
        raise RunError(
            f"{path} holds another kind of run ({manifest.kind}, not {kind.name}); give another "
            f"{setting(named)}."
        )
    return manifest


def _require_empty(path: Path, kind: RunKind, named: str) -> None:
    if not path.exists():
        return
    ours = {LOCK_NAME, OWNER_NAME, *(name + TEMPORARY_SUFFIX for name in kind.files)}
    others = sorted(entry.name for entry in path.iterdir() if entry.name not in ours)
    if others:
        raise RunError(
            f"{path} holds files that are not a run ({', '.join(others[:3])}); give another {setting(named)}."
        )


def _make_directories(path: Path, named: str) -> list[Path]:
    try:
        return make_directories(path)
    except OSError as error:
        where = error.filename or path
        raise RunError(
            f"{where} could not be created: {error.strerror}; give another {setting(named)}."
        ) from error


def _remove_leftovers(path: Path, kind: RunKind) -> None:
    for name in kind.files:
        (path / (name + TEMPORARY_SUFFIX)).unlink(missing_ok=True)
    if not (path / MANIFEST_NAME).exists():
        (path / OWNER_NAME).unlink(missing_ok=True)
        (path / LOCK_NAME).unlink(missing_ok=True)
