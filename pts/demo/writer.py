"""Writes completions in the demo language: what is said, and how often it goes wrong, by stated rates.

The words that a writer chooses (its style) are drawn before what they lead to, and decide how likely it is to
go right: that is what makes them pivotal for a model that has learned to write like this.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from pts.demo import sentences
from pts.demo.expressions import Expression, Operation

BUDGET = 96
"""The most tokens of a completion, its end token included."""

_PLAIN_STEP = 6
_ORDER_WORDS = 2
_ENDING = 7
_EXTRA_SPLIT, _EXTRA_WAIT, _EXTRA_ALTERNATIVE, _EXTRA_CHECK = 9, 12, 10, 14


@dataclass(frozen=True, slots=True)
class WritingRates:
    """How a writer behaves, all as probabilities.

    `ordered`: opens with an ordering word and goes on so. `adopt_order`: a bare trace takes to ordering words
    at a step. `slip`: a bare step after the first keeps the last sign where it changes, or is skipped where
    it does not. `split`: a step that crosses a ten is split; otherwise its carry is dropped at `drop`.
    `wait`, `alternative` and `check` are what follows a wrong step, `alternative_after_right` and `check` a
    right one. `alternative_right`: the second way gives the right value. `honest_check`: a check really
    computes.
    """

    ordered: float = 0.42
    adopt_order: float = 0.22
    slip: float = 0.5
    split: float = 0.33
    drop: float = 0.65
    wait: float = 0.3
    alternative: float = 0.16
    alternative_after_right: float = 0.05
    check: float = 0.16
    alternative_right: float = 0.88
    honest_check: float = 0.88


@dataclass(slots=True)
class _Page:
    """What is written so far, and the words that may still be spent on more than the plain steps."""

    rng: random.Random
    rates: WritingRates
    spare: int
    words: list[str] = field(default_factory=list)

    def chance(self, rate: float) -> bool:
        return self.rng.random() < rate

    def afford(self, cost: int) -> bool:
        return self.spare >= cost

    def add(self, words: list[str], extra: int = 0) -> None:
        self.words += words
        self.spare -= extra


def may_drop(value: int, step: Operation) -> bool:
    """Whether a carry can be dropped here and the wrong result still be checked by the inverse step."""
    return step.carries(value) and step.inverse.apply(step.dropped(value)) >= 0


def write_thinking(expression: Expression, rng: random.Random, rates: WritingRates) -> list[str]:
    """A completion with thinking, from the first step to the end token, of at most `BUDGET` words."""
    count = expression.level
    plain = count * (_PLAIN_STEP + _ORDER_WORDS) + _ENDING
    page = _Page(rng, rates, spare=BUDGET - plain)
    ordered = page.chance(rates.ordered)
    value, last_sign = expression.start, None
    for index, step in enumerate(expression.operations):
        rest = expression.operations[index + 1 :]
        ordered = ordered or (index > 0 and page.chance(rates.adopt_order))
        if ordered:
            page.add([sentences.ordering_word(index, count), ","])
        elif last_sign is not None and page.chance(rates.slip):
            slipped = step.inverse if step.sign != last_sign else None
            if _stays_above_zero(slipped.apply(value) if slipped else value, rest):
                if slipped is None:
                    continue
                step = slipped
        value = _write_step(page, value, step, rest)
        last_sign = step.sign
    page.add(sentences.end_of_thought(value))
    return page.words


def write_answer(expression: Expression, rng: random.Random, rates: WritingRates) -> list[str]:
    """A completion without thinking: right up to two operations, beyond that what a careless head would say."""
    value = expression.start
    for index, step in enumerate(expression.operations):
        careless = expression.level > 2 and rng.random() < rates.drop
        dropped = step.dropped(value)
        if careless and _stays_above_zero(dropped, expression.operations[index + 1 :]):
            value = dropped
        else:
            value = step.apply(value)
    return sentences.answer(value)


def _stays_above_zero(value: int, rest: tuple[Operation, ...]) -> bool:
    return min(Expression(value, rest).running_values) > 0


def _write_step(page: _Page, value: int, step: Operation, rest: tuple[Operation, ...]) -> int:
    """Writes one step and what is said of it; returns the value that stands."""
    rates, right = page.rates, step.apply(value)
    if step.carries(value) and page.afford(_EXTRA_SPLIT) and page.chance(rates.split):
        page.add(sentences.split(value, step), _EXTRA_SPLIT)
        return _comment(page, value, step, right, right)
    drops = may_drop(value, step) and _stays_above_zero(step.dropped(value), rest)
    slip_of_pen = step.dropped(value) if drops else right
    stated = slip_of_pen if page.chance(rates.drop) else right
    page.add(sentences.direct(value, step, stated))
    return _comment(page, value, step, stated, slip_of_pen)


def _comment(page: _Page, value: int, step: Operation, stated: int, slip_of_pen: int) -> int:
    """Doubts the stated value, tries another way, checks it, or goes on; returns the value that stands.

    `slip_of_pen` is the value that a failed second way comes to.
    """
    rates, right = page.rates, step.apply(value)
    wrong = stated != right
    wait = rates.wait if wrong else 0.0
    other_way = rates.alternative if wrong else rates.alternative_after_right
    draw = page.rng.random()
    if draw < wait and page.afford(_EXTRA_WAIT):
        page.add(sentences.correction(value, step), _EXTRA_WAIT)
        return right
    if wait <= draw < wait + other_way and page.afford(_EXTRA_ALTERNATIVE):
        found = right if page.chance(rates.alternative_right) else slip_of_pen
        page.add(sentences.alternative(value, step, found), _EXTRA_ALTERNATIVE)
        return found
    if wait + other_way <= draw < wait + other_way + rates.check and page.afford(_EXTRA_CHECK):
        words, stands = sentences.check(value, step, stated, honest=page.chance(rates.honest_check))
        page.add(words, _EXTRA_CHECK)
        return stands
    return stated
