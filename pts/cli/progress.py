"""Progress on stderr: a live line in a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from rich.console import Console
from rich.live import Live
from rich.text import Text

from pts.cli.interrupts import stop_if_requested

if TYPE_CHECKING:
    from pts.pivot_search.config import Progress
    from pts.stages.evaluate.answers import EvaluationProgress
    from pts.stages.search.inputs import SearchInputs

PLAIN_EVERY = 10.0
"""Seconds between plain lines."""
LIVE_EVERY = 0.2
"""Seconds between changes of the live line."""


def search_progress(run: SearchInputs, quiet: bool) -> AbstractContextManager[Callable[[Progress], None]]:
    """What to hand to a search as `observe`."""
    return _shown(quiet, _Search(run.problems), "reading model and problems")


def phase_progress(quiet: bool) -> AbstractContextManager[Callable[[str, int, float], None]]:
    """What to hand to a stage that reports phases, how much more is done in each, and the share done."""
    return _shown(quiet, _Phases(), "reading the run")


def answer_progress(quiet: bool, total: int) -> AbstractContextManager[Callable[[int, int], None]]:
    """What to hand to a stage that reports answers and the tokens that they took."""
    return _shown(quiet, _Answers(total, time.monotonic()), "reading model and questions")


def evaluation_progress(quiet: bool) -> AbstractContextManager[Callable[[EvaluationProgress], None]]:
    """What to hand to an evaluation as `observe`."""
    return _shown(quiet, _Evaluation(), "reading model and problems")


class _Account(Protocol):
    """What was told so far, and a line about it."""

    def hear(self, now: float, *told: Any) -> None:
        """Take in what `observe` was told at the time `now`."""

    def line(self, now: float) -> str | None:
        """How far it is; None while there is nothing to say."""


@contextmanager
def _shown(quiet: bool, account: _Account, opening: str) -> Iterator[Callable[..., None]]:
    """What tells an account and shows its line; in every mode it also lets a swallowed interrupt through."""
    if quiet:
        yield lambda *_: stop_if_requested()
        return
    shown = time.monotonic()

    def observe(show: Callable[[str], None], every: float, *told: Any) -> None:
        nonlocal shown
        stop_if_requested()
        now = time.monotonic()
        account.hear(now, *told)
        if now - shown >= every and (line := account.line(now)) is not None:
            shown = now
            show(line)

    console = Console(stderr=True)
    if console.is_terminal:
        with Live(Text(opening), console=console, transient=True) as live:
            yield lambda *told: observe(lambda line: live.update(Text(line)), LIVE_EVERY, *told)
    else:
        yield lambda *told: observe(lambda line: print("pts:", line, file=sys.stderr), PLAIN_EVERY, *told)


@dataclass(slots=True)
class _Search:
    """A search of `total` problems; the pace is counted from the first round on."""

    total: int | None
    began: float = 0.0
    first: Progress | None = None
    last: Progress | None = None

    def hear(self, now: float, progress: Progress) -> None:
        if self.first is None:
            self.began, self.first = now, progress
        self.last = progress

    def line(self, now: float) -> str | None:
        first, last = self.first, self.last
        if first is None or last is None:
            return None
        seconds = now - self.began
        tokens = last.tokens_generated - first.tokens_generated
        problems = last.problems_done - first.problems_done
        parts = [
            f"{last.problems_done}{f' of {self.total}' if self.total else ''} problems",
            f"{last.tokens_generated:,} tokens",
            f"{tokens / seconds:,.0f} tokens/s" if seconds > 0 else "starting",
            f"{last.candidates_confirmed} pivots confirmed",
            f"{last.phase} of {last.problem_id}",
        ]
        if self.total and problems:
            parts.append(_left(seconds, problems, max(0, self.total - last.problems_done)))
        return ", ".join(parts)


@dataclass(slots=True)
class _Pace:
    """When a phase was first heard of, the share that was done by then, and what was done since."""

    began: float
    first: float
    share: float = 0.0
    done: int = 0


@dataclass(slots=True)
class _Phases:
    """Phases one after another, each with its own pace; the line is the last one's."""

    paces: dict[str, _Pace] = field(default_factory=dict)
    phase: str | None = None

    def hear(self, now: float, phase: str, more: int, share: float) -> None:
        pace = self.paces.setdefault(phase, _Pace(now, share))
        self.phase, pace.share = phase, share
        pace.done += more

    def line(self, now: float) -> str | None:
        if self.phase is None:
            return None
        pace, unit = self.paces[self.phase], "pairs" if self.phase == "harvest" else "tokens"
        seconds = now - pace.began
        parts = [f"{pace.done:,} {unit}"]
        if seconds > 0.5:
            parts.append(f"{pace.done / seconds:,.0f} {unit}/s")
        parts.append(f"{pace.share:.0%} done")
        if seconds > 0.5 and pace.share > pace.first:
            parts.append(_left(seconds, pace.share - pace.first, 1 - pace.share))
        return f"{self.phase}: {', '.join(parts)}"


@dataclass(slots=True)
class _Answers:
    """Answers to `total` questions."""

    total: int
    began: float
    answers: int = 0
    tokens: int = 0

    def hear(self, _now: float, more: int, spent: int) -> None:
        self.answers += more
        self.tokens += spent

    def line(self, now: float) -> str:
        seconds = max(1e-9, now - self.began)
        left = f", {_left(seconds, self.answers, self.total - self.answers)}" if self.answers else ""
        return (
            f"{self.answers:,} of {self.total:,} answers, {self.tokens:,} tokens, "
            f"{self.tokens / seconds:,.0f} tokens/s{left}"
        )


@dataclass(slots=True)
class _Evaluation:
    """Prompts read, then answers; the pace is counted from the first answer, without what was read before."""

    began: float = 0.0
    first: EvaluationProgress | None = None
    last: EvaluationProgress | None = None

    def hear(self, now: float, progress: EvaluationProgress) -> None:
        if self.first is None or self.first.line is None:
            self.began, self.first = now, progress
        self.last = progress

    def line(self, now: float) -> str | None:
        first, last, seconds = self.first, self.last, now - self.began
        if first is None or last is None:
            return None
        if last.line is None:
            return f"{last.done:,} of {last.total:,} prompts read"
        done = last.done - first.done
        if not done:
            return None
        return (
            f"{last.done:,} of {last.total:,} answers, {last.tokens:,} tokens, "
            f"{(last.tokens - first.tokens) / seconds:,.0f} tokens/s, {last.line}, "
            f"{_left(seconds, done, last.total - last.done)}"
        )


def _left(seconds: float, done: float, left: float) -> str:
    """How long the rest takes at the pace so far."""
    remaining = seconds / done * left
    minutes = round(remaining / 60)
    if minutes < 1:
        return f"about {remaining:.0f} s left"
    return f"about {minutes} min left" if minutes < 120 else f"about {minutes / 60:.1f} h left"
