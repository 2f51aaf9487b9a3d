"""What a search needs of the journal of its rollouts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from pts.pivot_search.config import Phase
from pts.pivot_search.values import GradedRollout
from pts.records import RolloutRequest, TokenIds


class RolloutRecorder(Protocol):
    """Writes down the graded rollouts of every request, and finds those of an earlier session again."""

    def recall(self, problem_id: str, request: RolloutRequest) -> list[GradedRollout] | None:
        """All rollouts recorded for the very same request, in order; None where there are none."""

    def screened(self, problem_id: str, prompt: TokenIds) -> list[GradedRollout]:
        """All rollouts of a problem's screen, in order; `prompt` is that of their requests."""

    def record(self, problem_id: str, phase: Phase, rollouts: Sequence[GradedRollout]) -> None:
        """Write down all rollouts of one request; they may be on the disk only after `flush`."""

    def flush(self) -> None:
        """A good moment to write what waits: the policy is about to generate more."""
