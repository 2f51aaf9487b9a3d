"""The demo data set: problems from a seed, in three splits that share no expression."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import get_args

from pts.demo.expressions import LEVELS, Expression, Split, draw_expression, parse_expression, split_of
from pts.errors import ConfigError
from pts.records import Problem

_CARRYING_STEPS = {1: (0, 1), 2: (1, 2), 3: (1, 2), 4: (1, 2), 5: (1, 2)}
"""The fewest and most steps that carry or borrow, by level, so that a level's problems are about as hard."""

_TRIES_FOR_A_NEW_ONE = 100
_QUERY = "What is {} ?"


def demo_problems(split: Split, n: int, seed: int, levels: Sequence[int] = LEVELS) -> list[Problem]:
    """`n` problems of a split, their levels in turn; more of the same seed and levels extend the list.

    Expressions repeat only where a level has no more of them to give: level 1 has some seventy in the
    calibrate and test splits. `metadata["level"]` is the number of operations. Raises ConfigError for an
    unknown split or level or a negative `n`.
    """
    if split not in get_args(Split):
        raise ConfigError(f"The demo data set has no split {split!r}; it has {', '.join(get_args(Split))}.")
    if n < 0:
        raise ConfigError(f"The number of demo problems is {n}; it must be at least 0.")
    if not levels or not set(levels) <= set(LEVELS):
        raise ConfigError(f"The demo levels are {list(levels)}; choose from {list(LEVELS)}.")
    rng = random.Random(f"demo-{split}-{seed}")
    seen: set[Expression] = set()
    problems = []
    for index in range(n):
        expression = _draw_new(rng, split, levels[index % len(levels)], seen)
        seen.add(expression)
        problems.append(
            Problem(
                id=f"demo-{split}-{seed}-{index}",
                query=_QUERY.format(expression),
                answer=str(expression.result),
                metadata={"level": expression.level},
            )
        )
    return problems


def expression_of(problem: Problem) -> Expression:
    """The expression that a demo problem asks about. Raises ValueError where it is not a demo problem."""
    before, after = _QUERY.split("{}")
    return parse_expression(problem.query.removeprefix(before).removesuffix(after))


def _draw_new(rng: random.Random, split: Split, level: int, seen: set[Expression]) -> Expression:
    fewest, most = _CARRYING_STEPS[level]
    tries = 0
    while True:
        expression = draw_expression(rng, level)
        if split_of(expression) != split or not fewest <= expression.carrying_steps <= most:
            continue
        tries += 1
        if expression not in seen or tries > _TRIES_FOR_A_NEW_ONE:
            return expression
