"""A grader, a router, a strategy and a policy for pts, each as small as it can be."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pts.decoding import Question, Session, StrategyEntry
from pts.decoding.answers import Answer
from pts.decoding.limits import ThinkingBudget
from pts.decoding.routers import AUTO_BUDGETS, ClassBudgets, Route
from pts.decoding.session import Ask, branch_seed
from pts.decoding.strategies import OneReader, require_thinking
from pts.decoding.strategy_options import StrategyOptions
from pts.errors import ConfigError, GraderError
from pts.policies import PolicyIdentity, as_source
from pts.policies.source import RolloutRequests
from pts.records import Problem, Rollout, Sampling, TokenDistribution, TokenIds


class LastLine:
    """Right where the completion's last line is the reference answer."""

    def check_reference(self, answer: str) -> None:
        """Raise GraderError for an answer that no completion can match."""
        if "\n" in answer:
            raise GraderError("the grader last-line needs answers of one line.")

    def __call__(self, completion: str, answer: str) -> bool:
        """Compare the last line, without regard to case."""
        lines = completion.strip().splitlines()
        return bool(lines) and lines[-1].strip().lower() == answer.strip().lower()


@dataclass(frozen=True)
class WordsRouter:
    """A question of more than `limit` words is hard, any other easy."""

    limit: int
    budgets: ClassBudgets
    name: str = "words"

    def check(self, session: Session) -> None:
        """It fits every model."""

    def route(
        self, session: Session, questions: Sequence[Question], prompts: Sequence[TokenIds]
    ) -> list[Route]:
        """Each question's class; the number beside it is how likely the router takes it to be."""
        words = [len(str(question.prompt).split()) for question in questions]
        names = ["hard" if count > self.limit else "easy" for count in words]
        return [Route(name, {name: 1.0}) for name in names]


def words_router(argument: str | None, budgets: ClassBudgets) -> WordsRouter:
    """The router that `--router words:LIMIT` names; `budgets` are those given by `--class-budget`."""
    if argument is None or not argument.isdigit():
        raise ConfigError("the router words needs a number of words, such as words:20.")
    return WordsRouter(int(argument), {**AUTO_BUDGETS, **budgets})


@dataclass(frozen=True)
class Shortest(OneReader):
    """The shortest of several completions."""

    name: str
    n: int
    budget: ThinkingBudget

    def check(self, session: Session) -> None:
        """Raise ConfigError for a budget that does not fit the model."""
        require_thinking(self.name, session, self.budget)

    def answers(self, session: Session, questions: Sequence[Question]) -> Iterator[tuple[int, Answer]]:
        """One question after the other: draw its completions in one batch, keep the shortest."""
        limits = session.limits(self.budget)
        for index, question in enumerate(questions):
            prompt = session.encode(question.prompt)
            asks = [
                Ask(index, prompt, limits, branch_seed(question.seed, k), question.variant, heard=False)
                for k in range(self.n)
            ]
            drafts = sorted(session.complete(asks), key=lambda draft: (draft.new_tokens, draft.completion))
            rejected = sum(draft.new_tokens for draft in drafts[1:])
            yield index, session.answer(question, drafts[0], self.name, rejected=rejected)


def make_shortest(name: str, number: int, options: StrategyOptions) -> Shortest:
    """The strategy that `--strategy shortest:N` names."""
    return Shortest(name, number, options.budget)


SHORTEST = StrategyEntry(
    argument="N",
    summary="N completions, and the shortest of them",
    source="an example",
    make=make_shortest,
    uses=frozenset({"thinking", "least_thinking", "answer", "switches"}),
)

TAILS, HEADS, END = 0, 1, 2
WORDS = {TAILS: "tails", HEADS: "heads", END: ""}


@dataclass(frozen=True)
class Coins:
    """A policy that tosses one coin: heads with probability `bias`, then the end."""

    bias: float
    identity: PolicyIdentity
    end_token_ids: tuple[int, ...] = (END,)
    vocabulary_size: int = 3

    def encode(self, problem: Problem) -> TokenIds:
        return (END,)

    def encode_completion(self, text: str) -> TokenIds:
        return tuple({word: token for token, word in WORDS.items()}[word] for word in text.split())

    def decode(self, ids: TokenIds, stop: Sequence[str] = ()) -> str:
        return " ".join(WORDS[token] for token in ids if token != END)

    def end_of_stop(self, completion: TokenIds, stop: Sequence[str]) -> int | None:
        return None

    def check_length(self, prompt: int, sampling: Sampling) -> None:
        if sampling.budget < 2:
            raise ConfigError("a toss takes 2 tokens: give a budget of 2 or more.")

    def next_token_probs(
        self, prompt: TokenIds, completion: TokenIds, sampling: Sampling
    ) -> Sequence[TokenDistribution]:
        toss = TokenDistribution(np.array([HEADS, TAILS]), np.array([self.bias, 1 - self.bias]))
        end = TokenDistribution(np.array([END]), np.array([1.0]))
        return [toss, end][: len(completion)]

    def rollouts(self, requests: RolloutRequests) -> Iterator[Rollout]:
        source = as_source(requests)
        while taken := source.take(100):
            for request in taken:
                heads = self.bias
                if request.prefix or request.force is not None:
                    heads = float((request.prefix or (request.force,))[0] == HEADS)
                elif request.avoid is not None:
                    heads = float(request.avoid == TAILS)
                count = int(np.random.default_rng(request.seed).binomial(request.n, heads))
                for token, times in ((HEADS, count), (TAILS, request.n - count)):
                    if times:
                        yield Rollout(request, (token, END), times, "end")


def open_coins(spec: str, *, bias: float = 0.5, **_: object) -> Coins:
    """The policy that `open_policy(spec, engine="coins")` gives."""
    return Coins(bias, PolicyIdentity(spec))
