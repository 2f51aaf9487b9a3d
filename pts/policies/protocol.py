"""The one seam between the search and whatever generates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from pts.policies.source import RolloutRequests
from pts.records import Problem, Rollout, Sampling, TokenDistribution, TokenIds


class Policy(Protocol):
    """A model together with its sampler: a distribution over next tokens.

    Everything above is engine-free. Prefixes are token ids throughout, never text encoded again. The sampler
    belongs to the request: one policy serves requests of different samplings at once. A completion's total
    length never passes its request's `sampling.budget`, wherever its rollout began.
    """

    def encode(self, problem: Problem) -> TokenIds:
        """The prompt for a problem, chat template included."""

    def decode(self, ids: TokenIds, stop: Sequence[str] = ()) -> str:
        """Text for people and graders, up to where the first of the texts `stop` begins."""

    def next_token_probs(
        self, prompt: TokenIds, completion: TokenIds, sampling: Sampling
    ) -> Sequence[TokenDistribution]:
        """The truncated distribution at every position of a completion, the i-th given the tokens before i."""

    def rollouts(self, requests: RolloutRequests) -> Iterator[Rollout]:
        """The rollouts of plain requests or of a source, as they are done.

        Each holds its request: the caller matches it by the request's `key` and puts rollouts back in order
        before use. A source may have more requests after a rollout was delivered, so this ends only when the
        source gives none while nothing is under way. `next_token_probs` may be called between.
        """
