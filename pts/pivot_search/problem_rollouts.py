"""The rollouts of one problem's search: how they are requested, and what each phase generated."""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeAlias, get_args

from pts.pivot_search.config import Phase
from pts.pivot_search.values import GradedRollout
from pts.records import Completions, RolloutRequest, Sampling, TokenIds

Requests: TypeAlias = list[RolloutRequest]
Answers: TypeAlias = list[list[GradedRollout]] | None
"""One list of graded rollouts a request, in the order of the requests; None where spending has ended."""


class ProblemRollouts:
    """What the search of a problem requests and receives, from the problem's `prompt`, phase by phase.

    `pool` are the rollouts that the screen goes by: those of the range filter and its own. `tokens` and
    `completions` count what each phase generated.
    The key of a request names the problem, the phase, the trace, the look and the position, as far as it has
    them (`gsm8k-17/screen/0/12/57`); the same search asks under the same keys again.
    """

    def __init__(self, problem_id: str, prompt: TokenIds, sampling: Sampling) -> None:
        phases: tuple[Phase, ...] = get_args(Phase)
        self.prompt = prompt
        self.phase: Phase = "range"
        self.pool: list[GradedRollout] = []
        self.tokens: dict[Phase, int] = dict.fromkeys(phases, 0)
        self.completions: dict[Phase, Completions] = dict.fromkeys(phases, Completions())
        self._problem_id = problem_id
        self._sampling = sampling

    def key(self, *names: str | int) -> str:
        """The name of a request: the problem, the phase, and what tells it from the phase's others."""
        return "/".join(map(str, (self._problem_id, self.phase, *names)))

    def request(self, *names: str | int, prefix: TokenIds = (), n: int = 1, seed: int = 0) -> RolloutRequest:
        """A request from the problem's prompt; `names` are what tells it from the phase's others."""
        key = self.key(*names)
        return RolloutRequest(self.prompt, prefix, n=n, seed=seed, key=key, sampling=self._sampling)

    def ask(self, requests: Requests) -> Generator[Requests, Answers, Answers]:
        """Sends a look's requests and books what comes back to the phase."""
        answers = yield requests
        drawn = [rollout for rollouts in answers or () for rollout in rollouts]
        cut = sum(rollout.count for rollout in drawn if rollout.finish == "budget")
        self.completions[self.phase] += Completions(sum(rollout.count for rollout in drawn), cut)
        self.tokens[self.phase] += sum(rollout.new_tokens for rollout in drawn)
        return answers

    def expected_tokens(self, request: RolloutRequest) -> int:
        """Roughly what a request's rollouts will generate, by the mean length of those so far; at least n."""
        drawn = sum(rollout.count for rollout in self.pool)
        length = sum(rollout.count * rollout.length for rollout in self.pool) / max(drawn, 1)
        return int(request.n * max(length - len(request.prefix), 1.0))
