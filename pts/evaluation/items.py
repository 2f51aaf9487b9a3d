"""What an evaluation keeps of each answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from pts.decoding.answers import TokenUsage

Key: TypeAlias = tuple[str, str, int]
"""An item's system, problem and seed."""


@dataclass(frozen=True, slots=True)
class Item:
    """One answer: to a problem, by the system `line`, with the `seed`-th of the common seeds (from 0).

    `success` is the grader's word on an answer that ended; `readable` says whether the text after the thinking
    holds anything that the grader could read. `digest` begins the problem's own. `router_shares` are those that
    a random router was given. `undecided` is true where the grader could not compare the answer with its
    reference: it counts as wrong. `thought` says whether it has any thinking (None where no think tags are
    known, and in runs of earlier versions). `ledger` is its token usage, under the key that the files of runs
    have.
    """

    line: str
    problem: str
    seed: int
    digest: str
    success: bool
    readable: bool
    answer: str
    reference: str
    ledger: TokenUsage
    route: str | None = None
    confidence: float | None = None
    router_shares: Mapping[str, float] | None = None
    undecided: bool = False
    thought: bool | None = None

    @property
    def key(self) -> Key:
        """What tells it from every other: system, problem, seed."""
        return self.line, self.problem, self.seed

    @property
    def ended(self) -> bool:
        """Whether the model ended it, rather than a limit."""
        return self.ledger.ended
