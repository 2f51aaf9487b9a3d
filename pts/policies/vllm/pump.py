"""The one loop that steps vLLM's engine: requests may be added at any time, and each finds its own results."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pts.records import TokenIds

P = TypeVar("P")


@dataclass(slots=True)
class Call(Generic[P]):
    """One request under way: `payload` is the asker's, `tokens` what was written so far.

    `stops` is asked of the tokens whenever there are more: where it names a length, the completion ends there.
    `output` is vLLM's last word on the request, None where `stops` ended it.
    """

    payload: P
    tokens: list[int] = field(default_factory=list)
    stops: Callable[[list[int], int], int | None] | None = None
    output: Any = None
    stopped: bool = False


class Line(Generic[P]):
    """One asker's calls: those under way, and those that are done and not yet taken."""

    def __init__(self, pump: Pump) -> None:
        self._pump = pump
        self._open: dict[str, Call[P]] = {}
        self._done: deque[Call[P]] = deque()

    def add(self, call: Call[P], ids: TokenIds, params: Any, salt: str | None = None) -> None:
        """Have `call` completed from these ids; what it reads is shared only with requests of the same salt."""
        self._open[self._pump.add(self, ids, params, salt)] = call

    def __len__(self) -> int:
        return len(self._open)

    def calls(self) -> list[Call[P]]:
        """The calls under way."""
        return list(self._open.values())

    def next_done(self) -> Call[P] | None:
        """The next call that is done, after as many steps as that takes; None where none is under way."""
        while not self._done and self._open:
            self._pump.step()
        return self._done.popleft() if self._done else None

    def hear(self, name: str, output: Any) -> None:
        """Take what the engine says of one of the calls."""
        call, made = self._open[name], output.outputs[0]
        before = len(call.tokens)
        call.tokens += made.token_ids
        call.output = output
        end = None if call.stops is None else call.stops(call.tokens, before)
        if end is not None:
            del call.tokens[end:]
            call.stopped = True
        if end is not None or output.finished:
            self._done.append(self._open.pop(name))
            self._pump.forget(name)
            if not output.finished:
                self._pump.abort([name])

    def close(self) -> None:
        """Abort what is under way."""
        names = list(self._open)
        self._open.clear()
        for name in names:
            self._pump.forget(name)
        self._pump.abort(names)


class Pump:
    """Owns the engine's steps. A result goes to the line that asked, whoever makes the step."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._lines: dict[str, Line[Any]] = {}
        self._made = 0

    def add(self, line: Line[Any], ids: TokenIds, params: Any, salt: str | None = None) -> str:
        """Add a request of a line to the engine; the name by which its results come."""
        name = str(self._made)
        self._made += 1
        self._lines[name] = line
        salted = {} if salt is None else {"cache_salt": salt}
        self._engine.add_request(name, {"prompt_token_ids": list(ids), **salted}, params)
        return name

    def step(self) -> None:
        """One step of the engine; every line hears of its own results."""
        for output in self._engine.step():
            line = self._lines.get(output.request_id)
            if line is not None:
                line.hear(output.request_id, output)

    def forget(self, name: str) -> None:
        """Hear no more of a request."""
        del self._lines[name]

    def abort(self, names: Iterable[str]) -> None:
        """Stop requests."""
        listed = list(names)
        if listed:
            self._engine.abort_request(listed)
