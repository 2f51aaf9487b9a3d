"""The grades of a problem's completions, each distinct completion graded once."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np

from pts.pivot_search.config import Grade
from pts.pivot_search.values import GradedRollout
from pts.policies.protocol import Policy
from pts.records import Finish, Rollout, TokenIds


class CompletionGrades:
    """Grades completions of one problem, read up to a stop text. One that the budget cut fails, unread."""

    def __init__(self, policy: Policy, grade: Grade, answer: str, stop: Sequence[str] = ()) -> None:
        self._policy = policy
        self._grade = grade
        self._answer = answer
        self._stop = stop
        self._known: dict[bytes, bool] = {}

    def success(self, completion: TokenIds, finish: Finish) -> bool:
        """Whether a completion is right."""
        if finish == "budget":
            return False
        # A digest in place of the completion, which would stay until the problem ends.
        key = blake2b(np.asarray(completion, dtype=np.int64).tobytes(), digest_size=16).digest()
        if key not in self._known:
            self._known[key] = self._grade(self._policy.decode(completion, self._stop), self._answer)
        return self._known[key]

    def graded(self, rollouts: Sequence[Rollout]) -> list[GradedRollout]:
        """All rollouts of one request with their grades, in an order that is not that of their ends."""
        return [
            GradedRollout(
                each.request,
                each.completion,
                each.count,
                self.success(each.completion, each.finish),
                each.finish,
            )
            for each in sorted(rollouts, key=lambda rollout: rollout.completion)
        ]
