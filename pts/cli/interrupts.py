"""Ctrl-C and SIGTERM: the first stops the work, after an import that is under way; a second changes nothing.

Imports next to nothing.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from types import FrameType
from typing import Any

_GRACE = 3.0
"""Seconds after a signal in which further ones are ignored, while the first unwinds."""
_AGAIN = 0.05
"""Seconds between two tries of a signal that could not stop the work yet."""


class Stopped(BaseException):
    """The user's wish to stop. No Exception, so that nothing that handles errors takes it for one."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.signal_number = signal_number
        self.note = "nothing had been written yet."


class _State:
    """The signal received last, and when; `waiting` while one is sent again until it is."""

    received: int | None = None
    at: float = 0.0
    waiting: bool = False


def stop_on_signals() -> None:
    """From now on SIGINT and SIGTERM raise Stopped in the main thread, once what it imports is imported."""
    sys.unraisablehook = _unraisable
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _on_signal)


def stop_if_requested() -> None:
    """Raise Stopped where a signal came but its exception was swallowed on the way.

    Python drops what a signal handler raises inside a finaliser; long work calls this now and then.
    """
    received = _State.received
    if received is not None:
        _State.waiting = False
        raise Stopped(received)


def quiet_from_now_on() -> None:
    """Ignore both signals: what is left is to say goodbye."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _on_signal(number: int, frame: FrameType | None) -> None:
    now = time.monotonic()
    if _State.received is not None and now - _State.at < _GRACE:
        return
    if _importing(frame):
        _ask_again(number)
        return
    _State.received, _State.at, _State.waiting = number, now, False
    raise Stopped(number)


def _importing(frame: FrameType | None) -> bool:
    """Whether an import is under way: an exception in the midst of a compiled module's may end the process."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _ask_again(number: int) -> None:
    if not _State.waiting:
        _State.waiting = True
        threading.Thread(target=_try_again, args=(number,), daemon=True).start()


def _try_again(number: int) -> None:
    """Send the main thread `number` until it has raised Stopped.

    To that thread: a sleep or a read of its is broken off by a signal of its own alone. And more than once:
    a signal between the interpreter's last look and the start of a sleep does not break the sleep off.
    """
    main = threading.main_thread().ident
    while main is not None:
        time.sleep(_AGAIN)
        if not _State.waiting:
            return
        _State.received = None
        if hasattr(signal, "pthread_kill"):
            signal.pthread_kill(main, number)
        else:  # Windows, where the main thread handles every signal
            signal.raise_signal(number)


def _unraisable(unraisable: Any) -> None:
    """What a finaliser raised, and Python drops: a wish to stop is asked for again."""
    if isinstance(unraisable.exc_value, Stopped):
        _ask_again(unraisable.exc_value.signal_number)
    else:
        sys.__unraisablehook__(unraisable)
