"""The sentences of the demo language, as lists of words; what they state may be wrong, as the writer wills."""

from __future__ import annotations

from pts.demo.expressions import Operation
from pts.demo.vocabulary import THINK_END, TURN_END


def equation(value: int, step: Operation, stated: int) -> list[str]:
    """`27 + 8 = 35`"""
    return [str(value), step.sign, str(step.operand), "=", str(stated)]


def direct(value: int, step: Operation, stated: int) -> list[str]:
    """`27 + 8 = 35 .`"""
    return [*equation(value, step, stated), "."]


def split(value: int, step: Operation) -> list[str]:
    """`Split 8 : 27 + 3 = 30 , 30 + 5 = 35 .`: to the ten, then on from it. Always right."""
    to_ten = 10 - value % 10 if step.sign == "+" else value % 10
    first, second = Operation(step.sign, to_ten), Operation(step.sign, step.operand - to_ten)
    ten = first.apply(value)
    return [
        *("Split", str(step.operand), ":"),
        *equation(value, first, ten),
        ",",
        *equation(ten, second, second.apply(ten)),
        ".",
    ]


def correction(value: int, step: Operation) -> list[str]:
    """`Wait , that is wrong . 27 + 8 = 35 .`"""
    return ["Wait", ",", "that", "is", "wrong", ".", *direct(value, step, step.apply(value))]


def alternative(value: int, step: Operation, stated: int) -> list[str]:
    """`Alternatively , 27 + 10 - 2 = 35 .`: over the ten and back."""
    over, back = Operation(step.sign, 10), Operation(step.inverse.sign, 10 - step.operand)
    return [
        *("Alternatively", ",", str(value), over.sign, "10", back.sign, str(back.operand), "="),
        str(stated),
        ".",
    ]


def check(value: int, step: Operation, stated: int, honest: bool) -> tuple[list[str], int]:
    """A check of `stated` by the inverse step, and the value that stands after it.

    `Check : 35 - 8 = 27 , right .` or `Check : 25 - 8 = 17 , wrong , it is 35 .` One that is not honest sees
    what it wants to see.
    """
    inverse = step.inverse
    back = inverse.apply(stated) if honest else value
    words = ["Check", ":", *equation(stated, inverse, back), ","]
    if back == value:
        return [*words, "right", "."], stated
    right = step.apply(value)
    return [*words, "wrong", ",", "it", "is", str(right), "."], right


def answer(value: int) -> list[str]:
    """`The answer is 35 . <|im_end|>`"""
    return ["The", "answer", "is", str(value), ".", TURN_END]


def end_of_thought(value: int) -> list[str]:
    """`</think> The answer is 35 . <|im_end|>`"""
    return [THINK_END, *answer(value)]


def ordering_word(index: int, count: int) -> str:
    """The word that opens step `index` (from 0) of `count` in an ordered trace."""
    if index == 0:
        return "First"
    if index == count - 1:
        return "Finally"
    return "Next" if index == 1 else "Then"
