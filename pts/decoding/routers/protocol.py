"""What a router is: it puts each question in a class, and each class has its budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from pts.decoding.limits import Amount, ThinkingBudget
from pts.decoding.session import Question, Session
from pts.records import TokenIds

ClassBudgets: TypeAlias = Mapping[str, ThinkingBudget]
"""The classes of a router by name, each with the budget of its questions."""

NONE, EASY, HARD = "none", "easy", "hard"
"""The classes where a router has no others: no thinking at all, a little, much."""


def auto_budgets(
    easy: tuple[Amount, Amount] = (0.2, 0.4),
    hard: tuple[Amount, Amount] = (0.7, 0.9),
    switches: int | None = None,
) -> ClassBudgets:
    """The three classes' budgets: least and most thinking of the easy and the hard, and thought switches.

    The shares are AutoThink's (codelion, 2025): 20–40% of the total for an easy question, 70–90% for a hard
    one. Raises ConfigError for a value outside its range.
    """
    return {
        NONE: ThinkingBudget(thinking=0),
        EASY: ThinkingBudget(thinking=easy[1], least_thinking=easy[0], switches=switches),
        HARD: ThinkingBudget(thinking=hard[1], least_thinking=hard[0], switches=switches),
    }


AUTO_BUDGETS = auto_budgets()


@dataclass(frozen=True, slots=True)
class Route:
    """One question's class.

    `probabilities` has what the router gives to each class: how likely the class is, or for a fitted probe how
    likely the model is right with the class's budget. `seconds` is the question's share of the time that
    routing took, `tokens` what was generated or read for it beyond the prompt.
    """

    name: str
    probabilities: Mapping[str, float]
    seconds: float = 0.0
    tokens: int = 0

    @property
    def confidence(self) -> float:
        """The chosen class's probability."""
        return self.probabilities[self.name]


class Router(Protocol):
    """Puts questions in classes. `budgets` has every class that it may name, with its budget."""

    @property
    def name(self) -> str:
        """What the router is called."""

    @property
    def budgets(self) -> ClassBudgets:
        """Its classes, each with its budget."""

    def check(self, session: Session) -> None:
        """Raise ConfigError or ModelError where the router does not fit the session's model."""

    def route(
        self, session: Session, questions: Sequence[Question], prompts: Sequence[TokenIds]
    ) -> list[Route]:
        """The questions' classes, in their order; `prompts` are their ids. Depends on each question alone."""
