"""Ctrl-C and SIGTERM: the first stops the work at once, a second changes nothing. Imports next to nothing."""

from __future__ import annotations

import signal
import sys
import time
from types import FrameType
from typing import Any

_GRACE = 3.0
"""Seconds after a signal in which further ones are ignored, while the first unwinds."""


class Stopped(BaseException):
    """The user's wish to stop. No Exception, so that nothing that handles errors takes it for one."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.signal_number = signal_number
        self.note = "nothing had been written yet."


class _State:
    """The signal received last, and when."""

    received: int | None = None
    at: float = 0.0


def stop_on_signals() -> None:
    """From now on SIGINT and SIGTERM raise Stopped in the main thread."""
    sys.unraisablehook = _unraisable
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _on_signal)


def stop_if_asked() -> None:
    """Raise Stopped where a signal came but its exception was swallowed on the way.

    Python drops what a signal handler raises inside a finaliser; long work calls this now and then.
    """
    if _State.received is not None:
        raise Stopped(_State.received)


def quiet_from_now_on() -> None:
    """Ignore both signals: what is left is to say goodbye."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _on_signal(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature is signal's
    now = time.monotonic()
    if _State.received is not None and now - _State.at < _GRACE:
        return
    _State.received, _State.at = number, now
    raise Stopped(number)


def _unraisable(unraisable: Any) -> None:
    if not isinstance(unraisable.exc_value, Stopped):
        sys.__unraisablehook__(unraisable)
