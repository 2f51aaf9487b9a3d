"""Values and calls between two processes that do not trust each other.

Plain values travel as copies. Everything else stays where it is and is called from the other side through a
`Remote`. The judge of a program's tests must not be fooled by what the program returns, so a `Remote` equals no
plain value, does no arithmetic, and a subclass of a plain type arrives as the plain type.
"""

from __future__ import annotations

import builtins
import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any, BinaryIO

LONGEST_MESSAGE = 16 * 1024**2
"""Bytes of a message; a longer one ends the exchange."""
_SAFE_INTEGER = 2**53
_ITEMS_AT_ONCE = 256

TESTS = "tests"
"""The module name of the classes that the tests define: the program may use the attributes of their objects."""
_OPEN = frozenset({"call", "iterate", "items", "next", "length", "truth"})
_OPEN_IN_TESTS = frozenset({"attribute", "set attribute", "item", "set item", "text", "equal", "less"})


class WireError(Exception):
    """The other side is gone, or sent what cannot be read."""


class ProgramError(Exception):
    """An exception of the program that is no built-in one."""


class Remote:
    """An object of the other process. Calls, attributes, items, iteration, length and truth are asked there."""

    __slots__ = ("_number", "_peer")

    def __init__(self, peer: Peer, number: int) -> None:
        object.__setattr__(self, "_peer", peer)
        object.__setattr__(self, "_number", number)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """What the object returns."""
        return self._peer.ask("call", self, *arguments, named=named)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._peer.ask("attribute", self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._peer.ask("set attribute", self, name, value)

    def __getitem__(self, key: Any) -> Any:
        return self._peer.ask("item", self, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._peer.ask("set item", self, key, value)

    def __contains__(self, item: Any) -> bool:
        return any(found == item for found in self)

    def __len__(self) -> int:
        return int(self._peer.ask("length", self))

    def __bool__(self) -> bool:
        return self._peer.ask("truth", self) is True

    def __iter__(self) -> Iterator[Any]:
        walker = self._peer.ask("iterate", self)
        while True:
            found = self._peer.ask("items", walker)
            yield from found
            if len(found) < _ITEMS_AT_ONCE:
                return

    def __next__(self) -> Any:
        found = self._peer.ask("next", self)
        if not found:
            raise StopIteration
        return found[0]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Remote) and self._peer.ask("equal", self, other) is True

    def __hash__(self) -> int:
        return hash(self._number)

    def __lt__(self, other: object) -> bool:
        return self._compare("less", other)

    def __gt__(self, other: object) -> bool:
        return isinstance(other, Remote) and other < self

    def __str__(self) -> str:
        return str(self._peer.ask("text", self))

    __repr__ = __str__

    def _compare(self, operation: str, other: object) -> bool:
        if not isinstance(other, Remote):
            raise TypeError("an object of the program cannot be compared with a value of the tests")
        return self._peer.ask(operation, self, other) is True


class Peer:
    """One end of the wire. `serve` answers the other end until it closes; `ask` asks it, answering meanwhile.

    Where the other end is not `trusted` it may call functions that it was given, go through iterators, and use
    public attributes of objects whose classes the tests define. Raises WireError where the other end is gone,
    and is `broken` from then on.
    """

    def __init__(self, reading: BinaryIO, writing: BinaryIO, *, trusted: bool) -> None:
        self._reading, self._writing, self._trusted = reading, writing, trusted
        self._objects: dict[int, Any] = {}
        self._numbers: dict[int, int] = {}
        self.operations: dict[str, Callable[..., Any]] = dict(_OPERATIONS)
        self.broken = False

    def ask(self, operation: str, *arguments: Any, named: dict[str, Any] | None = None) -> Any:
        """What the other end answers. Containers among the arguments take on what it made of them.

        Raises the exception that it raised: a built-in one as itself, another as the built-in one that it is a
        kind of, else as ProgramError.
        """
        self._send(["ask", operation, [self.pack(one) for one in arguments], self.pack(named or {})])
        while True:
            message = self._receive()
            if message[0] == "ask":
                self._answer(message)
                continue
            _, failed, result, after = message
            for mine, theirs in zip(arguments, after, strict=True):
                _take_on(mine, self.unpack(theirs))
            if failed:
                raise self._exception(result)
            return self.unpack(result)

    def serve(self) -> None:
        """Answer what the other end asks, until it closes the wire."""
        while True:
            try:
                message = self._receive()
            except WireError:
                return
            self._answer(message)

    def pack(self, value: Any) -> Any:
        """The value as JSON: a copy of plain data, a number for what stays here."""
        kind = type(value)
        if value is None or kind is bool or kind is str or kind is float:
            return value
        if isinstance(value, Remote):
            return ["yours", value._number]
        for plain, pack in _PACKERS.items():
            if isinstance(value, plain):
                return pack(self, value)
        if isinstance(value, type):
            name = type.__getattribute__(value, "__name__")
            if vars(builtins).get(name) is value:
                return ["type", name]
        if kind.__module__ == "numpy" and hasattr(value, "tolist"):
            return self.pack(value.tolist())
        number = self._numbers.get(id(value))
        if number is None or self._objects[number] is not value:
            number = len(self._objects)
            self._objects[number] = value
            self._numbers[id(value)] = number
        return ["mine", number]

    def unpack(self, packed: Any) -> Any:
        """The value that `pack` made this of, on the other side."""
        if not isinstance(packed, list):
            return packed
        kind, *rest = packed
        if kind == "mine":
            return Remote(self, int(rest[0]))
        if kind == "yours":
            return self._objects[int(rest[0])]
        if kind == "type":
            found = getattr(builtins, str(rest[0]), None)
            return found if isinstance(found, type) else object
        return _UNPACKERS[kind](self, *rest)

    def _answer(self, message: list[Any]) -> None:
        arguments: list[Any] = []
        try:
            _, operation, packed, named = message
            arguments = [self.unpack(one) for one in packed]
            if not self._trusted and not _permitted(operation, packed, arguments):
                raise PermissionError(f"the program may not ask for this {operation}")
            result = self.operations[operation](*arguments, **self.unpack(named))
            reply = [False, self.pack(result)]
        except WireError:
            raise
        except BaseException as error:  # also SystemExit: the program's exceptions are answers
            reply = [True, [_built_in(type(error)), str(error)[:500], type(error).__name__]]
        # What was called may have changed the containers that it was given.
        self._send(["reply", *reply, [self._changed(one) for one in arguments]])

    def _changed(self, argument: Any) -> Any:
        return self.pack(argument) if isinstance(argument, (list, dict, set, bytearray)) else None

    def _exception(self, described: list[str]) -> BaseException:
        built_in, message, name = described
        kind = getattr(builtins, built_in, None)
        if (
            isinstance(kind, type)
            and issubclass(kind, BaseException)
            and (kind is not Exception or name == built_in)
        ):
            try:
                return kind(message)
            except TypeError:  # UnicodeDecodeError and others that take more
                pass
        return ProgramError(f"{name}: {message}")

    def _send(self, message: list[Any]) -> None:
        data = json.dumps(message).encode()
        if len(data) > LONGEST_MESSAGE:
            self.broken = True
            raise WireError("a value is too large")
        try:
            self._writing.write(data + b"\n")
            self._writing.flush()
        except (OSError, ValueError) as error:
            self.broken = True
            raise WireError("the other process is gone") from error

    def _receive(self) -> list[Any]:
        try:
            return self._message()
        except WireError:
            self.broken = True
            raise

    def _message(self) -> list[Any]:
        try:
            line = self._reading.readline(LONGEST_MESSAGE + 2)
        except (OSError, ValueError) as error:
            raise WireError("the other process is gone") from error
        if not line.endswith(b"\n"):
            raise WireError("the other process is gone")
        try:
            message = json.loads(line)
            if message[0] not in ("ask", "reply") or len(message) != 4:
                raise WireError("a message is of no known kind")
        except (ValueError, TypeError, IndexError, KeyError, RecursionError) as error:
            raise WireError("a message cannot be read") from error
        return list(message)


def _permitted(operation: str, packed: list[Any], arguments: list[Any]) -> bool:
    """Whether a program may ask this of the judge: only of objects that it was handed, nothing private."""
    if not packed or not isinstance(packed[0], list) or packed[0][0] != "yours":
        return False
    if operation in _OPEN:
        return True
    private = operation.endswith("attribute") and str(arguments[1]).startswith("_")
    return operation in _OPEN_IN_TESTS and type(arguments[0]).__module__ == TESTS and not private


def _built_in(kind: type[BaseException]) -> str:
    """The name of the first built-in class among an exception's."""
    names = (base.__name__ for base in kind.__mro__ if vars(builtins).get(base.__name__) is base)
    return str(next(names))


def _pack_integer(_: Peer, value: int) -> Any:
    plain = int.__index__(value)
    return plain if abs(plain) < _SAFE_INTEGER else ["integer", hex(plain)]


_PACKERS: dict[Any, Callable[[Peer, Any], Any]] = {
    bool: lambda _, value: bool(value),
    int: _pack_integer,
    float: lambda _, value: float.__float__(value),
    str: lambda _, value: str.__str__(value),
    list: lambda peer, value: ["list", *(peer.pack(one) for one in list.__iter__(value))],
    tuple: lambda peer, value: ["tuple", *(peer.pack(one) for one in tuple.__iter__(value))],
    set: lambda peer, value: ["set", *(peer.pack(one) for one in set.__iter__(value))],
    frozenset: lambda peer, value: ["frozenset", *(peer.pack(one) for one in frozenset.__iter__(value))],
    dict: lambda peer, value: [
        "dict",
        *([peer.pack(key), peer.pack(one)] for key, one in dict.items(value)),
    ],
    bytes: lambda _, value: ["bytes", bytes.hex(value)],
    bytearray: lambda _, value: ["bytearray", bytearray.hex(value)],
    complex: lambda _, value: ["complex", value.real, value.imag],
    range: lambda peer, value: ["range", *(peer.pack(one) for one in (value.start, value.stop, value.step))],
    Decimal: lambda _, value: ["decimal", Decimal.__str__(value)],
    Fraction: lambda peer, value: ["fraction", peer.pack(value.numerator), peer.pack(value.denominator)],
}

_UNPACKERS: dict[str, Callable[..., Any]] = {
    "integer": lambda _, digits: int(digits, 16),
    "list": lambda peer, *items: [peer.unpack(one) for one in items],
    "tuple": lambda peer, *items: tuple(peer.unpack(one) for one in items),
    "set": lambda peer, *items: {peer.unpack(one) for one in items},
    "frozenset": lambda peer, *items: frozenset(peer.unpack(one) for one in items),
    "dict": lambda peer, *items: {peer.unpack(key): peer.unpack(one) for key, one in items},
    "bytes": lambda _, digits: bytes.fromhex(digits),
    "bytearray": lambda _, digits: bytearray.fromhex(digits),
    "complex": lambda _, real, imaginary: complex(real, imaginary),
    "range": lambda peer, *bounds: range(*(peer.unpack(one) for one in bounds)),
    "decimal": lambda _, text: Decimal(text),
    "fraction": lambda peer, top, bottom: Fraction(peer.unpack(top), peer.unpack(bottom)),
}


def _take_on(mine: Any, changed: Any) -> None:
    """Give a container the content that the other side's copy has now."""
    if isinstance(mine, list) and isinstance(changed, list):
        for one, other in zip(mine, changed, strict=False):
            _take_on(one, other)  # a list within stays the same object, as it would in one process
        if mine != changed:
            mine[:] = [one if one == other else other for one, other in _paired(mine, changed)]
    elif isinstance(mine, dict) and isinstance(changed, dict):
        if mine != changed:
            mine.clear()
            mine.update(changed)
    elif isinstance(mine, set) and isinstance(changed, set):
        mine.clear()
        mine.update(changed)
    elif isinstance(mine, bytearray) and isinstance(changed, bytearray):
        mine[:] = changed


def _paired(mine: list[Any], changed: list[Any]) -> Iterator[tuple[Any, Any]]:
    for place, other in enumerate(changed):
        yield (mine[place] if place < len(mine) else other), other


def _items(walker: Iterator[Any]) -> list[Any]:
    found: list[Any] = []
    for one in walker:
        found.append(one)
        if len(found) == _ITEMS_AT_ONCE:
            break
    return found


def _next(walker: Iterator[Any]) -> list[Any]:
    try:
        return [next(walker)]
    except StopIteration:
        return []


_OPERATIONS: dict[str, Callable[..., Any]] = {
    "call": lambda function, *arguments, **named: function(*arguments, **named),
    "attribute": getattr,
    "set attribute": setattr,
    "item": lambda container, key: container[key],
    "set item": lambda container, key, value: container.__setitem__(key, value),
    "length": len,
    "truth": bool,
    "iterate": iter,
    "items": _items,
    "next": _next,
    "equal": lambda one, other: bool(one == other),
    "less": lambda one, other: bool(one < other),
    "text": lambda one: str(one)[:10_000],
}
