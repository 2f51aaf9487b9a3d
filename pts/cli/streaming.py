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

from pts.cli.interrupts import stop_if_requested
from pts.decoding.answers import Answer
from pts.decoding.session import Listener
from pts.records import TokenIds

Decode = Callable[[TokenIds], str]


@contextmanager
def streamed(decode: Decode, stop: Sequence[str] = ()) -> Iterator[Listener]:
    """A listener that writes one completion to stdout as it grows.

    What may be the beginning of a stop text waits until it is known whether it is.
    """
    ids: list[int] = []
    shown = ""

    def write(text: str) -> None:
        nonlocal shown
        # A character of several tokens is a replacement mark until its last one is there.
        if text.startswith(shown) and not text.endswith("�"):
            sys.stdout.write(text[len(shown) :])
            sys.stdout.flush()
            shown = text

    def listen(_question: int, token: int) -> None:
        stop_if_requested()
        ids.append(token)
        write(_settled(decode(tuple(ids)), stop))

    yield listen
    write(decode(tuple(ids)))
    sys.stdout.write("\n")


def _settled(text: str, stop: Sequence[str]) -> str:
    """A text without an end that may be the beginning of a stop text."""
    begun = (size for one in stop for size in range(1, len(one)) if text.endswith(one[:size]))
    return text[: len(text) - max(begun, default=0)]


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
            stop_if_requested()
            written[question].append(token)
            live.update(panels())

        yield listen


def ledger_line(answer: Answer) -> str:
    """What an answer took, in one line."""
    usage = answer.usage
    parts = [f"{usage.thinking} thinking + {usage.answer} answer tokens"]
    if usage.injected:
        parts.append(f"{usage.injected} of them put in")
    for name in ("probe", "rejected", "scorer", "router", "second_model"):
        spent = getattr(usage, name)
        if spent:
            parts.append(f"{spent} {name.replace('_', ' ')}")
    parts += [f"{usage.prompt} prompt", usage.finish, f"{usage.seconds:.1f} s"]
    if answer.route is not None:
        parts.insert(0, f"route {answer.route}")
    return f"{answer.strategy}: {', '.join(parts)}"
