"""From a request for rollouts to vLLM's requests: one a completion, each with a seed of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pts.errors import ConfigError
from pts.policies.transformers.complete import CompletionEnds, finished_at_once
from pts.policies.transformers.draws import root_key
from pts.records import Finish, Rollout, RolloutRequest, Sampling, TokenDistribution, TokenIds
from pts.seeds import derive_seed

_SEED_BITS = 48
"""Bits of a completion's seed, a hash: consecutive seeds could give completions the same random numbers."""


@dataclass(slots=True)
class Gathered:
    """The completions of one request as they come, until all are there."""

    request: RolloutRequest
    missing: int
    counts: dict[tuple[TokenIds, Finish], int] = field(default_factory=dict)

    def take(self, completion: TokenIds, finish: Finish, count: int = 1) -> None:
        """Count completions that are done."""
        key = completion, finish
        self.counts[key] = self.counts.get(key, 0) + count
        self.missing -= count

    def rollouts(self) -> Iterator[Rollout]:
        """The rollouts, equal completions as one, in the order of their tokens."""
        for (completion, finish), count in sorted(self.counts.items()):
            yield Rollout(self.request, completion, count, finish)


@dataclass(frozen=True, slots=True)
class Start:
    """One completion to be written: what it has after the prompt already, and its seed."""

    gathered: Gathered
    prefix: TokenIds
    seed: int


def require_plain(request: RolloutRequest) -> None:
    """Raise ConfigError for what a policy that was not opened as `steerable` does not offer."""
    asked = [
        name
        for name, given in (
            ("steering", request.variant),
            ("a guide of a completion's tokens", request.guide is not None),
            ("the continuation of a stream of random numbers", request.resumed),
        )
        if given
    ]
    if asked:
        raise ConfigError(
            f"a policy of the engine vllm does not offer {asked[0]} where it was not opened for that: open it "
            "with steerable=True."
        )


def starts(
    request: RolloutRequest, ends: CompletionEnds, distribution: Callable[[], TokenDistribution]
) -> tuple[Gathered, list[Start]]:
    """The completions that are to be written for a request, beside those that are complete already.

    A forced token is put after the prefix. With an avoided one the first tokens are drawn here, from the exact
    `distribution` after the prefix without it, by a stream of the request's own.
    """
    gathered = Gathered(request, request.n)
    at_once = finished_at_once(request, ends)
    if at_once is not None:
        for finished in at_once:
            gathered.take(finished.rollout.completion, finished.rollout.finish, finished.rollout.count)
        return gathered, []
    root, forced = root_key(request), () if request.force is None else (request.force,)
    firsts: list[TokenIds] = [forced] * request.n
    if request.avoid is not None:
        drawn = _drawn_without(distribution(), request.avoid, request.n, derive_seed(root, "first"))
        firsts = [(token,) for token in drawn]
    found = []
    for index, first in enumerate(firsts):
        prefix = request.prefix + first
        finish = _finish(prefix, ends, request.sampling) if first else None
        if finish is not None:
            gathered.take(prefix, finish)
        else:
            found.append(Start(gathered, prefix, derive_seed(root, index) & ((1 << _SEED_BITS) - 1)))
    return gathered, found


def _drawn_without(distribution: TokenDistribution, avoid: int, n: int, seed: int) -> list[int]:
    """`n` tokens from a distribution without one of its tokens. Raises ValueError where it has no other."""
    kept = distribution.ids != avoid
    probs = distribution.probs[kept]
    if not probs.size:
        raise ValueError(f"token {avoid} is the only one that the sampler leaves; nothing is left to draw.")
    counts = np.random.default_rng(seed).multinomial(n, probs / probs.sum())
    return [int(token) for token in np.repeat(distribution.ids[kept], counts)]


def _finish(completion: TokenIds, ends: CompletionEnds, sampling: Sampling) -> Finish | None:
    if ends.within(completion, sampling):
        return "end"
    return "budget" if len(completion) >= sampling.budget else None


def parameters(start: Start, ends: CompletionEnds) -> Any:
    """vLLM's parameters for a completion."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    sampling = start.gathered.request.sampling
    # Only a completion with stop texts is looked at after every token.
    kind = RequestOutputKind.DELTA if sampling.stop else RequestOutputKind.FINAL_ONLY
    return SamplingParams(
        temperature=sampling.temperature,
        top_k=sampling.top_k,
        top_p=sampling.top_p,
        min_p=sampling.min_p,
        seed=start.seed,
        max_tokens=sampling.budget - len(start.prefix),
        stop_token_ids=sorted(ends.token_ids),
        detokenize=False,
        output_kind=kind,
    )


def stop_finder(start: Start, ends: CompletionEnds) -> Callable[[list[int], int], int | None] | None:
    """What finds the first new token that completes a stop text of the completion; None where it has none."""
    stops = ends.stops(start.gathered.request.sampling.stop)
    if stops is None:
        return None

    def end(new: list[int], before: int) -> int | None:
        whole = [*start.prefix, *new]
        lengths = range(len(start.prefix) + before + 1, len(whole) + 1)
        found = next((length for length in lengths if stops.completed_by_last(whole[:length])), None)
        return None if found is None else found - len(start.prefix)

    return end
