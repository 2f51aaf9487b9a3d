"""`model`: the model decides by its own first tokens whether it thinks, as one trained by AdaptThink does."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pts.decoding.answers import Answer
from pts.decoding.limits import ThinkingBudget
from pts.decoding.session import Ask, Question, Session
from pts.decoding.strategies import OneReader, require_think_format, require_thinking
from pts.decoding.think_format import ThinkFormat
from pts.errors import ConfigError
from pts.models.think_tag import last_end
from pts.records import TokenIds
from pts.setting_names import setting

THINKS, DOES_NOT = "think", "none"
"""The two routes; the second has the name of a router's class without thinking."""


@dataclass(frozen=True, slots=True)
class OwnChoice(OneReader):
    """One completion after the prompt with thinking, nothing forced: what `full` writes, token for token.

    The answer's `route` says whether it thought, its `confidence` how likely that was. The probability of not
    thinking is that of the tokens which stand for no thinking, under the sampler, without steering: an answer
    that is steered has no confidence.
    """

    name: str
    budget: ThinkingBudget = ThinkingBudget()  # noqa: RUF009 (frozen)

    def check(self, session: Session) -> None:
        """Raise ConfigError for a model or a budget that leaves no choice."""
        require_think_format(self.name, session)
        if session.policy.prompt_format.thinking is False or not _no_thinking(session.think):
            raise ConfigError(
                f"strategy {self.name} lets the model choose whether it thinks, and the prompt has closed "
                f"thinking already: leave {setting('thinking', False)} out, or choose the strategy full."
            )
        if self.budget.thinking == 0:
            raise ConfigError(
                f"strategy {self.name} lets the model choose whether it thinks, and "
                f"{setting('thinking_budget', 0)} takes the choice from it: leave it out."
            )
        require_thinking(self.name, session, self.budget)

    def answers(self, session: Session, questions: Sequence[Question]) -> Iterator[tuple[int, Answer]]:
        """One completion a question, all in one batch."""
        limits = session.limits(self.budget)
        asks = [
            Ask(index, session.encode(question.prompt), limits, question.seed, question.variant)
            for index, question in enumerate(questions)
        ]
        known: dict[TokenIds, float] = {}
        for draft in session.complete(asks):
            question, prompt = questions[draft.ask.question], draft.ask.prompt
            thought, confidence = session.thought(draft), None
            if not question.variant:
                if prompt not in known:
                    known[prompt] = no_thinking_probability(session, prompt)
                confidence = 1 - known[prompt] if thought else known[prompt]
            route = THINKS if thought else DOES_NOT
            answer = session.answer(question, draft, self.name, route=route, confidence=confidence)
            yield draft.ask.question, answer


def no_thinking_probability(session: Session, prompt: TokenIds) -> float:
    """How likely the policy begins an answer to `prompt` as one without thinking begins.

    With the template's own tokens up to the end of thinking; another form, such as other white space between
    the tags, is not counted.
    """
    path = _no_thinking(session.think)
    steps = session.policy.next_token_probs(prompt, path, session.sampling)
    return math.prod(step.prob(token) for step, token in zip(steps, path, strict=False))


def _no_thinking(think: ThinkFormat | None) -> TokenIds:
    """The tokens that stand for no thinking, up to the end of it; () where the prompt has them already."""
    return () if think is None else think.empty[: max(0, last_end(think.closing, think.empty))]
