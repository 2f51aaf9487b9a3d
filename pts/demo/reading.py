"""Reads completions in the demo language: which steps were stated, which went wrong, what was said then."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from pts.demo.expressions import Operation
from pts.demo.problems import expression_of
from pts.demo.vocabulary import ORDERING_WORDS, THINK_END
from pts.records import Problem

StatementKind: TypeAlias = Literal["direct", "split", "correction", "alternative", "check", "unreadable"]
ErrorKind: TypeAlias = Literal["arithmetic", "operation", "value", "unreadable"]


@dataclass(frozen=True, slots=True)
class Statement:
    """One sentence of a thought that states a value.

    `first` and `last` index its words in the completion (an ordering word before it not included, the
    `Wait , that is wrong .` of a correction included). It says that `step` upon `value` gives `stated`; for a
    check, `step` and `value` are those of the statement before it and `stated` is what stands after it, with
    `verdict` as the check gave it. An unreadable sentence has no step.
    """

    kind: StatementKind
    first: int
    last: int
    ordered: bool
    value: int = 0
    step: Operation | None = None
    stated: int = 0
    verdict: Literal["right", "wrong"] | None = None

    @property
    def wrong(self) -> bool:
        """Whether the stated value is not what the step gives."""
        return self.step is None or self.step.apply(self.value) != self.stated


@dataclass(frozen=True, slots=True)
class StepError:
    """A statement, by its index in the thought, at which a completion went wrong.

    "arithmetic": the step does not give what is stated. "operation": it is not the next of the problem's
    operations. "value": it does not start from the value that stood. `mended`: the statement right after it
    states the right value of the same step.
    """

    statement: int
    kind: ErrorKind
    mended: bool = False


def read_thought(completion: str) -> tuple[Statement, ...]:
    """The statements of a completion, up to the end of its thought."""
    words = completion.split()
    words = words[: words.index(THINK_END)] if THINK_END in words else words
    statements: list[Statement] = []
    for first, last in _sentences(words):
        statements.append(_read(words, first, last, statements[-1] if statements else None))
    return tuple(statements)


def step_errors(completion: str, problem: Problem) -> tuple[StepError, ...]:
    """Where the thought of a completion goes wrong, in the order of its statements; () for a faultless one.

    Operations left out at the end are an "operation" error past the last statement.
    """
    expression = expression_of(problem)
    statements = read_thought(completion)
    errors: list[StepError] = []
    standing, done = expression.start, 0
    for index, statement in enumerate(statements):
        if statement.step is None:
            errors.append(StepError(index, "unreadable"))
            continue
        if statement.kind in ("direct", "split"):
            if statement.value != standing:
                errors.append(StepError(index, "value"))
            if done >= expression.level or statement.step != expression.operations[done]:
                errors.append(StepError(index, "operation"))
            done += 1
        if statement.wrong:
            errors.append(StepError(index, "arithmetic", mended=_mends(statements[index:][1:2], statement)))
        standing = statement.stated
    if done < expression.level:
        errors.append(StepError(len(statements), "operation"))
    return tuple(errors)


def _mends(following: tuple[Statement, ...], wrong: Statement) -> bool:
    return any(
        after.step == wrong.step and after.value == wrong.value and not after.wrong
        for after in following
        if after.kind not in ("direct", "split")
    )


def _sentences(words: list[str]) -> Iterator[tuple[int, int]]:
    """First and last word of each sentence; `Wait` takes in the sentence after its own."""
    first = 0
    for last, word in enumerate(words):
        if word != ".":
            continue
        if words[first] == "Wait" and words[first:last].count("=") == 0:
            continue
        yield first, last
        first = last + 1
    if first < len(words):
        yield first, len(words) - 1


def _read(words: list[str], first: int, last: int, before: Statement | None) -> Statement:
    ordered = words[first] in ORDERING_WORDS
    first += 2 if ordered else 0
    match words[first : last + 1]:
        case ["Split", operand, ":", a, sign, _, "=", _, ",", _, _, _, "=", c, "."]:
            return _statement("split", first, last, ordered, a, sign, operand, c)
        case ["Wait", ",", "that", "is", "wrong", ".", a, sign, b, "=", c, "."]:
            return _statement("correction", first, last, ordered, a, sign, b, c)
        case ["Alternatively", ",", a, sign, "10", "-" | "+", back, "=", c, "."] if back.isdigit():
            return _statement("alternative", first, last, ordered, a, sign, str(10 - int(back)), c)
        case ["Check", ":", _, _, _, "=", _, ",", "right", "."] if before and before.step:
            return Statement("check", first, last, ordered, before.value, before.step, before.stated, "right")
        case ["Check", ":", _, _, _, "=", _, ",", "wrong", ",", "it", "is", c, "."] if (
            before and before.step and c.isdigit()
        ):
            return Statement("check", first, last, ordered, before.value, before.step, int(c), "wrong")
        case [a, sign, b, "=", c, "."]:
            return _statement("direct", first, last, ordered, a, sign, b, c)
    return Statement("unreadable", first, last, ordered)


def _statement(
    kind: StatementKind, first: int, last: int, ordered: bool, value: str, sign: str, operand: str, stated: str
) -> Statement:
    if sign not in ("+", "-") or not (value.isdigit() and operand.isdigit() and stated.isdigit()):
        return Statement("unreadable", first, last, ordered)
    step = Operation("+" if sign == "+" else "-", int(operand))
    return Statement(kind, first, last, ordered, int(value), step, int(stated))
