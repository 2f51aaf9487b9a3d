"""The one seam between the search and whatever generates."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from pts.records import Problem, Rollout, RolloutRequest, Sampling, TokenDistribution, TokenIds


class Policy(Protocol):
    """A model together with its sampler: a distribution over next tokens.

    Everything above is engine-free. Prefixes are token ids throughout, never text encoded again, and a
    completion's total length never passes `sampling.budget`, wherever its rollout began.
    """

    @property
    def sampling(self) -> Sampling:
        """The sampler and the budget that every method below uses."""

    def encode(self, problem: Problem) -> TokenIds:
        """The prompt for a problem, chat template included."""

    def decode(self, ids: TokenIds) -> str:
        """Text for people and graders."""

    def next_token_probs(self, prompt: TokenIds, completion: TokenIds) -> Sequence[TokenDistribution]:
        """The truncated distribution at every position of a completion, the i-th given the tokens before i."""

    def rollouts(self, requests: Iterable[RolloutRequest]) -> Iterator[Rollout]:
        """The requests' rollouts, as they are done; the consumer puts them back in order before use.

        `requests` may have more after it ran dry, once rollouts were taken: whoever reads it as there is room
        keeps a batch full, whoever reads it whole is called again. `next_token_probs` may be called between.
        """
