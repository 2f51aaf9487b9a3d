"""The confirmation: fresh rollouts for each candidate on its own, an exact test, and when to stop."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from pts.pivot_search.different import Differs, different_tally, other_words, sentences_at
from pts.pivot_search.links import LATER, later_sentences
from pts.pivot_search.results import Alternative, Candidate, LaterSentence
from pts.pivot_search.sentences import sentence_spans
from pts.pivot_search.sequential import LOOKS, TEST, SequentialTest, side_ratio
from pts.pivot_search.values import Floats, GradedRollout, leaving_draws
from pts.records import DEFAULT_SAMPLING, RolloutRequest, Sampling, TokenDistribution, Trace
from pts.seeds import derive_seed

EXPECTED_LOOK = 22
"""Rollouts that avoid the token when a confirmation ends, on average."""


@dataclass
class Confirmation:
    """One candidate under confirmation: the token at `position` of a trace, and its fresh rollouts so far.

    With `end` it is the sentence from there up to that token, exclusive. Where the audit drew it `audit_weight`
    is one over the chance with which it did. `success` is the trace's grade, None where the trace is not known
    to be a whole completion. The two sides are draws of V (the token taken, or the sentence kept) and of O (the
    token avoided, or the trace left within the sentence). A request's key is `key` with the trace, the look's
    number, the position and the side.
    """

    trace: Trace
    success: bool | None
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

    @property
    def token_prob(self) -> float:
        """q, the policy's probability of the token; for a sentence, of all its tokens."""
        return math.prod(self.trace.token_probs[self.position : self._kept])

    @cached_property
    def test(self) -> SequentialTest:
        """When to stop, and the p-value: fixed by the trace, before any draw."""
        return SequentialTest(self.token_prob, self.threshold, side_ratio(*self._costs))

    @cached_property
    def _costs(self) -> tuple[float, float]:
        """Expected tokens of a rollout with the token and of one without, by the trace's length."""
        left = len(self.trace.completion) - self._kept
        taken = float(self._leaving[:-1] @ np.arange(left, 0, -1))
        return taken, float(len(self.trace.completion) - self.position)

    def expected_tokens(self) -> int:
        """Roughly what it takes until the test ends: what is missing of its usual length, or one more look."""
        done = self.test.draws(self.looks_taken - 1)[1] if self.looks_taken else 0
        avoid = max(EXPECTED_LOOK - done, self._new_draws()[1])
        return int(avoid * (self.test.ratio * self._costs[0] + self._costs[1]))

    @property
    def _kept(self) -> int:
        """One past the token or the sentence."""
        return self.end or self.position + 1

    @cached_property
    def _leaving(self) -> Floats:
        """The chance to leave the trace at each later position, and that of never leaving it.

        By fact 4 these are where rollouts that take the token go [T − the end of the token or sentence + 1].
        """
        later = np.asarray(self.trace.token_probs[self._kept :], dtype=float)
        stays = np.concatenate(([1.0], np.cumprod(later)))
        chance: Floats = np.append(stays[:-1] * (1.0 - later), stays[-1])
        chance /= chance.sum()
        return chance

    def requests(self) -> list[RolloutRequest]:
        """The next look's requests: to take the token, by where the trace is left later, then to avoid it.

        Where a rollout with the token leaves the trace is drawn here, with the known probabilities: nothing is
        generated up to there. One that never leaves a whole completion has its grade, and needs no request.
        """
        length, n = len(self.trace.completion), self._new_draws()[1]
        on = [
            self._request(place, count, f"on/{place}")
            for place, count in self._places()
            if place < length or self.success is None
        ]
        if self.end is None:
            off = [self._request(self.position, n, "off")]
        else:
            seed = derive_seed(self.seed, *self._names)
            leaving = leaving_draws(self.trace.token_probs, self.position, self.end, n, seed)
            off = [self._request(place, count, f"off/{place}") for place, count in leaving.items()]
        return [*on, *off]

    def _new_draws(self) -> tuple[int, int]:
        """Rollouts of the next look on each side."""
        taken, avoided = self.test.draws(self.looks_taken)
        if self.looks_taken == 0:
            return taken, avoided
        before = self.test.draws(self.looks_taken - 1)
        return taken - before[0], avoided - before[1]

    def _places(self) -> list[tuple[int, int]]:
        """Where the next look's rollouts with the token leave the trace, and how many at each place."""
        rng = np.random.default_rng(derive_seed(self.seed, *self._names, "leave"))
        counts = rng.multinomial(self._new_draws()[0], self._leaving)
        return [(self._kept + int(k), int(counts[k])) for k in np.flatnonzero(counts)]

    @property
    def _place(self) -> int | str:
        return self.position if self.end is None else f"{self.position}-{self.end}"

    @property
    def _names(self) -> tuple[str | int, ...]:
        """What tells the next look's random streams from others."""
        return ("confirm", self.trace_index, self._place, self.looks_taken)

    def _request(self, place: int, n: int, side: str) -> RolloutRequest:
        """Rollouts that leave the trace at `place`, or go on from its end."""
        completion = self.trace.completion
        return RolloutRequest(
            self.trace.prompt,
            completion[:place],
            avoid=completion[place] if place < len(completion) else None,
            n=n,
            seed=derive_seed(self.seed, *self._names, side),
            key=f"{self.key}/{self.trace_index}/{self.looks_taken + 1}/{self._place}/{side}",
            sampling=self.sampling,
        )

    def add(self, rollouts: Sequence[GradedRollout]) -> None:
        """Takes the rollouts of a whole look and decides whether another is needed."""
        for rollout in rollouts:
            (self.on if len(rollout.request.prefix) >= self._kept else self.off).append(rollout)
        whole = self.trace.completion
        stayed = sum(n for place, n in self._places() if place == len(whole))
        if stayed and self.success is not None:
            request = RolloutRequest(self.trace.prompt, whole, n=stayed, sampling=self.sampling)
            self.on.append(GradedRollout(request, whole, stayed, self.success, self.trace.finish))
        self.looks_taken += 1
        self.stopped = self.test.stops(self.looks_taken - 1, tally(self.on)[0], tally(self.off)[0])

    def delta(self) -> float:
        """Δ̂ = (1 − q)(V̂ − Ô)."""
        (s1, n1), (s2, n2) = tally(self.on), tally(self.off)
        return (1.0 - self.token_prob) * (s1 / n1 - s2 / n2)

    def p_value(self) -> float:
        """For |Δ| ≤ threshold/2; 1.0 where |Δ̂| is below the threshold, or where the test did not end."""
        if not self.stopped:
            return 1.0
        return self.test.p_value(self.looks_taken - 1, tally(self.on)[0], tally(self.off)[0])

    def text(self, decode: Callable[[tuple[int, ...]], str]) -> str:
        """The token or the sentence."""
        return decode(self.trace.completion[self.position : self._kept])

    def written_instead(self, decode: Callable[[tuple[int, ...]], str]) -> list[str]:
        """The sentence that each rollout wrote that left this one; nothing for a token."""
        return [] if self.end is None else sentences_at(self.off, self.position, decode)

    def candidate(
        self,
        decode: Callable[[tuple[int, ...]], str],
        distribution: TokenDistribution,
        differs: Differs = other_words,
    ) -> Candidate:
        """The record of what the fresh rollouts said; `distribution` is that of the token at `position`.

        `differs` says which sentences count as different from this one.
        """
        (s1, n1), (s2, n2) = tally(self.on), tally(self.off)
        token = self.trace.completion[self.position]
        text, written = self.text(decode), self.written_instead(decode)
        different = (0, 0) if self.end is None else different_tally(self.off, text, written, differs)
        p_value = self.p_value()
        return Candidate(
            trace=self.trace_index,
            position=self.position,
            token_id=token,
            token=text,
            token_prob=self.token_prob,
            value=s1 / n1,
            value_successes=s1,
            value_n=n1,
            off_trace_value=s2 / n2,
            off_trace_successes=s2,
            off_trace_n=n2,
            delta=self.delta(),
            p_value=p_value,
            looks=len(LOOKS),
            audit_weight=self.audit_weight,
            alternatives=self._alternatives(decode, distribution) if self.end is None else (),
            end=self.end,
            different_successes=different[0],
            different_n=different[1],
            test=TEST,
            entropy=distribution.entropy if self.end is None else None,
            later=() if self.end is None or p_value == 1.0 else self._later(self.end, decode),
        )

    def _later(self, end: int, decode: Callable[[tuple[int, ...]], str]) -> tuple[LaterSentence, ...]:
        """The trace's sentences after this one, and how many rollouts of each side wrote them."""
        spans = sentence_spans(self.trace.completion, decode)
        later = [(first, decode(self.trace.completion[first:last])) for first, last in spans if first >= end]
        return later_sentences(self.on, self.off, (self.position, end), later[:LATER], decode)

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


def taken_position(key: str) -> int | None:
    """The position of the token that a request's rollouts take; None for a request of another kind.

    Such rollouts follow the trace past that token and leave it at a place that was drawn with the policy's own
    probabilities: with those that never leave it, they are fair draws of the value after the token. The key is
    that of `Confirmation`.
    """
    names = key.split("/")
    return int(names[-3]) if len(names) > 2 and names[-2] == "on" and names[-3].isdecimal() else None


def tally(rollouts: Sequence[GradedRollout]) -> tuple[int, int]:
    """Successes and draws, counts included."""
    return sum(r.count * r.success for r in rollouts), sum(r.count for r in rollouts)
