"""How a trace's values hang together: where rollouts leave it, and with what weight (facts 1, 2, 4, 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pts.packed_ids import PackedIds, packs_completion
from pts.records import Finish, RolloutRequest, TokenIds, Trace

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@packs_completion
@dataclass(frozen=True)
class GradedRollout:
    """A rollout with its grade: `count` equal completions."""

    request: RolloutRequest
    completion: TokenIds
    count: int
    success: bool
    finish: Finish = "end"

    @property
    def length(self) -> int:
        """Tokens of the completion."""
        return PackedIds.length(self)

    @property
    def new_tokens(self) -> int:
        """Generated tokens that it stands for: count × tokens after the prefix."""
        return self.count * (self.length - len(self.request.prefix))


@dataclass(frozen=True)
class TraceMap:
    """A trace's forks: the tokens at which the policy could have left it.

    `forks` [F] are the positions of tokens with a probability below 1, and `q` [F] those probabilities.
    `final_value` is V_T, the trace's own grade. Of numbers for all pairs of forks none is kept: a long trace
    has thousands.
    """

    trace: Trace
    final_value: float
    forks: Ints
    q: Floats

    @classmethod
    def of(cls, trace: Trace, success: bool) -> TraceMap:
        """The map of a graded trace."""
        probs = np.asarray(trace.token_probs, dtype=float)
        forks = np.flatnonzero(probs < 1.0)
        return cls(trace, float(success), forks, probs[forks])

    @property
    def most_effect(self) -> Floats:
        """Fact 2: |Δ_i| ≤ 1 − q_i, for each fork [F]."""
        return 1.0 - self.q

    @property
    def weight(self) -> Floats:
        """w_i(j) of all pairs of forks [F, F]: the chance to leave the trace at fork j from just after fork i.

        ∏_{i<k<j} q_k · (1 − q_j), 0 for j ≤ i. F² numbers, made anew: for short traces.
        """
        size = len(self.q)
        weight = np.zeros((size, size))
        for i in range(size - 1):
            stayed = np.concatenate(([1.0], np.cumprod(self.q[i + 1 : -1])))
            weight[i, i + 1 :] = stayed * (1.0 - self.q[i + 1 :])
        return weight


_STRETCH = 64
"""Tokens that are compared at a time."""


def shared_length(first: TokenIds, second: TokenIds) -> int:
    """How many leading tokens two completions share."""
    limit = min(len(first), len(second))
    for start in range(0, limit, _STRETCH):
        end = min(start + _STRETCH, limit)
        if first[start:end] != second[start:end]:
            return next(i for i in range(start, end) if first[i] != second[i])
    return limit


def leaving_position(rollout: GradedRollout, trace: Trace) -> int | None:
    """The position at which a rollout is a fair draw of the trace's off-trace value, or None (fact 5).

    It is one where it leaves the trace by its own draw, after whatever was forced or avoided, or where what
    it was told to avoid is the trace's token.
    """
    request = rollout.request
    left = shared_length(rollout.completion, trace.completion)
    if left >= min(len(trace.completion), len(rollout.completion)):
        return None
    start = len(request.prefix)
    if left < start:
        return None
    if left > start or (request.force is None and request.avoid is None):
        return left
    return left if request.avoid == trace.completion[left] else None


def off_trace_counts(rollouts: Sequence[GradedRollout], trace_map: TraceMap) -> tuple[Ints, Ints]:
    """Successes and draws of the off-trace value at each fork ([F], [F]), from all rollouts that are fair."""
    successes = np.zeros(len(trace_map.forks), dtype=np.int64)
    draws = np.zeros(len(trace_map.forks), dtype=np.int64)
    for rollout in rollouts:
        position = leaving_position(rollout, trace_map.trace)
        if position is None:
            continue
        fork = int(np.searchsorted(trace_map.forks, position))
        if fork < len(trace_map.forks) and trace_map.forks[fork] == position:
            draws[fork] += rollout.count
            successes[fork] += rollout.count * rollout.success
    return successes, draws


def leaving_draws(token_probs: Sequence[float], start: int, end: int, n: int, seed: int) -> dict[int, int]:
    """How many of `n` draws leave the trace at each token of [start, end), given that they leave it there.

    By position, in rising order, without zeros. A completion that leaves within the span does so at j with
    weight (∏_{start≤k<j} q_k)(1 − q_j) (fact 4). So `n` draws at positions chosen by these weights, each from
    the tokens before its own and without the trace's token, are independent draws of the span's off-trace
    value: none is wasted on completions that stay.
    """
    if end - start == 1:
        return {start: n}
    probs = np.asarray(token_probs[start:end], dtype=float)
    weight = np.concatenate(([1.0], np.cumprod(probs[:-1]))) * (1.0 - probs)
    counts = np.random.default_rng(seed).multinomial(n, weight / weight.sum())
    return {start + int(k): int(counts[k]) for k in np.flatnonzero(counts)}
