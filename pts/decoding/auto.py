"""`auto`: a router decides for each question whether and how long the model thinks."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from pts.decoding.answers import Answer
from pts.decoding.limits import ThinkingBudget
from pts.decoding.routers.length import LengthRouter
from pts.decoding.routers.protocol import AUTO_BUDGETS, ClassBudgets, Route, Router
from pts.decoding.session import Ask, Question, Session
from pts.decoding.strategies import OneReader, require_thinking
from pts.decoding.strategy_options import StrategyOptions
from pts.errors import ConfigError

logger = logging.getLogger(__name__)

_ROUTED_AT_ONCE = 64
"""Questions of one call of a router: the batch asks for more as its rows become free."""


@dataclass(frozen=True, slots=True)
class Auto(OneReader):
    """AutoThink's idea (codelion, 2025): each question gets the budget of the class that a router puts it in.

    `budgets` replace the router's own. The answer's `route` is the class, its `confidence` what the router
    gives to that; the router's tokens and seconds are in the usage. Raises ConfigError where one of the
    router's classes has no budget.
    """

    name: str
    router: Router
    budgets: ClassBudgets

    def __post_init__(self) -> None:
        missing = [name for name in self.router.budgets if name not in self.budgets]
        if missing:
            raise ConfigError(
                f"the {self.router.name} router's class {missing[0]} has no budget; there are "
                f"{', '.join(self.budgets)}."
            )

    def check(self, session: Session) -> None:
        """Raise ConfigError or ModelError where a budget or the router does not fit the session's model."""
        for budget in self.budgets.values():
            require_thinking(self.name, session, budget)
        self.router.check(session)

    def answers(self, session: Session, questions: Sequence[Question]) -> Iterator[tuple[int, Answer]]:
        """One completion a question, each under its class's budget, all in one batch."""
        prompts = [session.encode(question.prompt) for question in questions]
        limits = {name: session.limits(budget) for name, budget in self.budgets.items()}
        routes: dict[int, Route] = {}

        def routed(places: Sequence[int]) -> Iterator[Ask]:
            found = self.router.route(session, [questions[at] for at in places], [prompts[at] for at in places])
            for at, route in zip(places, found, strict=True):
                routes[at] = route
                yield Ask(at, prompts[at], limits[route.name], questions[at].seed, questions[at].variant)

        places = range(len(questions))
        batches = (places[start : start + _ROUTED_AT_ONCE] for start in places[::_ROUTED_AT_ONCE])
        asks = chain.from_iterable(map(routed, batches))
        for draft in session.complete(asks):
            index = draft.ask.question
            route = routes[index]
            yield (
                index,
                session.answer(
                    questions[index],
                    draft,
                    self.name,
                    route=route.name,
                    confidence=route.confidence,
                    router=route.tokens,
                    router_seconds=route.seconds,
                ),
            )


def make_auto(name: str, _number: int, options: StrategyOptions) -> Auto:
    """`auto` by the router that was chosen; where there is none by prompt length, which it says in the log.

    Of the options' own budget the limits on answer and thought switches hold in every class that has none.
    """
    router = length_router(options.budgets) if options.router is None else options.router
    budgets = router.budgets if options.budgets is None else options.budgets
    common = ThinkingBudget(answer=options.budget.answer, switches=options.budget.switches)
    return Auto(name, router, {name: budget.within(common) for name, budget in budgets.items()})


def length_router(budgets: ClassBudgets | None = None) -> LengthRouter:
    """The router by prompt length, for want of a fitted one, which it says in the log."""
    router = LengthRouter(budgets=AUTO_BUDGETS if budgets is None else budgets)
    logger.warning(
        "auto has no fitted router (`pts fit-router` makes one). It uses prompt length instead, "
        "and takes a prompt of more than %d tokens for hard.",
        router.long,
    )
    return router
