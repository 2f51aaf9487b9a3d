"""Strategies: how a model's tokens are spent on a question. Each is a small preset."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

from pts.decoding.answers import Answer
from pts.decoding.limits import ThinkingBudget
from pts.decoding.session import Ask, Question, Session
from pts.errors import ConfigError
from pts.models.prompt import PromptFormat
from pts.setting_names import setting

logger = logging.getLogger(__name__)

Reader: TypeAlias = tuple[Session, PromptFormat | None]
"""Who reads a question's prompt, and in which format; None for the session's own."""


class Strategy(Protocol):
    """A way to answer. `name` is as the user gave it, such as budget:64."""

    @property
    def name(self) -> str:
        """Its name with its argument."""

    def check(self, session: Session) -> None:
        """Raise ConfigError or ModelError where the strategy does not fit the session's model."""

    def readers(self, session: Session) -> Sequence[Reader]:
        """All who may read a question's prompt: one that any of them cannot encode cannot be answered."""

    def answers(self, session: Session, questions: Sequence[Question]) -> Iterator[tuple[int, Answer]]:
        """Each question's index and answer, as they are done."""


class OneReader:
    """A strategy whose prompts are read by the session alone, in its own format."""

    __slots__ = ()

    def readers(self, session: Session) -> Sequence[Reader]:
        """The session."""
        return ((session, None),)


@dataclass(frozen=True, slots=True)
class Plain:
    """One completion under one budget; `suffix` is an instruction put after the question."""

    name: str
    budget: ThinkingBudget = ThinkingBudget()  # noqa: RUF009 (frozen)
    suffix: str | None = None

    def check(self, session: Session) -> None:
        """Raise ConfigError for a budget that cannot be kept, or one that needs a model that thinks."""
        require_thinking(self.name, session, self.budget)
        session.limits(self.budget)

    def readers(self, session: Session) -> Sequence[Reader]:
        """The session, with the instruction."""
        return ((session, with_suffix(session, self.suffix)),)

    def answers(self, session: Session, questions: Sequence[Question]) -> Iterator[tuple[int, Answer]]:
        """One completion a question, all in one batch."""
        limits = session.limits(self.budget)
        ((_, fmt),) = self.readers(session)
        asks = [
            Ask(index, session.encode(question.prompt, fmt), limits, question.seed, question.variant)
            for index, question in enumerate(questions)
        ]
        for draft in session.complete(asks):
            index = draft.ask.question
            yield index, session.answer(questions[index], draft, self.name)


def require_thinking(name: str, session: Session, budget: ThinkingBudget) -> None:
    """Raise ConfigError where a budget needs think tags and the model has none, or cannot be extended.

    A budget of thinking that the total leaves no room for is told of in the log: the total alone holds.
    """
    limits = session.limits(budget)
    if limits.thinking is not None and limits.total is not None and limits.thinking > limits.total:
        logger.warning(
            "strategy %s may think for %d tokens of a total of %d: in effect, only the total limits it.",
            name,
            limits.thinking,
            limits.total,
        )
    end = 0 if session.think is None else len(session.think.end)
    if limits.least_thinking and limits.total is not None and limits.least_thinking + end >= limits.total:
        logger.warning(
            "strategy %s thinks for at least %d tokens of a total of %d: there is no room for an answer.",
            name,
            limits.least_thinking,
            limits.total,
        )
    if limits.needs_thinking:
        require_think_format(name, session)
    if limits.thinking == 0 and session.think is not None:
        require_no_stop(name, session, session.policy.decode(session.think.empty))
    if session.think is not None and limits.least_thinking and not session.think.continuations:
        raise ConfigError(
            f"strategy {name} needs a word with which thinking continues: give {setting('continuations')}."
        )


def require_no_stop(name: str, session: Session, text: str) -> None:
    """Raise ConfigError where a text that a strategy puts into its completions would end them."""
    if any(stop in text for stop in session.sampling.stop):
        raise ConfigError(
            f"strategy {name} writes {text!r} itself, which contains a stop text "
            f"({setting('stop')}): give another stop text."
        )


def require_think_format(name: str, session: Session) -> None:
    """Raise ConfigError where the session's model has no think tags that are known."""
    if session.think is None:
        raise ConfigError(
            f"strategy {name} needs a model that thinks, and no think tags of this model are "
            f"known: give {setting('think_start')} and {setting('think_end')}, or choose the "
            "strategy full."
        )


def with_suffix(session: Session, suffix: str | None) -> PromptFormat | None:
    """The session's prompt format with one more instruction after the question; None where there is none."""
    if suffix is None:
        return None
    fmt = session.policy.prompt_format
    return replace(fmt, suffix=suffix if fmt.suffix is None else f"{fmt.suffix}\n{suffix}")
