"""Drill rows: chains of single steps, half of the carrying ones wrong, every wrong one put right at once.

They teach the tables and the difference between a right step and a wrong one, before and beside the traces.
"""

from __future__ import annotations

import random

from pts.demo import sentences
from pts.demo.expressions import LOWEST_RESULT, Operation
from pts.demo.vocabulary import TURN_START
from pts.demo.writer import may_drop

_HIGHEST = 70
_DOUBT, _OTHER_WAY, _CHECK = 0.6, 0.15, 0.25
_DROP = 0.5
_SPLIT = 0.25
_REMARK_AFTER_RIGHT = 0.2

Marked = list[tuple[str, bool]]
"""Words, each with whether it is to be learned."""


def write_drill(rng: random.Random, length: int) -> Marked:
    """A row of about `length` words. Not to be learned: what was drawn at random, and wrong results."""
    row: Marked = [(TURN_START, False), ("Practice", False)]
    value = rng.randint(3, 30)
    follows = False
    while len(row) < length:
        step = _draw_step(rng, value)
        first_try, stated = _first_try(rng, value, step, follows)
        row += [*first_try, *_remark(rng, value, step, stated)]
        value, follows = step.apply(value), True
    return row


def _draw_step(rng: random.Random, value: int) -> Operation:
    step = Operation(rng.choice(("+", "-")), rng.randint(2, 9))
    if not LOWEST_RESULT <= step.apply(value) <= _HIGHEST:
        step = Operation("+" if value < _HIGHEST // 2 else "-", max(step.operand, LOWEST_RESULT - value))
    return step


def _first_try(rng: random.Random, value: int, step: Operation, follows: bool) -> tuple[Marked, int]:
    """The step and what it states. Its first value is to be learned where it follows from the row."""
    right = step.apply(value)
    if step.carries(value) and rng.random() < _SPLIT:
        return [(word, place > 2) for place, word in enumerate(sentences.split(value, step))], right
    stated = step.dropped(value) if may_drop(value, step) and rng.random() < _DROP else right
    learned = (follows, False, False, True, stated == right, True)
    return list(zip(sentences.direct(value, step, stated), learned, strict=True)), stated


def _remark(rng: random.Random, value: int, step: Operation, stated: int) -> Marked:
    """What is said after a step: always something after a wrong one. Only `Wait` is learned as an opener."""
    wrong = stated != step.apply(value)
    if not wrong and rng.random() > _REMARK_AFTER_RIGHT:
        return []
    kinds = ("wait", "other way", "check") if wrong else ("other way", "check")
    weights = (_DOUBT, _OTHER_WAY, _CHECK) if wrong else (_OTHER_WAY, _CHECK)
    kind = rng.choices(kinds, weights)[0]
    if kind == "wait":
        return [(word, True) for word in sentences.correction(value, step)]
    if kind == "other way":
        words = sentences.alternative(value, step, step.apply(value))
    else:
        words, _ = sentences.check(value, step, stated, honest=True)
    return [(word, place > 0) for place, word in enumerate(words)]
