"""Expressions of the demo arithmetic: a start and a few additions and subtractions, worked left to right."""

from __future__ import annotations

import random
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal, TypeAlias

Sign: TypeAlias = Literal["+", "-"]
Split: TypeAlias = Literal["train", "calibrate", "test"]

LEVELS = (1, 2, 3, 4, 5)
"""A problem's level is its number of operations."""

MAX_NUMBER = 120
"""The largest number that the demo language can write; every running value stays well below it."""

LOWEST_RESULT = 10
"""No right result is below this, so that one dropped carry never leads below zero."""

_STARTS = range(3, 31)
_OPERANDS = range(2, 10)
_SPLIT_ENDS: tuple[tuple[Split, float], ...] = (("train", 0.7), ("calibrate", 0.85), ("test", 1.0))


@dataclass(frozen=True, slots=True)
class Operation:
    """One step: add or subtract `operand`."""

    sign: Sign
    operand: int

    def apply(self, value: int) -> int:
        """The right result."""
        return value + self.operand if self.sign == "+" else value - self.operand

    def carries(self, value: int) -> bool:
        """Whether the step crosses a ten: an addition that carries or a subtraction that borrows."""
        ones = value % 10
        return ones + self.operand >= 10 if self.sign == "+" else ones < self.operand

    def dropped(self, value: int) -> int:
        """What comes out where the carry or the borrow is forgotten: ten too few, or ten too many."""
        if not self.carries(value):
            return self.apply(value)
        return self.apply(value) + (-10 if self.sign == "+" else 10)

    @property
    def inverse(self) -> Operation:
        """The step that undoes this one."""
        return Operation("-" if self.sign == "+" else "+", self.operand)


@dataclass(frozen=True, slots=True)
class Expression:
    """A start and the operations upon it."""

    start: int
    operations: tuple[Operation, ...]

    def __str__(self) -> str:
        return " ".join([str(self.start), *(f"{step.sign} {step.operand}" for step in self.operations)])

    @property
    def level(self) -> int:
        """The number of operations."""
        return len(self.operations)

    @property
    def running_values(self) -> tuple[int, ...]:
        """The value before the first operation and after each."""
        values = [self.start]
        for step in self.operations:
            values.append(step.apply(values[-1]))
        return tuple(values)

    @property
    def result(self) -> int:
        """The right answer."""
        return self.running_values[-1]

    @property
    def carrying_steps(self) -> int:
        """How many of the steps carry or borrow."""
        return sum(
            step.carries(value) for value, step in zip(self.running_values, self.operations, strict=False)
        )


def split_of(expression: Expression) -> Split:
    """The one split that an expression belongs to, by a hash of its text: 70% train, 15% each of the others."""
    digest = blake2b(str(expression).encode(), digest_size=8).digest()
    place = int.from_bytes(digest, "big") / 2**64
    return next(split for split, end in _SPLIT_ENDS if place < end)


def draw_expression(rng: random.Random, level: int) -> Expression:
    """An expression of `level` operations, each of whose results is at least `LOWEST_RESULT`."""
    start = value = rng.choice(_STARTS)
    steps: list[Operation] = []
    for _ in range(level):
        step = Operation(rng.choice(("+", "-")), rng.choice(_OPERANDS))
        if step.apply(value) < LOWEST_RESULT:
            step = Operation("+", max(step.operand, LOWEST_RESULT - value))
        steps.append(step)
        value = step.apply(value)
    return Expression(start, tuple(steps))


def parse_expression(text: str) -> Expression:
    """The expression that `str(expression)` wrote. Raises ValueError for any other text."""
    words = text.split()
    if len(words) % 2 == 0 or any(sign not in ("+", "-") for sign in words[1::2]):
        raise ValueError(f"{text!r} is not an expression of the demo arithmetic, such as '27 + 8 - 9'.")
    steps = tuple(
        Operation("+" if sign == "+" else "-", int(operand))
        for sign, operand in zip(words[1::2], words[2::2], strict=True)
    )
    return Expression(int(words[0]), steps)
