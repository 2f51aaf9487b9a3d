"""A second, larger model answers what the first is not sure of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import get_args

from pts.decoding.answers import Answer
from pts.decoding.confidence import Over, confidence_of
from pts.decoding.limits import ThinkingBudget
from pts.decoding.session import Ask, Draft, Question, Session
from pts.decoding.strategies import Reader, require_thinking
from pts.decoding.think_format import ThinkFormat, find_think_format
from pts.errors import ConfigError
from pts.models.load import LoadedModel
from pts.models.prompt import PromptFormat
from pts.policies import policy_of
from pts.records import Sampling, TokenIds
from pts.seeds import derive_seed
from pts.setting_names import setting

THRESHOLD = 0.9


@dataclass(frozen=True, slots=True, eq=False)
class _Unsure:
    """A completion that the first model is not sure of, and the prompt as the second reads it."""

    draft: Draft
    confidence: float
    prompt: TokenIds


@dataclass(frozen=True, slots=True)
class Escalate:
    """One completion; where the model is not sure of it, by `threshold`, a second model's is returned instead.

    After RouteLLM (Ong et al. 2024) and Self-REF (Chuang et al. 2024). The confidence is the geometric mean
    of the model's own probabilities of the tokens of the whole completion or, with `over` "answer", of what
    follows its thinking; 0 where there is no answer. A model that thinks mostly copies its last thought, and is
    sure of it however wrong the thought: hence the whole. The second model answers within its own total,
    unsteered, with its own prompt format; `budget` holds for both (shares are of each one's own total). Then
    the first's tokens are `rejected` and the second's `second_model`, `thinking` and `answer` are 0 and
    `prompt` counts both prompts; `route` is "first" or "second" and `confidence` the first's. Raises
    ConfigError for a threshold outside [0, 1], or another `over`.
    """

    name: str
    second: Callable[[], Session] | None
    threshold: float = THRESHOLD
    over: Over = "completion"
    budget: ThinkingBudget = ThinkingBudget()  # noqa: RUF009 (frozen)

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ConfigError(f"the escalation threshold is {self.threshold:g}; it must be from 0 to 1.")
        if self.over not in get_args(Over):
            raise ConfigError(f"the confidence can be over the completion or the answer, not {self.over!r}.")

    def check(self, session: Session) -> None:
        """Raise ConfigError for no second model, or a budget that does not fit both."""
        require_thinking(self.name, session, self.budget)
        if self.second is None:
            raise ConfigError(f"strategy {self.name} needs a second model: give {setting('second_model')}.")
        require_thinking(f"{self.name} (the second model's part)", self.second(), self.budget)

    def readers(self, session: Session) -> Sequence[Reader]:
        """Both models' sessions: which of the prompts the second reads is not known before."""
        assert self.second is not None
        return ((session, None), (self.second(), None))

    def answers(self, session: Session, questions: Sequence[Question]) -> Iterator[tuple[int, Answer]]:
        """The first model's batch, with its confident answers as they are done; then the second's."""
        assert self.second is not None
        limits = session.limits(self.budget)
        # Before anything is generated: a prompt that the second model cannot read is told of.
        for_second = [self.second().encode(question.prompt) for question in questions]
        asks = [
            Ask(index, session.encode(question.prompt), limits, question.seed, question.variant, heard=False)
            for index, question in enumerate(questions)
        ]
        unsure: dict[int, _Unsure] = {}
        for draft in session.complete(asks, probs=True):
            index, confidence = draft.ask.question, confidence_of(session, draft, self.over)
            if confidence < self.threshold:
                unsure[index] = _Unsure(draft, confidence, for_second[index])
                continue
            session.tell(index, draft.completion)
            yield (
                index,
                session.answer(questions[index], draft, self.name, route="first", confidence=confidence),
            )
        if unsure:
            yield from self._escalated(session, questions, unsure)

    def _escalated(
        self, session: Session, questions: Sequence[Question], unsure: Mapping[int, _Unsure]
    ) -> Iterator[tuple[int, Answer]]:
        assert self.second is not None
        second = self.second()
        limits = second.limits(self.budget)
        asks = [
            Ask(index, unsure[index].prompt, limits, derive_seed(questions[index].seed, "second"))
            for index in sorted(unsure)
        ]
        for draft in second.complete(asks):
            index = draft.ask.question
            first = unsure[index]
            own = second.answer(questions[index], draft, self.name, route="second", confidence=first.confidence)
            usage = replace(
                own.usage,
                prompt=own.usage.prompt + len(first.draft.ask.prompt),
                thinking=0,
                answer=0,
                rejected=len(first.draft.completion),
                second_model=len(draft.completion),
                seconds=session.seconds,
            )
            yield index, replace(own, usage=usage)


def second_model(
    loaded: LoadedModel,
    sampling: Sampling = Sampling(),  # noqa: B008 (frozen)
    prompt_format: PromptFormat = PromptFormat(),  # noqa: B008 (frozen)
    think: ThinkFormat | None = None,
    batch_rows: int | None = None,
) -> Callable[[], Session]:
    """What makes a session of a loaded model, with its own sampler and formats, the first time it is needed."""

    @cache
    def session() -> Session:
        policy = policy_of(loaded, prompt_format, batch_rows=batch_rows)
        found = find_think_format(loaded.tokenizer, prompt_format) if think is None else think
        return Session(policy, sampling, found)

    return session
