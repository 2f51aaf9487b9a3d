"""Where the package's log goes when the command line runs it."""

from __future__ import annotations

import logging
import os
import sys


class _Lines(logging.Formatter):
    """One line a record, led by `pts:` as errors are."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        level = "warning: " if record.levelno >= logging.WARNING else ""
        return f"pts: {level}{' '.join(record.getMessage().split())}"


def log_to_stderr(verbosity: int, quiet: bool) -> None:
    """Send the log of pts to stderr: warnings, or more with each -v, or errors alone where quiet."""
    level = logging.ERROR if quiet else {0: logging.WARNING, 1: logging.INFO}.get(verbosity, logging.DEBUG)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines())
    root = logging.getLogger("pts")
    root.handlers[:] = [handler]
    root.setLevel(level)
    root.propagate = False
    if verbosity == 0:
        _silence_transformers()
        # Read when the libraries are imported, which happens inside the commands.
        os.environ.setdefault("DATASETS_VERBOSITY", "error")
        os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")


def _silence_transformers() -> None:
    """Let transformers report errors alone, unless its own variable says otherwise."""
    if "TRANSFORMERS_VERBOSITY" in os.environ:
        return
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    if "transformers" in sys.modules:  # Then it has looked already.
        from transformers.utils import logging as of_transformers

        of_transformers.set_verbosity_error()  # type: ignore[no-untyped-call]
