"""What a strategy gives back: an answer, and the tokens and seconds that it cost."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal, TypeAlias

from pts.records import TokenIds

FinishReason: TypeAlias = Literal["end", "stop text", "answer limit", "total limit"]
ENDED = ("end", "stop text")
"""Reasons for which a completion is whole: the model wrote an end token or a stop text."""


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """What one answer cost, in tokens and seconds.

    `thinking` and `answer` are the tokens of the completion that is returned, of which `injected` were put in.
    The others are generated tokens of which nothing is left in it: `probe` (trial answers), `rejected`
    (branches and words dropped), `scorer`, `router` (what a router generated or read beyond the prompt) and
    `second_model` (where a second model answered, its whole completion is counted there, and `thinking` and
    `answer` are 0). `seconds` run from the start of the batch until the answer was there, `router_seconds` are
    those of them that routing took.
    """

    prompt: int
    thinking: int
    answer: int
    injected: int
    finish: FinishReason
    budget_kept: bool
    seconds: float
    probe: int = 0
    rejected: int = 0
    scorer: int = 0
    router: int = 0
    second_model: int = 0
    router_seconds: float = 0.0

    @property
    def ended(self) -> bool:
        """Whether the model ended the completion, rather than a limit."""
        return self.finish in ENDED

    @property
    def total(self) -> int:
        """All tokens spent after the prompt."""
        spent = (self.thinking, self.answer, self.probe, self.rejected, self.scorer, self.router)
        return sum(spent) + self.second_model

    def to_json(self) -> dict[str, object]:
        """All of it with the total, for machines."""
        return {**asdict(self), "total": self.total}


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to one question, with its thinking and what it cost.

    `completion` is the whole completion as token ids, `text` the same as text. `thinking` and `answer` are its
    two parts; `answer` is empty if a limit cut the completion within its thinking. `route` is the strategy's
    decision for this question, if it makes one (a router's class, the model that answered), with its
    `confidence`. `thought` says whether there is any thinking in it but tags and white space (None where
    no think tags of the model are known). `usage` counts tokens and seconds.

        answer = pts.decode("demo", "What is 17 + 5 ?", strategy="auto", vectors="demo")
        print(answer.answer, answer.route, answer.usage.total)
    """

    question: str
    strategy: str
    completion: TokenIds
    text: str
    thinking: str
    answer: str
    usage: TokenUsage
    route: str | None = None
    confidence: float | None = None
    thought: bool | None = None

    def __str__(self) -> str:
        """The answer as text, or all that was written where a limit cut it within its thinking."""
        return self.answer or self.text

    def to_json(self) -> dict[str, object]:
        """The answer without its token ids, for machines."""
        return {
            "id": self.question,
            "strategy": self.strategy,
            "answer": self.answer,
            "thinking": self.thinking,
            "route": self.route,
            "confidence": self.confidence,
            # The key that readers of `pts decode --json` know.
            "ledger": self.usage.to_json(),
        }
