"""Progress on stderr: a live line in a terminal, a plain line every ten seconds elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.text import Text

from pts.cli.interrupts import stop_if_requested
from pts.cli.progress_lines import Account, AnswersDone, EvaluationDone, PhasesDone, SearchDone

if TYPE_CHECKING:
    from pts.pivot_search.config import Progress
    from pts.stages.evaluate.answers import EvaluationProgress
    from pts.stages.search.inputs import SearchInputs

PLAIN_EVERY = 10.0
"""Seconds between plain lines."""


def search_progress(run: SearchInputs, quiet: bool) -> AbstractContextManager[Callable[[Progress], None]]:
    """What to hand to a search as `observe`."""
    return _shown(quiet, SearchDone(run.token_limit), "reading model and problems")


def phase_progress(quiet: bool) -> AbstractContextManager[Callable[[str, int, float], None]]:
    """What to hand to a stage that reports phases, how much more is done in each, and the share done."""
    return _shown(quiet, PhasesDone(), "reading the run")


def answer_progress(quiet: bool, total: int) -> AbstractContextManager[Callable[[int, int], None]]:
    """What to hand to a stage that reports answers and the tokens that they took."""
    return _shown(quiet, AnswersDone(total), "reading model and questions")


def evaluation_progress(quiet: bool) -> AbstractContextManager[Callable[[EvaluationProgress], None]]:
    """What to hand to an evaluation as `observe`."""
    return _shown(quiet, EvaluationDone(), "reading model and problems")


@contextmanager
def _shown(quiet: bool, account: Account, opening: str) -> Iterator[Callable[..., None]]:
    """What tells an account; a thread shows its line, however long the work takes between two calls.

    In every mode it also lets a swallowed interrupt through.
    """
    if quiet:
        yield lambda *_: stop_if_requested()
        return
    began, lock = time.monotonic(), threading.Lock()

    def observe(*told: object) -> None:
        stop_if_requested()
        with lock:
            account.hear(time.monotonic(), *told)

    def line() -> str:
        now = time.monotonic()
        with lock:
            return account.line(now) or f"{opening} ({now - began:.0f} s)"

    console = Console(stderr=True)
    if console.is_terminal:
        with Live(get_renderable=lambda: Text(line()), console=console, transient=True, refresh_per_second=4):
            yield observe
    else:
        with _plain_lines(line):
            yield observe


@contextmanager
def _plain_lines(line: Callable[[], str]) -> Iterator[None]:
    """Print the line every few seconds from a thread."""
    done = threading.Event()

    def print_until_done() -> None:
        while not done.wait(PLAIN_EVERY):
            print("pts:", line(), file=sys.stderr, flush=True)

    thread = threading.Thread(target=print_until_done, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
