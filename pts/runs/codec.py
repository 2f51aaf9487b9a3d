"""Frozen dataclasses to JSON values and back, checked against their type annotations."""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar, Union, cast, get_args, get_origin, get_type_hints

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"
T = TypeVar("T")


class ShapeError(ValueError):
    """A JSON value of the wrong type; the message says where, what was wanted and what was there."""


def to_json(value: object) -> JsonValue:
    """A JSON value that `from_json` turns back into an equal value. Raises TypeError where there is none.

    A float that is not a number becomes null, which JSON has, and comes back as one.
    """
    if isinstance(value, float) and math.isnan(value):
        return None
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_json(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {entry.name: to_json(getattr(value, entry.name)) for entry in fields(value)}
    raise TypeError(f"{type(value).__name__} has no JSON form")


def from_json(kind: type[T], data: object, where: str = "") -> T:
    """The value of type `kind` that `data` describes, nested dataclasses included.

    Raises ShapeError, with the path to the place (`where` is its beginning), for an unknown or missing key or
    a value of another type. An int is taken for a float, never the reverse.
    """
    return cast(T, _decode(kind, data, where))


def known_keys(kind: type) -> list[str]:
    """The keys that `from_json` accepts for a dataclass, in the order of its fields."""
    return [entry.name for entry in fields(kind)]


def _decode(kind: Any, data: object, where: str) -> object:
    origin = get_origin(kind)
    if isinstance(kind, type) and is_dataclass(kind):
        return _decode_dataclass(kind, data, where)
    if origin is Literal:
        if data in get_args(kind):
            return data
        raise _mismatch(where, " or ".join(repr(choice) for choice in get_args(kind)), data)
    if origin is Union or origin is types.UnionType:
        return _decode_union(get_args(kind), data, where)
    if origin is tuple:
        return _decode_tuple(get_args(kind), data, where)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _decode_mapping(get_args(kind)[1], data, where)
    return _decode_scalar(kind, data, where)


def _decode_dataclass(kind: type, data: object, where: str) -> object:
    if not isinstance(data, Mapping):
        raise _mismatch(where, f"an object ({', '.join(known_keys(kind))})", data)
    hints = _hints(kind)
    unknown = [str(key) for key in data if key not in hints]
    if unknown:
        raise ShapeError(f"{_place(where)}no such key: {', '.join(unknown)}; the keys are {', '.join(hints)}")
    missing = [entry.name for entry in fields(kind) if entry.name not in data and _required(entry)]
    if missing:
        raise ShapeError(f"{_place(where)}missing: {', '.join(missing)}")
    return kind(**{name: _decode(hints[name], item, _join(where, name)) for name, item in data.items()})


def _decode_union(choices: tuple[Any, ...], data: object, where: str) -> object:
    if data is None and type(None) in choices:
        return None
    wanted = [choice for choice in choices if choice is not type(None)]
    for choice in wanted[:-1]:
        try:
            return _decode(choice, data, where)
        except ShapeError:
            continue
    return _decode(wanted[-1], data, where)


def _decode_tuple(items: tuple[Any, ...], data: object, where: str) -> object:
    if not isinstance(data, list | tuple):
        raise _mismatch(where, "a list", data)
    if len(items) == 2 and items[1] is Ellipsis:
        # The long ones are token ids and probabilities: one pass over plain numbers, no path for each.
        if items[0] in (int, float) and all(type(item) is items[0] for item in data):
            return tuple(data)
        return tuple(_decode(items[0], item, f"{where}[{i}]") for i, item in enumerate(data))
    if len(items) != len(data):
        raise _mismatch(where, f"a list of {len(items)}", data)
    return tuple(
        _decode(item, entry, f"{where}[{i}]") for i, (item, entry) in enumerate(zip(items, data, strict=True))
    )


def _decode_mapping(item: Any, data: object, where: str) -> object:
    if not isinstance(data, Mapping):
        raise _mismatch(where, "an object", data)
    return {str(key): _decode(item, entry, _join(where, str(key))) for key, entry in data.items()}


def _decode_scalar(kind: Any, data: object, where: str) -> object:
    if kind is Any or kind is object:
        return data
    if kind is Path and isinstance(data, str):
        return Path(data)
    if kind is float and data is None:
        return math.nan
    if kind is float and type(data) is int:
        return float(data)
    # `type is`, not isinstance: True is an int to isinstance, and never one to a reader of a recipe.
    if type(data) is kind:
        return data
    raise _mismatch(where, _NAMES.get(kind, str(kind)), data)


_NAMES = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", Path: "a path"}


@cache
def _hints(kind: type) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {entry.name: hints[entry.name] for entry in fields(kind)}


def _required(entry: Any) -> bool:
    return entry.init and entry.default is MISSING and entry.default_factory is MISSING


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _place(where: str) -> str:
    return f"{where}: " if where else ""


def _mismatch(where: str, wanted: str, data: object) -> ShapeError:
    shown = repr(data)
    return ShapeError(
        f"{_place(where)}wanted {wanted}, found {shown if len(shown) <= 60 else shown[:57] + '...'}"
    )
