"""What a run has spent and may spend, in generated tokens, and what of the rest is spoken for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

FULL_COMPLETIONS = 100
"""What the search of a problem takes, in completions of the whole budget, before any has ended."""


class Spender(Protocol):
    """A search under way, as the ledger sees it."""

    @property
    def tokens(self) -> int:
        """Generated so far."""

    @property
    def promised(self) -> int:
        """Expected to be generated for what it waits for, and to confirm what it has advanced."""


@dataclass
class Ledger:
    """Generated tokens of all rollouts delivered so far, against the run's limit (None: no limit).

    `ended` searches took `ended_tokens` in all. Where several processes search one run, `sharers` of them,
    `limit` is what the others left of it and changes as they go on; each promises an equal part of the rest.
    """

    limit: int | None = None
    spent: int = 0
    budget: int = 0
    ended: int = 0
    ended_tokens: int = 0
    sharers: int = 1

    @property
    def exhausted(self) -> bool:
        """Whether the limit is reached."""
        return self.limit is not None and self.spent >= self.limit

    def left(self, others: Iterable[Spender]) -> float:
        """Tokens left when the other searches have what they were promised; infinite without a limit."""
        return self._share - sum(other.promised for other in others)

    def begins_another(self, under_way: Iterable[Spender]) -> bool:
        """Whether another problem's search can be paid for beside those under way; the first one always begins.

        With nothing left every search begins and ends at once, as one that the limit stopped.
        """
        searches = list(under_way)
        if self.limit is None or self.exhausted or not searches:
            return True
        cost = self._problem_cost(searches)
        committed = sum(max(each.promised, cost - each.tokens) for each in searches)
        return self._share - committed >= cost

    @property
    def _share(self) -> float:
        """Tokens that are left for this process; infinite without a limit."""
        return float("inf") if self.limit is None else (self.limit - self.spent) / self.sharers

    def _problem_cost(self, under_way: Iterable[Spender]) -> float:
        """Tokens that the search of a problem is expected to take.

        The cheapest searches end first. So the tokens of those under way are counted with those of the ended,
        and so is one more problem, at 100 completions of the whole budget.
        """
        tokens = self.ended_tokens + sum(each.tokens for each in under_way)
        return (FULL_COMPLETIONS * self.budget + tokens) / (1 + self.ended)
