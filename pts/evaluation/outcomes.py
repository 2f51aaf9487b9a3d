"""How often a policy's variants solve problems, with common random numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pts.pivot_search.config import Grade
from pts.policies.protocol import Policy
from pts.records import Problem, RolloutRequest, Sampling
from pts.seeds import derive_seed

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """What `samples` completions of each problem came to.

    `successes`, `tokens` (generated) and `cut` (by the budget) are sums over the completions, [problems].
    """

    samples: int
    successes: Ints
    tokens: Ints
    cut: Ints

    @classmethod
    def of(cls, samples: int, *sums: Sequence[int]) -> Outcomes:
        """Outcomes from the sums that `sums` gave."""
        return cls(samples, *(np.asarray(each, dtype=np.int64) for each in sums))

    @property
    def sums(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """Successes, tokens and cuts as plain numbers, as journals keep them."""
        return tuple(self.successes.tolist()), tuple(self.tokens.tolist()), tuple(self.cut.tolist())

    @property
    def success(self) -> float:
        """Share of all completions that succeeded."""
        return float(self.successes.sum() / max(1, self.samples * len(self.successes)))

    @property
    def tokens_each(self) -> float:
        """Generated tokens of a completion, in the mean."""
        return float(self.tokens.sum() / max(1, self.samples * len(self.tokens)))

    @property
    def cut_share(self) -> float:
        """Share of all completions that the budget cut."""
        return float(self.cut.sum() / max(1, self.samples * len(self.cut)))

    @property
    def rates(self) -> npt.NDArray[np.float64]:
        """Share of each problem's completions that succeeded [problems]."""
        return self.successes / self.samples

    def joined(self, more: Outcomes) -> Outcomes:
        """These problems, then more. Raises ValueError where the number of samples differs."""
        if more.samples != self.samples:
            raise ValueError(
                f"outcomes of {self.samples} samples cannot be joined with those of {more.samples}"
            )
        return Outcomes.of(self.samples, *(a + b for a, b in zip(self.sums, more.sums, strict=True)))


def run_variants(
    policy: Policy,
    sampling: Sampling,
    problems: Sequence[Problem],
    grade: Grade,
    variants: Sequence[int],
    samples: int,
    seed: int,
    observe: Callable[[int, int], None] | None = None,
    complete: Callable[[int, Outcomes], None] | None = None,
) -> Mapping[int, Outcomes]:
    """Outcomes of each variant on the same problems, all in one stream of requests.

    A problem's random numbers come from `seed` and its id, the same for every variant: two that write the same
    tokens draw the same next one. `observe` hears of completions and their tokens as they come, `complete` of a
    variant's outcomes as soon as they are all there.
    """
    requests = [
        RolloutRequest(
            policy.encode(problem),
            n=samples,
            seed=derive_seed(seed, "evaluate", problem.id),
            variant=variant,
            key=f"{variant}/{place}",
            sampling=sampling,
        )
        for variant in variants
        for place, problem in enumerate(problems)
    ]
    places = {request.key: index % len(problems) for index, request in enumerate(requests)}
    sums = {variant: np.zeros((3, len(problems)), dtype=np.int64) for variant in variants}
    missing = dict.fromkeys(variants, samples * len(problems))
    for rollout in policy.rollouts(requests):
        place = places[rollout.request.key]
        ended = rollout.finish == "end"
        success = ended and grade(policy.decode(rollout.completion, sampling.stop), problems[place].answer)
        tokens = rollout.count * len(rollout.completion)
        sums[rollout.request.variant][:, place] += (
            rollout.count * success,
            tokens,
            rollout.count * (not ended),
        )
        if observe is not None:
            observe(rollout.count, tokens)
        variant = rollout.request.variant
        missing[variant] -= rollout.count
        if complete is not None and not missing[variant]:
            complete(variant, Outcomes(samples, *sums[variant]))
    return {variant: Outcomes(samples, *sums[variant]) for variant in variants}
