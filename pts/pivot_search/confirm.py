"""The confirmation: fresh rollouts for each candidate on its own, an exact test, and when to stop."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pts.pivot_search.values import GradedRollout, leaving_draws
from pts.records import (
    DEFAULT_SAMPLING,
    Alternative,
    Candidate,
    RolloutRequest,
    Sampling,
    TokenDistribution,
    Trace,
)
from pts.seeds import derive_seed
from pts.stats import difference_interval, difference_p_value

LOOKS = (16, 32, 72)
"""Rollouts on each side after each planned look. Tests and intervals are widened by how many are planned."""
STOPPING_LEVEL = 0.6
"""Level of the interval for Δ that ends a confirmation early when it is clear of the threshold."""
CLEAR_P = 0.005
"""A candidate stops early as found only where its p-value, all looks counted, is at most this."""


@dataclass
class Confirmation:
    """One candidate under confirmation: the token at `position` of a trace, and its fresh rollouts so far.

    With `end` it is the sentence from there up to that token, exclusive. Where the audit drew it `audit_weight`
    is one over the chance with which it did. The two sides are draws of V (the token forced, or the sentence
    kept) and of O (the token avoided, or the trace left within the sentence). A request's key is `key` with the
    trace, the look's number, the position and the side.
    """

    trace: Trace
    trace_index: int
    position: int
    threshold: float
    seed: int
    on: list[GradedRollout] = field(default_factory=list)
    off: list[GradedRollout] = field(default_factory=list)
    looks_taken: int = 0
    stopped: bool = False
    key: str = "confirm"
    sampling: Sampling = DEFAULT_SAMPLING
    audit_weight: float | None = None
    end: int | None = None
    asked: set[str] = field(default_factory=set)
    """The keys of all requests so far."""

    @property
    def token_prob(self) -> float:
        """q, the policy's probability of the token; for a sentence, of all its tokens."""
        return math.prod(self.trace.token_probs[self.position : self.end or self.position + 1])

    def requests(self) -> list[RolloutRequest]:
        """The next look's requests: one with the token forced, then one or more that leave the trace."""
        done = LOOKS[self.looks_taken - 1] if self.looks_taken else 0
        n = LOOKS[self.looks_taken] - done
        end = self.end or self.position + 1
        place = self.position if self.end is None else f"{self.position}-{end}"
        names = ("confirm", self.trace_index, place, self.looks_taken)
        key = f"{self.key}/{self.trace_index}/{self.looks_taken + 1}/{place}"

        def side(position: int, count: int, *name: str | int) -> RolloutRequest:
            prefix, token = self.trace.completion[:position], self.trace.completion[position]
            force, avoid = (token, None) if name[0] == "on" else (None, token)
            seed = derive_seed(self.seed, *names, *name)
            return RolloutRequest(
                *(self.trace.prompt, prefix, force, avoid, count, seed),
                key="/".join(map(str, (key, *name))),
                sampling=self.sampling,
            )

        if self.end is None:
            requests = [side(self.position, n, "on"), side(self.position, n, "off")]
        else:
            seed = derive_seed(self.seed, *names)
            leaving = leaving_draws(self.trace.token_probs, self.position, end, n, seed)
            off = [side(position, count, "off", position) for position, count in leaving.items()]
            requests = [side(end - 1, n, "on"), *off]
        self.asked.update(request.key for request in requests)
        return requests

    def add(self, on: Sequence[GradedRollout], off: Sequence[GradedRollout]) -> None:
        """Takes a whole look and decides whether another is needed."""
        self.on += on
        self.off += off
        self.looks_taken += 1
        share = 1.0 - self.token_prob
        low, high = difference_interval(*tally(self.on), *tally(self.off), STOPPING_LEVEL)
        hopeless = share * max(abs(low), abs(high)) < self.threshold
        clear = low * high > 0 and share * min(abs(low), abs(high)) >= self.threshold
        last = self.looks_taken == len(LOOKS)
        self.stopped = last or hopeless or (clear and self.p_value() <= CLEAR_P)

    def delta(self) -> float:
        """Δ̂ = (1 − q)(V̂ − Ô)."""
        (s1, n1), (s2, n2) = tally(self.on), tally(self.off)
        return (1.0 - self.token_prob) * (s1 / n1 - s2 / n2)

    def p_value(self) -> float:
        """For |Δ| ≤ threshold/2, times the planned looks (Bonferroni); 1.0 where |Δ̂| is below the threshold."""
        share = 1.0 - self.token_prob
        if abs(self.delta()) < self.threshold:
            return 1.0
        margin = self.threshold / (2.0 * share)
        return min(1.0, len(LOOKS) * difference_p_value(*tally(self.on), *tally(self.off), margin))

    def candidate(self, decode: Callable[[tuple[int, ...]], str], distribution: TokenDistribution) -> Candidate:
        """The record of what the fresh rollouts said; `distribution` is that of the token at `position`."""
        (s1, n1), (s2, n2) = tally(self.on), tally(self.off)
        token = self.trace.completion[self.position]
        ids = self.trace.completion[self.position : self.end or self.position + 1]
        return Candidate(
            trace=self.trace_index,
            position=self.position,
            token_id=token,
            token=decode(ids),
            token_prob=self.token_prob,
            value=s1 / n1,
            value_successes=s1,
            value_n=n1,
            off_trace_value=s2 / n2,
            off_trace_successes=s2,
            off_trace_n=n2,
            delta=self.delta(),
            p_value=self.p_value(),
            looks=len(LOOKS),
            audit_weight=self.audit_weight,
            alternatives=self._alternatives(decode, distribution) if self.end is None else (),
            end=self.end,
        )

    def _alternatives(
        self, decode: Callable[[tuple[int, ...]], str], distribution: TokenDistribution
    ) -> tuple[Alternative, ...]:
        """The off-trace rollouts by first token (fact 7), most likely first."""
        by_token: dict[int, list[GradedRollout]] = {}
        for rollout in self.off:
            by_token.setdefault(rollout.completion[self.position], []).append(rollout)
        found = []
        for token, rollouts in by_token.items():
            successes, n = tally(rollouts)
            found.append(Alternative(token, decode((token,)), distribution.prob(token), successes / n, n))
        return tuple(sorted(found, key=lambda alternative: (-alternative.prob, alternative.token_id)))


def tally(rollouts: Sequence[GradedRollout]) -> tuple[int, int]:
    """Successes and draws, counts included."""
    return sum(r.count * r.success for r in rollouts), sum(r.count for r in rollouts)
