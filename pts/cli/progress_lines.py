"""How far a stage is, in one line: what is done, the pace of the last minute, and what is left."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pts.pivot_search.config import Progress
    from pts.stages.evaluate.answers import EvaluationProgress

WINDOW = 60.0
"""Seconds over which a pace is measured."""
LEAST_SECONDS = 2.0
"""Seconds without which there is no pace yet."""
LEAST_PROBLEMS = 3
"""Problems that must be done before the others' cost is estimated. The cheap ones are done first."""
LEAST_SHARE = 0.01
"""Share of the work that must be done before the rest is estimated."""


class Account(Protocol):
    """What was told so far, and a line about it."""

    def hear(self, now: float, *told: Any) -> None:
        """Take in what `observe` was told at the time `now`."""

    def line(self, now: float) -> str | None:
        """How far it is; None while there is nothing to say."""


@dataclass(slots=True)
class Pace:
    """How fast an amount has grown over the last minute; if it did not grow in it, since the beginning.

    Completions of one length end together, minutes after the ones before them.
    """

    samples: deque[tuple[float, float]] = field(default_factory=deque)
    first: tuple[float, float] | None = None

    def add(self, now: float, amount: float) -> None:
        """The amount at a time. About one sample a second is kept."""
        if self.first is None:
            self.first = (now, amount)
        if len(self.samples) > 1 and now - self.samples[-2][0] < 1.0:
            self.samples.pop()
        self.samples.append((now, amount))
        while len(self.samples) > 2 and now - self.samples[1][0] >= WINDOW:
            self.samples.popleft()

    def rate(self, now: float) -> float | None:
        """Growth per second up to `now`; None where too little time has passed, or nothing grew."""
        if not self.samples or self.first is None:
            return None
        (began, before), (last, after) = self.samples[0], self.samples[-1]
        if now - last > WINDOW:
            began, before = self.first
        if now - began < LEAST_SECONDS or after <= before:
            return None
        return (after - before) / (now - began)


@dataclass(slots=True)
class SearchDone:
    """A search, whose spending limit is `max_tokens`."""

    max_tokens: int | None = None
    last: Progress | None = None
    pace: Pace = field(default_factory=Pace)

    def hear(self, now: float, progress: Progress) -> None:
        """Take in a rollout."""
        self.last = progress
        self.pace.add(now, progress.tokens_generated)

    def line(self, now: float) -> str | None:
        """Problems, tokens, pace, share done by tokens, time left, and what the oldest problem is at."""
        last = self.last
        if last is None:
            return None
        rate, expected = self.pace.rate(now), self._expected(last)
        total = "" if last.problems is None else f" of {last.problems}"
        parts = [
            f"{last.problems_done}{total} problems done, {last.in_flight} under way",
            f"{last.tokens_generated:,} tokens",
        ]
        if rate is not None:
            parts.append(f"{rate:,.0f} tokens/s")
        if expected is not None:
            parts.append(f"{min(0.99, last.tokens_generated / expected):.0%} done")
        if rate is not None and expected is not None:
            parts.append(time_left((expected - last.tokens_generated) / rate))
        parts += [f"{last.candidates_confirmed} pivots confirmed", f"{last.phase} of {last.problem_id}"]
        return ", ".join(parts)

    def _expected(self, last: Progress) -> float | None:
        """Tokens of the whole run, from what the problems so far cost; None while that says too little."""
        if last.problems is None or last.problems_done < max(1, min(LEAST_PROBLEMS, last.problems - 1)):
            return None
        done = last.tokens_generated - last.tokens_in_flight
        each = max(done / max(1, last.problems_done), last.tokens_in_flight / max(1, last.in_flight))
        to_begin = last.problems - last.problems_done - last.in_flight
        expected = last.tokens_generated + each * (max(0, to_begin) + last.in_flight / 2)
        return max(1.0, expected if self.max_tokens is None else min(expected, self.max_tokens))


@dataclass(slots=True)
class PhasesDone:
    """Phases one after another; the line is the last one's."""

    phase: str | None = None
    done: int = 0
    share: float = 0.0
    amounts: Pace = field(default_factory=Pace)
    shares: Pace = field(default_factory=Pace)

    def hear(self, now: float, phase: str, more: int, share: float) -> None:
        """Take in how much more is done of a phase, and the share of it that is done."""
        if phase != self.phase:
            self.phase, self.done, self.amounts, self.shares = phase, 0, Pace(), Pace()
            self.amounts.add(now, 0)
            self.shares.add(now, share)
        self.done, self.share = self.done + more, share
        self.amounts.add(now, self.done)
        self.shares.add(now, share)

    def line(self, now: float) -> str | None:
        """Amount, pace, share and time left of the phase."""
        if self.phase is None:
            return None
        if not self.done and not self.share:
            return f"{self.phase}: nothing has ended yet"
        unit = "pairs" if self.phase == "harvest" else "tokens"
        parts = [f"{self.done:,} {unit}"]
        rate, growth = self.amounts.rate(now), self.shares.rate(now)
        if rate is not None:
            parts.append(f"{rate:,.0f} {unit}/s")
        parts.append(f"{self.share:.0%} done")
        if growth is not None and self.share >= LEAST_SHARE:
            parts.append(time_left((1 - self.share) / growth))
        return f"{self.phase}: {', '.join(parts)}"


@dataclass(slots=True)
class AnswersDone:
    """Answers to `total` questions."""

    total: int
    answers: int = 0
    tokens: int = 0
    answer_pace: Pace = field(default_factory=Pace)
    token_pace: Pace = field(default_factory=Pace)

    def hear(self, now: float, more: int, spent: int) -> None:
        """Take in more answers and the tokens that they took."""
        self.answers += more
        self.tokens += spent
        self.answer_pace.add(now, self.answers)
        self.token_pace.add(now, self.tokens)

    def line(self, now: float) -> str | None:
        """Answers, tokens, pace and time left."""
        if not self.answers:
            return None
        parts = [f"{self.answers:,} of {self.total:,} answers, {self.tokens:,} tokens"]
        tokens, answers = self.token_pace.rate(now), self.answer_pace.rate(now)
        if tokens is not None:
            parts.append(f"{tokens:,.0f} tokens/s")
        if answers is not None:
            parts.append(time_left((self.total - self.answers) / answers))
        return ", ".join(parts)


@dataclass(slots=True)
class EvaluationDone:
    """Prompts read, then answers, whose pace does not count what was read before."""

    last: EvaluationProgress | None = None
    answers: AnswersDone | None = None

    def hear(self, now: float, progress: EvaluationProgress) -> None:
        """Take in a prompt that was read, or an answer."""
        before = self.last
        self.last = progress
        if progress.line is None:
            return
        if self.answers is None or before is None:
            self.answers = AnswersDone(progress.total)
            before = None
        tokens = progress.tokens - (0 if before is None or before.line is None else before.tokens)
        self.answers.hear(now, progress.done - self.answers.answers, tokens)

    def line(self, now: float) -> str | None:
        """Prompts read; or answers, tokens, pace, time left and the system that answers."""
        last = self.last
        if last is None:
            return None
        if last.line is None or self.answers is None:
            return f"{last.done:,} of {last.total:,} prompts read"
        return f"{self.answers.line(now)}, {last.line}"


def time_left(seconds: float) -> str:
    """How long the rest takes, in words."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"about {max(1, seconds):.0f} s left"
    if minutes < 120:
        return f"about {minutes} min left"
    return (
        f"about {minutes / 60:.0f} h left" if minutes < 48 * 60 else f"about {minutes / 60 / 24:.0f} days left"
    )
