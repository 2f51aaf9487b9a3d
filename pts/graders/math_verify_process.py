"""Math-Verify behind a time limit that holds in any thread, and on any expression."""

from __future__ import annotations

import atexit
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from pts.errors import GraderError

logger = logging.getLogger(__name__)

TIME_LIMIT = 5.0
"""Seconds for one comparison. Ordinary ones take milliseconds."""

PATIENCE, SHORT_LIMIT = 20, 2.0
"""After so many comparisons that were not decided, each gets this many seconds: they must not hold up a run."""

_SCRIPT = Path(__file__).with_name("math_verify_child.py")


class MathVerifyProcess:
    """One process that compares expressions, started at the first question, started again after a death.

    Safe to share between threads (one question at a time) and after a fork (the child starts its own).
    """

    def __init__(self, time_limit: float = TIME_LIMIT) -> None:
        self._time_limit = time_limit
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._undecided = 0
        self._owner = os.getpid()
        atexit.register(self.close)

    def reads(self, gold: str) -> bool:
        """Whether Math-Verify reads an expression in `gold`, within the time limit."""
        return bool(self._ask(gold, None))

    def agrees(self, gold: str, targets: Sequence[str]) -> bool | None:
        """Whether the first of `targets` that reads as an expression equals `gold`.

        None where that could not be decided: it took too long, or the process died of it.
        """
        verdict = self._ask(gold, list(targets))
        if verdict is None:
            self._undecided += 1
        return verdict

    def close(self) -> None:
        """Ends the process, at once."""
        process, self._process = self._process, None
        if process is None or self._owner != os.getpid():
            return
        process.kill()
        process.communicate()

    def _ask(self, gold: str, targets: list[str] | None) -> bool | None:
        seconds = self._time_limit if self._undecided < PATIENCE else min(self._time_limit, SHORT_LIMIT)
        request = json.dumps({"gold": gold, "targets": targets, "seconds": seconds})
        if self._owner != os.getpid():  # forked: the pipes, and maybe a held lock, are the parent's
            self._lock, self._process, self._owner = threading.Lock(), None, os.getpid()
        with self._lock:
            try:
                reply = self._exchange(request)
            except BaseException:
                self.close()  # a reply still on its way would answer the next question
                raise
            if not reply:
                self.close()
                return None
            return bool(json.loads(reply))

    def _exchange(self, request: str) -> str:
        """One request and its reply; "" where the process died of it."""
        if self._process is not None and self._process.poll() is not None:
            self.close()
        if self._process is None:
            self._process = _start()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(request + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline()


@cache
def _warn_unlimited() -> None:
    """Say, once a process, that nothing bounds the memory of a comparison."""
    logger.warning(
        "this system cannot limit the memory of a process: an expression such as 10^10^10 may "
        "take much of it until its time is over."
    )


def _start() -> subprocess.Popen[str]:
    """A running process, Math-Verify imported. Raises GraderError where that fails."""
    # -P: the script's own folder must not shadow other modules; the caller's paths find math_verify.
    process = subprocess.Popen(
        [sys.executable, "-P", str(_SCRIPT)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="ascii",
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        start_new_session=True,  # Ctrl-C is for the run, which may still want a last grade
    )
    assert process.stdout is not None
    assert process.stderr is not None
    ready = process.stdout.readline()
    if ready:
        if not json.loads(ready)["limited"]:
            _warn_unlimited()
        return process
    _, complaint = process.communicate()
    reason = complaint.strip().splitlines()[-1] if complaint.strip() else f"exit code {process.returncode}"
    raise GraderError(f"Math-Verify did not start ({reason}); install it with: pip install math-verify.")
