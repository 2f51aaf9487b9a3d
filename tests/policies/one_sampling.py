"""A transformers policy whose requests all have one sampling, for tests of what does not depend on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from pts.policies import RolloutSource, as_source
from pts.policies.transformers import TransformersPolicy
from pts.policies.transformers.rows import Finished
from pts.records import RolloutRequest, Sampling


class OneSampling(TransformersPolicy):
    """Gives every request its sampling, and hands rollouts back with the request as it was asked."""

    def __init__(self, loaded: Any, sampling: Sampling, *more: Any, **options: Any) -> None:
        super().__init__(loaded, *more, **options)
        self.sampling = sampling

    def finished(self, requests: Any, *more: Any, **options: Any) -> Iterator[Finished]:
        sampled = _Sampled(as_source(requests), self.sampling)
        for finished in super().finished(sampled, *more, **options):
            asked = sampled.asked[int(finished.rollout.request.key)]
            yield replace(finished, rollout=replace(finished.rollout, request=asked))

    def sample_traces(self, prompt: Any, n: int, seed: int) -> Any:
        return super().sample_traces(prompt, n, seed, self.sampling)

    def next_token_probs(self, prompt: Any, completion: Any) -> Any:
        return super().next_token_probs(prompt, completion, self.sampling)

    def check_length(self, prompt: int, sampling: Sampling | None = None) -> None:
        super().check_length(prompt, sampling or self.sampling)

    def decode(self, ids: Any) -> str:
        return super().decode(ids, self.sampling.stop)


class _Sampled:
    def __init__(self, source: RolloutSource, sampling: Sampling) -> None:
        self.source, self.sampling = source, sampling
        self.asked: list[RolloutRequest] = []

    def take(self, n: int) -> Sequence[RolloutRequest]:
        taken = self.source.take(n)
        start = len(self.asked)
        self.asked += taken
        return [
            replace(request, sampling=self.sampling, key=str(start + index))
            for index, request in enumerate(taken)
        ]
