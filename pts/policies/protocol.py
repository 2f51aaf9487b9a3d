"""The seam between everything above and whatever generates: `Policy`, and `SteerablePolicy` with its guides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self, TypeAlias

from pts.models.prompt import PromptFormat
from pts.policies.guide import Guide, PassSteering
from pts.policies.source import RolloutRequests
from pts.records import Problem, Rollout, Sampling, TokenDistribution, TokenIds

if TYPE_CHECKING:
    import torch

Prompt: TypeAlias = str | Sequence[Mapping[str, str]]
"""A question as text, or a conversation of messages with role and content."""


@dataclass(frozen=True, slots=True)
class PolicyIdentity:
    """What a policy generates with: all that decides its numbers beside prompt and sampling.

    `revision` is the model's commit on the Hub or a digest of its files, `dtype` what it computes in, `layers`
    its decoder layers and `hidden_size` their width; None where the engine does not tell.
    """

    model_id: str
    revision: str | None = None
    dtype: str | None = None
    device: str = "unknown"
    attention: str | None = None
    layers: int | None = None
    hidden_size: int | None = None


class Policy(Protocol):
    """A model together with its sampler: a distribution over next tokens.

    Everything above is engine-free. Prefixes are token ids throughout, never text encoded again. The sampler
    belongs to the request: one policy serves requests of different samplings at once. A completion's total
    length never passes its request's `sampling.budget`, wherever its rollout began.
    """

    @property
    def identity(self) -> PolicyIdentity:
        """Which model generates, and how."""

    @property
    def end_token_ids(self) -> Sequence[int]:
        """The tokens that end a completion, the usual one first; the one that did belongs to the completion."""

    @property
    def vocabulary_size(self) -> int:
        """Token ids are below this."""

    def encode(self, problem: Problem) -> TokenIds:
        """The prompt for a problem, chat template included."""

    def encode_completion(self, text: str) -> TokenIds:
        """Ids of a completion given as text, with no special tokens added, an end token neither."""

    def decode(self, ids: TokenIds, stop: Sequence[str] = ()) -> str:
        """Text for people and graders, up to where the first of the texts `stop` begins."""

    def end_of_stop(self, completion: TokenIds, stop: Sequence[str]) -> int | None:
        """How many tokens there are up to the first that completes one of the texts `stop`; None for none."""

    def check_length(self, prompt: int, sampling: Sampling) -> None:
        """Raise ConfigError where a prompt of so many tokens and the budget exceed what the model can read."""

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


@dataclass(frozen=True, slots=True)
class Finished:
    """A rollout with the probability of each of its new tokens (forced ones have none: nan).

    `guide` is the one that the request asked for, at the completion's end.
    """

    rollout: Rollout
    new_probs: tuple[float, ...]
    guide: Guide | None = None


class SteerablePolicy(Policy, Protocol):
    """A policy that also does what only some engines can: guides, steering variants, residual streams."""

    @property
    def prompt_format(self) -> PromptFormat:
        """How a question becomes a prompt."""

    @property
    def unknown_token_id(self) -> int | None:
        """The token that stands for text that the vocabulary cannot write; None where it can write all."""

    def encode_prompt(self, prompt: Prompt, fmt: PromptFormat | None = None) -> TokenIds:
        """The ids of a question or a conversation in the policy's prompt format, or in another.

        Raises ModelError where the format does not fit the model.
        """

    def finished(self, requests: RolloutRequests, *, own_probs: bool = False) -> Iterator[Finished]:
        """The rollouts as they are done, each with its tokens' probabilities and its guide.

        The probabilities are the sampler's or, with `own_probs`, the model's own: temperature 1, nothing
        truncated.
        """

    def steered(self, steering: PassSteering) -> AbstractContextManager[Self]:
        """The policy itself, whose requests may name the variants of `steering` while the context lasts."""

    def residuals(self, prompts: Sequence[TokenIds], layers: Sequence[int]) -> torch.Tensor:
        """The residual stream at prompts' ends, after decoder layers (from 0): [prompts, layers, hidden]."""
