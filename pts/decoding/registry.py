"""The strategies by name, as a user gives them: `full`, `budget:64`, ..."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pts.decoding.auto import make_auto
from pts.decoding.limits import Budget
from pts.decoding.parts import Parts
from pts.decoding.strategies import Plain, Strategy
from pts.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Entry:
    """One strategy of the list: `make` builds it from its name, its argument and the parts that it may use.

    `argument` is what stands for the number in the list, such as N; None where there is none.
    """

    argument: str | None
    summary: str
    source: str
    make: Callable[[str, int, Parts], Strategy]


def _plain(budget: Callable[[int], Budget]) -> Callable[[str, int, Parts], Strategy]:
    return lambda name, number, parts: Plain(name, budget(number).within(parts.budget))


STRATEGIES: Mapping[str, Entry] = {
    "full": Entry(
        None,
        "think and answer freely, within the total limit",
        "the model as it is",
        _plain(lambda _: Budget()),
    ),
    "nothink": Entry(
        None,
        "answer at once: thinking is closed before it begins",
        "Ma et al., NoThinking, 2025",
        _plain(lambda _: Budget(thinking=0)),
    ),
    "budget": Entry(
        "N",
        "at most N tokens of thinking, then its end is forced",
        "Muennighoff et al., s1, 2025",
        _plain(lambda number: Budget(thinking=number)),
    ),
    "min": Entry(
        "N",
        "at least N tokens of thinking: an end before that becomes a continuation",
        "Muennighoff et al., s1, 2025",
        _plain(lambda number: Budget(least_thinking=number)),
    ),
    "auto": Entry(
        None,
        "a router decides for each question: no thinking, a little, or much",
        "codelion, AutoThink, 2025",
        make_auto,
    ),
}


def make_strategy(spec: str, parts: Parts) -> Strategy:
    """The strategy that a text such as `budget:64` names. Raises ConfigError as `check_strategy` does."""
    return STRATEGIES[spec.partition(":")[0]].make(spec, check_strategy(spec), parts)


def check_strategy(spec: str) -> int:
    """The number in a text such as `budget:64`, 0 where the strategy takes none.

    Raises ConfigError for an unknown name, with the nearest known one, and for a number that is missing, below
    1, or not wanted.
    """
    name, colon, argument = spec.partition(":")
    if name not in STRATEGIES:
        near = difflib.get_close_matches(name, STRATEGIES, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(STRATEGIES)}."
        raise ConfigError(f"there is no strategy {name!r}: {hint}")
    entry = STRATEGIES[name]
    if entry.argument is None:
        if colon:
            raise ConfigError(f"strategy {name} takes no number, and {spec!r} gives one.")
        return 0
    if not argument.isdigit() or int(argument) < 1:
        raise ConfigError(
            f"strategy {name} needs a whole number above 0, such as {name}:64; {spec!r} gives none."
        )
    return int(argument)
