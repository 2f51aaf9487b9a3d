"""Thinking budgets: how long a completion may think, answer and be in all."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TypeAlias

from pts.errors import ConfigError

Amount: TypeAlias = int | float
"""Tokens where it is an int, a share of the total where it is a float (0.4 is 40%)."""


@dataclass(frozen=True, slots=True)
class TokenLimits:
    """The limits of one completion, in tokens; None is no limit.

    `thinking` counts everything from the start sequence (or the prompt that opened it) to the end sequence,
    both included; 0 is no thinking at all. Before `least_thinking` tokens an end of thinking is replaced by a
    continuation. `answer` counts what follows, `total` everything. `switches` is how many times a thought may
    turn before its end is forced; with `pause` the completion stops where a thought turns, and with
    `pause_after` also at the first end of a sentence after so many tokens since it began or went on.
    """

    thinking: int | None = None
    least_thinking: int = 0
    answer: int | None = None
    total: int | None = None
    switches: int | None = None
    pause: bool = False
    pause_after: int | None = None

    @property
    def needs_thinking(self) -> bool:
        """Whether they mean anything only to a model that thinks."""
        return self.thinking is not None or self.least_thinking > 0 or self.switches is not None or self.pause


@dataclass(frozen=True, slots=True)
class ThinkingBudget:
    """Limits as a user gives them: in tokens, or as shares of the total. Fields are those of `TokenLimits`."""

    thinking: Amount | None = None
    least_thinking: Amount = 0
    answer: Amount | None = None
    switches: int | None = None

    def __post_init__(self) -> None:
        for entry in fields(self):
            value, name = getattr(self, entry.name), entry.name.replace("_", " ")
            if value is not None and value < 0:
                raise ConfigError(f"the limit {name} is {value}; it must be at least 0.")
            if isinstance(value, float) and value > 1:
                raise ConfigError(
                    f"the limit {name} is {value:g} of the total; give a share from 0 to 1, or whole tokens."
                )

    def within(self, other: ThinkingBudget) -> ThinkingBudget:
        """This budget, with the other's limits where it has none; without thinking those on it say nothing."""
        if self.thinking == 0:
            other = ThinkingBudget(answer=other.answer)
        return ThinkingBudget(
            other.thinking if self.thinking is None else self.thinking,
            self.least_thinking or other.least_thinking,
            other.answer if self.answer is None else self.answer,
            other.switches if self.switches is None else self.switches,
        )

    def limits(self, total: int, end_length: int) -> TokenLimits:
        """The limits in tokens of a completion of `total` tokens, whose end of thinking takes `end_length`.

        Raises ConfigError for a limit on thinking that the end sequence alone would pass (0 is no thinking),
        and for a minimum above the limit or the total.
        """
        thinking, least = tokens_of(self.thinking, total), tokens_of(self.least_thinking, total) or 0
        if thinking and thinking < end_length:
            raise ConfigError(
                f"a thinking budget of {thinking} tokens is below the {end_length} that end thinking: give at "
                f"least {end_length}, or 0 for none."
            )
        if least > total:
            raise ConfigError(f"a minimum of {least} tokens of thinking is more than the total of {total}.")
        if thinking is not None and least > thinking:
            raise ConfigError(
                f"a minimum of {least} tokens of thinking is more than the maximum of {thinking}."
            )
        return TokenLimits(thinking, least, tokens_of(self.answer, total), total, self.switches)


def tokens_of(amount: Amount | None, total: int) -> int | None:
    """An amount in tokens, rounded down; None for none."""
    return int(amount * total) if isinstance(amount, float) else amount
