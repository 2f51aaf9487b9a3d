"""A control: classes drawn at random, with the shares that another router gave them."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pts.decoding.routers.protocol import AUTO_BUDGETS, ClassBudgets, Route
from pts.decoding.session import Question, Session
from pts.errors import ConfigError
from pts.records import TokenIds
from pts.seeds import derive_seed


@dataclass(frozen=True, slots=True)
class RandomRouter:
    """Each question's class drawn on its own, by `shares`, from the question's seed and `seed`.

    Raises ConfigError for shares that are negative or do not add up to 1, and a class without a budget.
    """

    shares: Mapping[str, float]
    seed: int = 0
    budgets: ClassBudgets = field(default_factory=lambda: AUTO_BUDGETS)
    name: str = "random"

    def __post_init__(self) -> None:
        total = math.fsum(self.shares.values())
        if not math.isclose(total, 1, abs_tol=1e-6) or min(self.shares.values()) < 0:
            raise ConfigError(
                f"the random router's shares are {dict(self.shares)}; they must be 0 or more and add up to 1."
            )
        missing = [name for name in self.shares if name not in self.budgets]
        if missing:
            raise ConfigError(
                f"the random router's class {missing[0]} has no budget; there are {', '.join(self.budgets)}."
            )

    def check(self, session: Session) -> None:
        """It fits every model."""

    def route(
        self,
        session: Session,  # noqa: ARG002 - the signature is the protocol's
        questions: Sequence[Question],
        prompts: Sequence[TokenIds],  # noqa: ARG002
    ) -> list[Route]:
        """A draw for each question."""
        return [Route(self._drawn(question.seed), self.shares) for question in questions]

    def _drawn(self, seed: int) -> str:
        draw = random.Random(derive_seed(seed, "random router", self.seed))
        names = list(self.shares)
        return draw.choices(names, [self.shares[name] for name in names])[0]
