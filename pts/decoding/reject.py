"""Several branches at once, the worst of them dropped as they go."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from pts.decoding.answers import Answer
from pts.decoding.confidence import mean_log_prob, require_draws
from pts.decoding.limits import Amount, ThinkingBudget, TokenLimits, tokens_of
from pts.decoding.session import Ask, Draft, Question, Session, branch_seed
from pts.decoding.strategies import OneReader, require_thinking
from pts.errors import ConfigError
from pts.policies.protocol import Prompt
from pts.records import TokenIds

STEP, SHARE = 1 / 8, 0.5


@dataclass(frozen=True, slots=True)
class Written:
    """What a scorer sees of a branch: the question, the completion so far and each of its tokens' probability.

    `probs` are the model's own, before temperature and truncation, nan for a token that was put in; `ended`
    says whether the completion is whole.
    """

    question: Prompt
    text: str
    completion: TokenIds
    probs: tuple[float, ...]
    ended: bool


@dataclass(frozen=True, slots=True)
class Score:
    """How good a branch looks, higher is better, and how many tokens a model read or wrote to say so."""

    value: float
    tokens: int = 0


Scorer: TypeAlias = Callable[[Written], Score]
"""From a branch to its score: a reward model, or any function of the text."""


def likelihood(written: Written) -> Score:
    """The mean log-probability of the branch's tokens; it reads nothing."""
    return Score(mean_log_prob(written.probs))


@dataclass(slots=True, eq=False)
class _Branch:
    """A branch of a race: its last draft and what came before that."""

    ask: Ask
    completion: TokenIds = ()
    probs: tuple[float, ...] = ()
    draft: Draft | None = None
    score: float = 0.0
    over: bool = False


@dataclass(slots=True, eq=False)
class _Race:
    """One question's branches that are left, the best first, and what was spent besides."""

    index: int
    question: Question
    branches: list[_Branch]
    rejected: int = 0
    scorer: int = 0
    under_way: list[_Branch] = field(default_factory=list)

    @property
    def over(self) -> bool:
        return all(branch.over for branch in self.branches)


@dataclass(frozen=True, slots=True)
class Reject(OneReader):
    """`n` branches within `budget`, the worst `share` of those left dropped in every round until one is left.

    Speculative rejection (Sun et al. 2024) in rounds of `step` tokens (a share of the total where it is a
    float). Branches that have ended, by themselves or by a limit, stay in the race with their score; where all
    that are left have ended the best scored is returned. At least one branch is dropped in each round. The
    tokens of dropped branches are `rejected`, those that the scorer took are `scorer`. Raises ConfigError for a
    step below 1 or a share outside (0, 1).
    """

    name: str
    n: int
    scorer: Scorer = likelihood
    step: Amount = STEP
    share: float = SHARE
    budget: ThinkingBudget = ThinkingBudget()  # noqa: RUF009 (frozen)

    def __post_init__(self) -> None:
        if self.step <= 0 or (isinstance(self.step, float) and self.step > 1):
            raise ConfigError(
                f"branches are compared every {self.step:g} tokens: give whole tokens above 0, or a share of "
                "the total up to 1."
            )
        if not 0 < self.share < 1:
            raise ConfigError(f"the share of branches to drop is {self.share:g}; it must be between 0 and 1.")

    def check(self, session: Session) -> None:
        """Raise ConfigError for a greedy sampler, whose branches are all the same, or an unfit budget."""
        require_draws(self.name, session)
        require_thinking(self.name, session, self.budget)

    def answers(self, session: Session, questions: Sequence[Question]) -> Iterator[tuple[int, Answer]]:
        """Rounds over all questions at once; a question is answered after the round that decides it."""
        limits = session.limits(self.budget)
        races = [self._race(session, index, question, limits) for index, question in enumerate(questions)]
        while races:
            self._round(session, races)
            for race in races:
                self._drop(session, race)
            for race in races:
                if race.over:
                    yield race.index, self._answer(session, race, limits)
            races = [race for race in races if not race.over]

    def _race(self, session: Session, index: int, question: Question, limits: TokenLimits) -> _Race:
        prompt = session.encode(question.prompt)
        asks = [
            Ask(index, prompt, limits, branch_seed(question.seed, k), question.variant, heard=False)
            for k in range(self.n)
        ]
        return _Race(index, question, [_Branch(ask) for ask in asks])

    def _round(self, session: Session, races: Sequence[_Race]) -> None:
        """Let every branch that is not over write on: by one step, or to its end where it is alone."""
        asks: dict[int, tuple[_Branch, Ask]] = {}
        for race in races:
            alone = len(race.branches) == 1
            race.under_way = [branch for branch in race.branches if not branch.over]
            for branch in race.under_way:
                ask = branch.ask if alone else replace(branch.ask, limits=self._limits(session, branch))
                asks[id(ask)] = (branch, ask)
        for draft in session.complete([ask for _, ask in asks.values()], probs=True):
            branch, _ = asks[id(draft.ask)]
            branch.draft, branch.completion = draft, draft.completion
            branch.probs += draft.probs
            whole = draft.budget.total >= session.sampling.budget
            branch.over = whole or draft.ended or draft.stop == "answer limit"
            branch.ask = replace(branch.ask, prefix=draft.completion, budget=draft.budget)

    def _limits(self, session: Session, branch: _Branch) -> TokenLimits:
        """The branch's limits for one step more."""
        total = session.sampling.budget
        step = max(1, tokens_of(self.step, total) or 0)
        return replace(branch.ask.limits, total=min(len(branch.completion) + step, total))

    def _drop(self, session: Session, race: _Race) -> None:
        """Score what has been written since and leave the worst branches behind."""
        if len(race.branches) == 1:
            return
        for branch in race.under_way:
            text = session.policy.decode(branch.completion, session.sampling.stop)
            written = Written(race.question.prompt, text, branch.completion, branch.probs, branch.over)
            score = self.scorer(written)
            if math.isnan(score.value):
                raise ConfigError(f"the scorer of strategy {self.name} gave a branch no number: {text!r}.")
            branch.score = score.value
            race.scorer += score.tokens
        ranked = sorted(race.branches, key=lambda branch: -branch.score)
        survivors = ranked[: len(ranked) - max(1, int(self.share * len(ranked)))]
        if all(branch.over for branch in survivors):
            survivors = survivors[:1]
        race.rejected += sum(len(branch.completion) for branch in race.branches if branch not in survivors)
        race.branches = survivors

    def _answer(self, session: Session, race: _Race, limits: TokenLimits) -> Answer:
        (branch,) = race.branches
        assert branch.draft is not None
        session.tell(race.index, branch.completion)
        spent = {"rejected": race.rejected, "scorer": race.scorer}
        return session.answer(race.question, branch.draft, self.name, limits, **spent)
