"""Answers as they are written: one after another, or two side by side."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.columns import Columns
from rich.console import Console
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

from pts.cli.interrupts import stop_if_asked
from pts.decoding.answers import Answer
from pts.decoding.session import Listener
from pts.records import TokenIds

Decode = Callable[[TokenIds], str]


@contextmanager
def streamed(decode: Decode) -> Iterator[Listener]:
    """A listener that writes one completion to stdout as it grows."""
    ids: list[int] = []
    shown = ""

    def listen(_question: int, token: int) -> None:
        nonlocal shown
        stop_if_asked()
        ids.append(token)
        text = decode(tuple(ids))
        # A character of several tokens is a replacement mark until its last one is there.
        if text.startswith(shown) and not text.endswith("�"):
            sys.stdout.write(text[len(shown) :])
            sys.stdout.flush()
            shown = text

    yield listen
    sys.stdout.write("\n")


@contextmanager
def side_by_side(decode: Decode, titles: Sequence[str]) -> Iterator[Listener]:
    """A listener that shows completions beside each other as they grow, in a terminal."""
    console = Console()
    written: list[list[int]] = [[] for _ in titles]

    def panels() -> Columns:
        width = console.width // len(titles) - 1
        return Columns(
            [
                Panel(Text(decode(tuple(ids)) if ids else ""), title=title, width=width)
                for title, ids in zip(titles, written, strict=True)
            ]
        )

    with Live(panels(), console=console, refresh_per_second=10) as live:

        def listen(question: int, token: int) -> None:
            stop_if_asked()
            written[question].append(token)
            live.update(panels())

        yield listen


def ledger_line(answer: Answer) -> str:
    """What an answer took, in one line."""
    ledger = answer.ledger
    parts = [f"{ledger.thinking} thinking + {ledger.answer} answer tokens"]
    if ledger.injected:
        parts.append(f"{ledger.injected} of them put in")
    for name in ("probe", "rejected", "scorer", "router", "second_model"):
        spent = getattr(ledger, name)
        if spent:
            parts.append(f"{spent} {name.replace('_', ' ')}")
    parts += [f"{ledger.prompt} prompt", ledger.finish, f"{ledger.seconds:.1f} s"]
    if answer.route is not None:
        parts.insert(0, f"route {answer.route}")
    return f"{answer.strategy}: {', '.join(parts)}"
