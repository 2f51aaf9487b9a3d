"""A control: a long question is taken for a hard one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pts.decoding.routers.protocol import AUTO_BUDGETS, EASY, HARD, NONE, ClassBudgets, Route
from pts.decoding.session import Question, Session
from pts.errors import ConfigError
from pts.records import TokenIds


@dataclass(frozen=True, slots=True)
class LengthRouter:
    """By prompt tokens: no thinking up to `short` of them, easy up to `long`, hard beyond.

    By default every question is thought about. Raises ConfigError where the two contradict each other or a
    class has no budget.
    """

    short: int = 0
    long: int = 128
    budgets: ClassBudgets = field(default_factory=lambda: AUTO_BUDGETS)
    name: str = "length"

    def __post_init__(self) -> None:
        if not 0 <= self.short <= self.long:
            raise ConfigError(
                f"the length router's bounds are {self.short} and {self.long} tokens; give 0 or more, the "
                "second not below the first."
            )
        missing = [name for name in (NONE, EASY, HARD) if name not in self.budgets]
        if missing:
            raise ConfigError(f"the length router's class {missing[0]} has no budget; give it one.")

    def check(self, session: Session) -> None:
        """It fits every model."""

    def route(
        self,
        session: Session,  # noqa: ARG002 - the signature is the protocol's
        questions: Sequence[Question],  # noqa: ARG002
        prompts: Sequence[TokenIds],
    ) -> list[Route]:
        """Each prompt's class by its length."""
        return [self._route(len(prompt)) for prompt in prompts]

    def _route(self, tokens: int) -> Route:
        name = NONE if tokens <= self.short else EASY if tokens <= self.long else HARD
        return Route(name, {name: 1.0})
