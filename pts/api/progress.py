"""Whether the front door shows progress, and how."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from typing import Any

from pts.cli.progress import evaluation_progress, phase_progress, search_progress


def search_shown(inputs: Any, progress: bool | None) -> AbstractContextManager[Any]:
    """What a search is given as `observe`."""
    return search_progress(inputs, not _wanted(progress))


def phases_shown(progress: bool | None) -> AbstractContextManager[Any]:
    """The same for an extraction."""
    return phase_progress(not _wanted(progress))


def evaluation_shown(progress: bool | None) -> AbstractContextManager[Any]:
    """The same for an evaluation."""
    return evaluation_progress(not _wanted(progress))


def _wanted(progress: bool | None) -> bool:
    return sys.stderr.isatty() if progress is None else progress
