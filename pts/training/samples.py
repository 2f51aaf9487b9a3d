"""Completions to learn from, drawn by the policy that is trained and graded at once."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from pts.policies.protocol import Finished, SteerablePolicy
from pts.records import Problem, RolloutRequest, Sampling, TokenIds
from pts.seeds import derive_seed
from pts.training.modes import Modes

Mode: TypeAlias = Literal["free", "thinking", "no thinking"]
"""How a completion is made to begin; a free one begins as the policy likes."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A graded completion.

    `thinks` says how it began, `forced` that it was made to. `success` is False where the limit `cut` it or its
    thinking never ended. `thinking` and `answer` are its lengths in tokens. `log_probs` has the log-probability
    of each token in nats as it was drawn, nan for one that was put in.
    """

    completion: TokenIds
    thinks: bool
    forced: bool
    success: bool
    cut: bool
    thinking: int
    answer: int
    log_probs: tuple[float, ...]

    @property
    def tokens(self) -> int:
        """Its length: thinking and answer."""
        return len(self.completion)


@dataclass(frozen=True, slots=True)
class Asker:
    """How completions are drawn and judged.

    `modes` is None for a model that is asked as it is. `sampling` holds the temperature and the limit of a
    thinking completion; `no_thinking_budget` is that of one without. `grade` judges the text of an answer.
    """

    modes: Modes | None
    sampling: Sampling
    no_thinking_budget: int
    grade: Callable[[str, str], bool]

    def requests(
        self, policy: SteerablePolicy, problem: Problem, modes: Sequence[Mode], seed: int, key: str
    ) -> list[RolloutRequest]:
        """One request for each mode that is asked for, keyed by `key` and the mode."""
        lead = () if self.modes is None else self.modes.lead
        base = RolloutRequest(policy.encode(problem) + lead, sampling=self.sampling)
        return [
            replace(
                self._began(base, mode), n=n, seed=derive_seed(seed, problem.id, mode), key=f"{key}\t{mode}"
            )
            for mode, n in Counter(modes).items()
        ]

    def _began(self, base: RolloutRequest, mode: Mode) -> RolloutRequest:
        if mode == "free" or self.modes is None:
            return base
        if mode == "no thinking":
            short = replace(self.sampling, budget=self.no_thinking_budget)
            return replace(base, prefix=self.modes.no_thinking, sampling=short)
        if self.modes.opener:
            return replace(base, prefix=self.modes.opener)
        return replace(base, avoid=self.modes.no_thinking[0])

    def samples(self, policy: SteerablePolicy, problem: Problem, finished: Finished) -> list[Sample]:
        """The completions of a rollout, as many as it counts for."""
        rollout = finished.rollout
        request = rollout.request
        put_in = len(request.prefix)
        log_probs = tuple(math.log(p) if p > 0 else math.nan for p in finished.new_probs)
        sample = self.judged(
            policy.decode,
            problem,
            rollout.completion,
            rollout.finish == "budget",
            (math.nan,) * put_in + log_probs,
            forced=bool(request.prefix) or request.avoid is not None,
        )
        return [sample] * rollout.count

    def judged(
        self,
        decode: Callable[[TokenIds], str],
        problem: Problem,
        completion: TokenIds,
        cut: bool,
        log_probs: tuple[float, ...],
        *,
        forced: bool,
    ) -> Sample:
        """A completion with its grade. A free one without thinking is held to the limit of its mode."""
        thinks = self.modes is not None and self.modes.thinks(completion)
        if self.modes is not None and not thinks and len(completion) > self.no_thinking_budget:
            completion, log_probs = completion[: self.no_thinking_budget], log_probs[: self.no_thinking_budget]
            cut = True
        thinking, answer = ((), completion) if self.modes is None else self.modes.split(completion)
        success = not cut and bool(answer) and self.grade(decode(answer), problem.answer)
        return Sample(completion, thinks, forced, success, cut, len(thinking), len(answer), log_probs)


def draw(
    policy: SteerablePolicy, asker: Asker, asked: Iterable[tuple[Problem, Sequence[Mode]]], seed: int
) -> list[list[Sample]]:
    """The graded completions of each problem, in the order of its modes.

    What is drawn depends on seed, problem and mode alone, not on what else is asked for.
    """
    asked = list(asked)
    requests = [
        request
        for place, (problem, modes) in enumerate(asked)
        for request in asker.requests(policy, problem, modes, seed, str(place))
    ]
    drawn: dict[tuple[int, str], list[Sample]] = defaultdict(list)
    for finished in policy.finished(requests):
        place, mode = finished.rollout.request.key.split("\t")
        drawn[int(place), mode] += asker.samples(policy, asked[int(place)][0], finished)
    for samples in drawn.values():
        # They finish in order of length; theirs must not depend on the batch.
        samples.sort(key=lambda sample: sample.completion)
    return [[drawn[place, mode].pop() for mode in modes] for place, (_, modes) in enumerate(asked)]
