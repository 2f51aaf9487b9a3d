"""A model ready to answer: what every strategy builds on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any, TypeAlias, cast

from pts.decoding.answers import ENDED, Answer, FinishReason, TokenUsage
from pts.decoding.budget import BudgetGuide
from pts.decoding.context_match import Contexts, Trail
from pts.decoding.limits import ThinkingBudget, TokenLimits
from pts.decoding.think_format import ThinkFormat
from pts.errors import ConfigError
from pts.graders.run_on import FINAL_CHANNEL
from pts.models.prompt import PromptFormat
from pts.policies.protocol import Prompt, SteerablePolicy
from pts.records import RolloutRequest, Sampling, TokenIds
from pts.seeds import derive_seed

Listener: TypeAlias = Callable[[int, int], None]
"""Hears of every token as it is written: the question's index, and the token."""


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt to be answered, with the seed of its random draws.

    `variant` says which of the steerings that the session was opened with is on; 0 is the model as it is.
    """

    id: str
    prompt: Prompt
    seed: int = 0
    variant: int = 0


@dataclass(frozen=True, slots=True)
class Ask:
    """One completion asked for, of the question at index `question` of the batch.

    With `prefix` and `budget` it goes on from there, in the same stream of draws: `budget` has counted the
    prefix. `heard`: the listener hears of its tokens as they are written; a strategy that may drop them tells
    what it keeps itself.
    """

    question: int
    prompt: TokenIds
    limits: TokenLimits
    seed: int
    variant: int = 0
    prefix: TokenIds = ()
    budget: BudgetGuide | None = None
    heard: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Draft:
    """A completion as it stopped, prefix included.

    `probs` has the model's own probability of each token after the prefix, before temperature and truncation,
    nan for those put in; () where they were not asked for. `stop` is "pause" where the limits asked for that.
    """

    ask: Ask
    completion: TokenIds
    probs: tuple[float, ...]
    budget: BudgetGuide
    stop: FinishReason | str

    @property
    def new_tokens(self) -> int:
        """Tokens written after the prefix."""
        return len(self.completion) - len(self.ask.prefix)

    @property
    def ended(self) -> bool:
        """Whether the model ended it, by an end token or a stop text."""
        return self.stop in ENDED


@dataclass(slots=True, eq=False)
class Session:
    """A policy with a sampler and a think format.

    `listen` hears of the tokens of completions with a budget.

    With `contexts`, questions are steered only where the tokens so far end with one of them.
    """

    policy: SteerablePolicy
    sampling: Sampling
    think: ThinkFormat | None
    listen: Listener | None = None
    contexts: Contexts | None = None
    _started: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        """Seconds since the batch began."""
        return time.perf_counter() - self._started

    def begin(self) -> None:
        """Start the clock of a batch."""
        self._started = time.perf_counter()

    def encode(self, prompt: Prompt, fmt: PromptFormat | None = None) -> TokenIds:
        """Ids of a prompt in the session's format, or another.

        Raises ConfigError for an empty prompt or one too long for the model with its budget, ModelError where
        the format does not fit the model.
        """
        if isinstance(prompt, str) and not prompt.strip():
            raise ConfigError("the prompt is empty: give a question.")
        ids = self.policy.encode_prompt(prompt, fmt)
        self.policy.check_length(len(ids), self.sampling)
        return ids

    def limits(self, budget: ThinkingBudget) -> TokenLimits:
        """A budget in tokens of this session. Raises ConfigError for one that cannot be kept."""
        end = 0 if self.think is None else len(self.think.end)
        return budget.limits(self.sampling.budget, end)

    def complete(self, asks: Iterable[Ask], *, probs: bool = False) -> Iterator[Draft]:
        """The completions asked for, as they are done; `asks` are read as rows of the batch become free.

        `probs` asks for their tokens' probabilities.
        """
        by_key: dict[str, Ask] = {}
        numbers = count()

        def request(ask: Ask) -> RolloutRequest:
            made = RolloutRequest(
                ask.prompt,
                ask.prefix,
                seed=ask.seed,
                variant=ask.variant,
                guide=partial(self._guide, ask),
                resumed=ask.budget is not None,
                key=str(next(numbers)),
                sampling=self.sampling,
            )
            by_key[made.key] = ask
            return made

        for finished in self.policy.finished(map(request, asks), own_probs=probs):
            rollout = finished.rollout
            ask = by_key.pop(rollout.request.key)
            budget = cast(BudgetGuide, finished.guide) if finished.guide else self._guide(ask)
            stop: FinishReason | str = budget.stopped or "total limit"
            if rollout.finish == "end":
                stop = "end" if rollout.completion[-1] in self.policy.end_token_ids else "stop text"
            yield Draft(ask, rollout.completion, finished.new_probs if probs else (), budget, stop)

    def split(self, draft: Draft) -> tuple[TokenIds, TokenIds]:
        """A draft's thinking and its answer; all of it is answer for a model that does not think."""
        if self.think is None:
            return (), draft.completion
        return self.think.split(draft.completion, self.think.is_open(draft.ask.prompt))

    def texts(self, draft: Draft) -> tuple[str, str, str]:
        """A draft's text, that of its thinking and that of its answer, each up to a stop text in it."""
        parts = (draft.completion, *self.split(draft))
        text, thinking, answer = (self.policy.decode(ids, self.sampling.stop) if ids else "" for ids in parts)
        if draft.stop == "stop text" and len(text) < len(thinking):
            # It begins in the thinking and ends behind it: neither of the two holds it.
            return text, text, ""
        return text, thinking, answer

    def thought(self, draft: Draft) -> bool | None:
        """Whether there is any thinking in a draft but tags and white space; None for a model without tags."""
        if self.think is None:
            return None
        thinking = self.policy.decode(self.split(draft)[0])
        for tag in (self.think.start, self.think.end):
            thinking = thinking.replace(self.policy.decode(tag).strip(), "")
        return bool(thinking.strip())

    def tell(self, question: int, tokens: TokenIds) -> None:
        """Have the listener hear of tokens of the question at this index that were not heard as written."""
        if self.listen is not None:
            for token in tokens:
                self.listen(question, token)

    def answer(
        self, question: Question, draft: Draft, strategy: str, limits: TokenLimits | None = None, **more: Any
    ) -> Answer:
        """A draft as the answer to a question; `more` are further fields of the answer and its usage.

        The budget was kept where thinking, answer and total are within the limits (by default the draft's).
        """
        allowed = draft.ask.limits if limits is None else limits
        budget, completion = draft.budget, draft.completion
        text, thinking, answer = self.texts(draft)
        named = {name: more.pop(name) for name in ("route", "confidence") if name in more}
        closing = 0 if self.think is None else len(self.think.empty)
        within = all(
            limit is None or used <= limit
            for used, limit in (
                # No thinking is what the tags alone take.
                (budget.thinking, closing if allowed.thinking == 0 else allowed.thinking),
                (budget.answer, allowed.answer),
                (budget.total, allowed.total),
            )
        )
        usage = TokenUsage(
            prompt=len(draft.ask.prompt),
            thinking=budget.thinking,
            answer=budget.answer,
            injected=len(budget.injected),
            finish=cast(FinishReason, draft.stop),
            budget_kept=within,
            seconds=self.seconds,
            **more,
        )
        final = answer.rpartition(FINAL_CHANNEL)[2].strip()
        return Answer(
            question.id,
            strategy,
            completion,
            text,
            thinking,
            final,
            usage,
            **named,
            thought=self.thought(draft),
        )

    def _guide(self, ask: Ask) -> BudgetGuide:
        budget = ask.budget
        if budget is None:
            budget = BudgetGuide(
                ask.limits,
                self.think,
                opened=self.think is not None and self.think.is_open(ask.prompt),
                end_token_ids=self.policy.end_token_ids,
                seed=ask.seed,
                trail=None if self.contexts is None else Trail(self.contexts, ask.prompt),
            )
            for token in ask.prefix:
                budget.advance(token)
        else:
            budget = budget.continued(ask.limits)
        budget.listen = None
        if self.listen is not None and ask.heard:
            budget.listen = partial(self.listen, ask.question)
        return budget


def branch_seed(seed: int, branch: int) -> int:
    """The seed of a question's completion number `branch` of several; the first is the question's own."""
    return derive_seed(seed, "branch", branch) if branch else seed
