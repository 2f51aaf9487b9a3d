"""The append-only shard: one line a unit of work, and what a kill in the middle of a line leaves behind."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pts.errors import RunError
from pts.records import ProblemResult
from pts.runs.codec import ShapeError, from_json, to_json
from pts.runs.files import append_bytes, write_failure

T = TypeVar("T")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Context:
    """A token's surroundings as text, decoded together: tokens decoded one by one may lose their spaces.

    `before` includes the prompt with its chat template; `after` is the beginning of what followed.
    """

    before: str
    token: str
    after: str


@dataclass(frozen=True, slots=True)
class ShardLine:
    """One problem's result, with what a later command needs to trust it and to show it.

    `digest` identifies the problem's text, answer and id; `max_tokens` is the run's spending limit when the
    problem was searched; `contexts` are the candidates' surroundings, one each, in their order.
    `undecided` counts the completions graded since the line before that the grader could not decide.
    """

    digest: str
    max_tokens: int | None
    result: ProblemResult
    contexts: tuple[Context, ...] = ()
    undecided: int = 0

    def settled(self, max_tokens: int | None) -> bool:
        """Whether the problem needs no further search under the spending limit `max_tokens`.

        A problem that the limit cut short is searched again under a larger one, or under none.
        """
        if self.result.status != "spent":
            return True
        return self.max_tokens is not None and max_tokens is not None and max_tokens <= self.max_tokens


def read_shard(path: Path) -> list[ShardLine]:
    """The shard's whole lines in the order written; [] where there is no shard.

    A last line without its newline is what a kill leaves: it is left out here, and `mend_shard` removes it.
    Raises RunError, naming the line, for any other line that cannot be read.
    """
    return read_lines(path, ShardLine)


def read_lines(path: Path, kind: type[T]) -> list[T]:
    """The same for lines of another kind, each a dataclass in its JSON form."""
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")
    return [_read_line(path, number, line, kind) for number, line in enumerate(lines[:-1], start=1)]


def mend_shard(path: Path) -> None:
    """Cut a half-written last line off the shard, with a warning in the log. Raises RunError."""
    if not path.exists():
        return
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole == len(data):
        return
    logger.warning(
        "%s: dropped the last line, which was cut off after %d bytes; what it held is done again.",
        path,
        len(data) - whole,
    )
    try:
        os.truncate(path, whole)
    except OSError as error:
        raise write_failure(path, error) from error


def append_line(path: Path, line: ShardLine) -> None:
    """Append one line durably: after this returns, a crash keeps it. Raises RunError, the shard unchanged."""
    append_lines(path, [line])


def append_lines(path: Path, lines: Iterable[object]) -> None:
    """Append lines of any dataclass in one step, all or none. Raises RunError, the shard unchanged."""
    texts = (
        json.dumps(to_json(line), ensure_ascii=False, allow_nan=False, separators=(",", ":")) for line in lines
    )
    append_bytes(path, "".join(f"{text}\n" for text in texts).encode())


def latest_results(lines: Sequence[ShardLine]) -> dict[str, ShardLine]:
    """Each problem's last line, by problem id, in the order in which the problems first appeared."""
    return {line.result.problem_id: line for line in lines}


def _read_line(path: Path, number: int, line: bytes, kind: type[T]) -> T:
    try:
        return from_json(kind, json.loads(line))
    except (ValueError, ShapeError) as error:
        raise RunError(
            f"{path} line {number} cannot be read ({error}). "
            "Restore the file from a copy, or start anew with --fresh or another --output."
        ) from error
