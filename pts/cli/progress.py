"""Progress on stderr: a live line in a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.text import Text

from pts.cli.interrupts import stop_if_asked
from pts.search.config import Progress
from pts.stages.search_inputs import SearchRun

if TYPE_CHECKING:
    from pts.stages.evaluate import EvaluationProgress

PLAIN_EVERY = 10.0
"""Seconds between plain lines."""


@contextmanager
def search_progress(run: SearchRun, quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """What to hand to a search as `observe`; in every mode it also lets a swallowed interrupt through."""
    if quiet:
        yield lambda _: stop_if_asked()
        return
    pace = _Pace(run.problems)
    console = Console(stderr=True)
    if console.is_terminal:
        with Live(Text("reading model and problems"), console=console, transient=True) as live:
            yield lambda progress: _observe(pace, progress, lambda line: live.update(Text(line)), 0.0)
        return
    yield lambda progress: _observe(
        pace, progress, lambda line: print("pts:", line, file=sys.stderr), PLAIN_EVERY
    )


@contextmanager
def phase_progress(quiet: bool) -> Iterator[Callable[[str, int, float], None]]:
    """What to hand to a stage that reports phases, how much more is done in each, and the share done."""
    console = Console(stderr=True)
    shown = time.monotonic()
    paces: dict[str, _PhasePace] = {}

    def observe(told: tuple[str, int, float], show: Callable[[str], None], every: float) -> None:
        nonlocal shown
        phase, more, share = told
        stop_if_asked()
        now = time.monotonic()
        pace = paces.setdefault(phase, _PhasePace("pairs" if phase == "harvest" else "tokens", now, share))
        pace.done += more
        if now - shown >= every:
            shown = now
            show(f"{phase}: {pace.said(share, now)}")

    if quiet:
        yield lambda _phase, _more, _share: stop_if_asked()
    elif console.is_terminal:
        with Live(Text("reading the run"), console=console, transient=True) as live:
            yield lambda *told: observe(told, lambda text: live.update(Text(text)), 0.2)
    else:
        yield lambda *told: observe(told, lambda text: print("pts:", text, file=sys.stderr), PLAIN_EVERY)


@dataclass(slots=True)
class _PhasePace:
    """When a phase was first heard of, the share that was done by then, and what was done since."""

    unit: str
    began: float
    first: float
    done: int = 0

    def said(self, share: float, now: float) -> str:
        """How much is done, how fast, and about how long the rest takes at the pace so far."""
        seconds = now - self.began
        parts = [f"{self.done:,} {self.unit}"]
        if seconds > 0.5:
            parts.append(f"{self.done / seconds:,.0f} {self.unit}/s")
        parts.append(f"{share:.0%} done")
        if seconds > 0.5 and share > self.first:
            parts.append(f"about {_duration(seconds / (share - self.first) * (1 - share))} left")
        return ", ".join(parts)


@contextmanager
def answer_progress(quiet: bool, total: int) -> Iterator[Callable[[int, int], None]]:
    """What to hand to a stage that reports answers and the tokens that they took."""
    console = Console(stderr=True)
    began = shown = time.monotonic()
    answers = tokens = 0

    def line() -> str:
        seconds = max(1e-9, time.monotonic() - began)
        left = f", about {_duration(seconds / answers * (total - answers))} left" if answers else ""
        return f"{answers:,} of {total:,} answers, {tokens:,} tokens, {tokens / seconds:,.0f} tokens/s{left}"

    def observe(more: int, spent: int, show: Callable[[str], None], every: float) -> None:
        nonlocal answers, tokens, shown
        stop_if_asked()
        answers, tokens = answers + more, tokens + spent
        if time.monotonic() - shown >= every:
            shown = time.monotonic()
            show(line())

    if quiet:
        yield lambda _answers, _tokens: stop_if_asked()
    elif console.is_terminal:
        with Live(Text("reading model and questions"), console=console, transient=True) as live:
            yield lambda more, spent: observe(more, spent, lambda text: live.update(Text(text)), 0.2)
    else:
        yield lambda more, spent: observe(
            more, spent, lambda text: print("pts:", text, file=sys.stderr), PLAIN_EVERY
        )


@contextmanager
def evaluation_progress(quiet: bool) -> Iterator[Callable[[EvaluationProgress], None]]:
    """What to hand to an evaluation as `observe`."""
    if quiet:
        yield lambda _: stop_if_asked()
        return
    shown = time.monotonic()
    first: tuple[float, EvaluationProgress] | None = None

    def observe(progress: EvaluationProgress, show: Callable[[str], None], every: float) -> None:
        nonlocal shown, first
        stop_if_asked()
        now = time.monotonic()
        first = first or (now, progress)
        if now - shown >= every and progress.done > first[1].done:
            shown = now
            show(_evaluation_line(progress, first[1], now - first[0]))

    console = Console(stderr=True)
    if console.is_terminal:
        with Live(Text("reading model and problems"), console=console, transient=True) as live:
            yield lambda progress: observe(progress, lambda line: live.update(Text(line)), 0.2)
    else:
        yield lambda progress: observe(progress, lambda line: print("pts:", line, file=sys.stderr), PLAIN_EVERY)


def _evaluation_line(progress: EvaluationProgress, first: EvaluationProgress, seconds: float) -> str:
    """How far it is, with the pace since the first answer: what was read before it took no part."""
    left = seconds / (progress.done - first.done) * (progress.total - progress.done)
    return (
        f"{progress.done:,} of {progress.total:,} answers, {progress.tokens:,} tokens, "
        f"{(progress.tokens - first.tokens) / seconds:,.0f} tokens/s, {progress.line}, about "
        f"{_duration(left)} left"
    )


class _Pace:
    """When the first round was over, and when a line was last shown."""

    def __init__(self, total: int | None) -> None:
        self.total = total
        self.first: tuple[float, Progress] | None = None
        self.shown = time.monotonic()


def _observe(pace: _Pace, progress: Progress, show: Callable[[str], None], every: float) -> None:
    stop_if_asked()
    now = time.monotonic()
    if pace.first is None:
        pace.first = (now, progress)
    if now - pace.shown >= every:
        pace.shown = now
        show(_line(pace, progress, now))


def _line(pace: _Pace, progress: Progress, now: float) -> str:
    assert pace.first is not None
    began, first = pace.first
    tokens = progress.tokens_generated - first.tokens_generated
    problems = progress.problems_done - first.problems_done
    seconds = now - began
    parts = [
        f"{progress.problems_done}{f' of {pace.total}' if pace.total else ''} problems",
        f"{progress.tokens_generated:,} tokens",
        f"{tokens / seconds:,.0f} tokens/s" if seconds > 0 else "starting",
        f"{progress.candidates_confirmed} pivots confirmed",
        f"{progress.phase} of {progress.problem_id}",
    ]
    if pace.total and problems:
        left = seconds / problems * max(0, pace.total - progress.problems_done)
        parts.append(f"about {_duration(left)} left")
    return ", ".join(parts)


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"
