"""The screen's belief about a trace: the posterior of its values on a grid of levels, from all rollouts so far.

It directs spending and drops the hopeless; no reported number comes from it. Time and memory grow with the
number of forks, not with its square.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pts.pivot_search.levels import (
    GRID,
    LEVELS,
    MODES,
    Kernels,
    OffTracePrior,
    PriorGrid,
    free_kernel,
    landing,
    log_likelihood,
    mode_moves,
    near_kernel,
)
from pts.pivot_search.values import Floats, Ints, TraceMap

CHUNK = 64
"""Forks whose joint posteriors (GRID² numbers each) are in memory at once."""
BAND = (0.05, 0.95)
"""Quantiles that bound what is believed of a value."""


@dataclass(frozen=True)
class Belief:
    """The posterior over a trace, by fork [F].

    `pivotal` is the chance that |Δ| reaches the threshold, `effect_variance` the variance of Δ, and
    `pivotal_variance` the part of it that an effect of that size makes. `off_trace_mean` and
    `off_trace_variance` are those of O, and `value_told` is the part of the latter that V after the token
    explains. `link` is the correlation of V after the token with V before it. `prior` is the one in use.
    """

    pivotal: Floats
    effect_variance: Floats
    pivotal_variance: Floats
    value_told: Floats
    off_trace_mean: Floats
    off_trace_variance: Floats
    link: Floats
    prior: OffTracePrior


def believe(
    trace_map: TraceMap,
    successes: Ints,
    draws: Ints,
    threshold: float,
    prior: OffTracePrior | None = None,
) -> Belief:
    """The posterior of the recursion V_{i−1} = q_i V_i + (1 − q_i) O_i (fact 1), exact up to the grid.

    The off-trace draws (`successes` of `draws`, [F] each) enter as binomial likelihoods of O. Messages run over
    the trace both ways, so that a rollout informs the values before and after the fork at which it left.
    Without a `prior` it is learned from these draws.
    """
    chain = _Chain(trace_map, successes, draws)
    prior = prior or chain.learned_prior()
    messages = chain.messages(prior)
    parts = [
        _moments(chain.joint(rows, messages, prior), 1.0 - trace_map.q[rows], threshold)
        for rows in chain.chunks()
    ]
    columns = np.concatenate(parts, axis=1) if parts else np.zeros((7, 0))
    pivotal, effect, large, told, off, off_variance, link = columns
    return Belief(pivotal, effect, large, told, off, off_variance, link, prior)


def believed_values(
    trace_map: TraceMap, successes: Ints, draws: Ints, prior: OffTracePrior | None = None
) -> tuple[Floats, Floats, Floats]:
    """The value after each token of the trace, as it is believed to be: mean, 5% and 95% quantile ([T] each).

    Between two forks a value does not change; after the last one it is the trace's own grade.
    """
    chain = _Chain(trace_map, successes, draws)
    later, earlier = chain.messages(prior or chain.learned_prior())
    belief = (later * earlier).sum(axis=1)
    belief /= belief.sum(axis=1, keepdims=True)
    through = np.cumsum(belief, axis=1)
    low, high = (LEVELS[np.minimum((through < level).sum(axis=1), GRID - 1)] for level in BAND)
    tokens = np.diff(np.concatenate(([0], trace_map.forks, [len(trace_map.trace.completion)])))
    mean, low, high = (np.repeat(each, tokens) for each in (belief @ LEVELS, low, high))
    return mean, low, high


def span_chances(
    trace_map: TraceMap, successes: Ints, draws: Ints, spans: Sequence[tuple[int, int]], threshold: float
) -> Floats:
    """How likely it is that the value changes by the threshold over each span of a trace's tokens [S].

    `trace_map` is that of its tokens, with the off-trace draws at each ([F] each); `spans` are in any order.
    The values at both ends of a span hang together by the forks between them, so the chance is that of their
    joint posterior.
    """
    chain = _Chain(trace_map, successes, draws)
    prior = chain.learned_prior()
    messages = chain.messages(prior)
    far = np.abs(LEVELS[:, None] - LEVELS[None, :]) >= threshold - 1e-9
    chances = np.zeros(len(spans))
    for i, span in enumerate(spans):
        first, last = np.searchsorted(trace_map.forks, span)
        if last > first:
            chances[i] = chain.ends(int(first), int(last), messages, prior)[far].sum()
    return chances


class _Chain:
    """A trace's values as a Markov chain over modes and levels: value k is before fork k, value F the last.

    It runs from the trace's end, where the value is the trace's own grade and the trace is settled, to its
    start.
    """

    def __init__(self, trace_map: TraceMap, successes: Ints, draws: Ints) -> None:
        self._steps = Kernels.steps(trace_map.q)
        logs = log_likelihood(successes, draws)
        self._likelihood = np.exp(logs - logs.max(axis=1, keepdims=True))
        self._drawn = draws > 0
        self._end = np.zeros((MODES, GRID))
        self._end[0, round(trace_map.final_value * (GRID - 1))] = 1.0

    def chunks(self) -> list[slice]:
        """The forks, so many at a time as their joint posteriors may be in memory."""
        return [slice(first, first + CHUNK) for first in range(0, len(self._steps), CHUNK)]

    def learned_prior(self) -> OffTracePrior:
        """Of the priors in `PriorGrid` the likeliest concentration, and the mean share of influential forks."""
        grid = PriorGrid.of(len(self._steps))
        near_by, free_by = (moves[..., None] for moves in mode_moves(grid.shares))
        ends = self._end[:, None, None, :]
        message = np.broadcast_to(ends, (MODES, *grid.weights.shape, GRID))
        log_evidence = np.zeros(grid.weights.shape)
        for k in range(len(self._steps) - 1, -1, -1):
            kernels = Kernels.at(int(self._steps[k]), grid.concentrations, grid.spread)
            near, free = kernels.moves(self._likelihood[k] if self._drawn[k] else None)
            moved_near, moved_free = message @ near, message @ free
            message = sum(
                near_by[mode, :, None] * moved_near[mode] + free_by[mode, :, None] * moved_free[mode]
                for mode in range(MODES)
            )
            total = message.sum(axis=(0, -1))
            log_evidence += np.log(total)
            message = message / total[..., None]
        weight = np.exp(log_evidence - log_evidence.max()) * grid.weights
        weight /= weight.sum()
        likeliest = int(np.argmax(weight.sum(axis=1)))
        return OffTracePrior(
            float(weight.sum(axis=0) @ grid.shares), grid.concentrations[likeliest], grid.spread
        )

    def messages(self, prior: OffTracePrior) -> tuple[Floats, Floats]:
        """How likely each level is for each value, by the draws at later forks and by others.

        Both are [F + 1, MODES, GRID]. The first is a distribution, the second a likelihood.
        """
        forks = len(self._steps)
        later, earlier = np.empty((forks + 1, MODES, GRID)), np.ones((forks + 1, MODES, GRID))
        later[forks] = self._end
        near_by, free_by = prior.mode_moves()
        moves: list[tuple[Floats, Floats]] = []
        for k in range(forks - 1, -1, -1):
            kernels = Kernels.at(int(self._steps[k]), (prior.concentration,), prior.spread)
            near, free = kernels.moves(self._likelihood[k] if self._drawn[k] else None)
            moves.append((near[0], free))
            message = near_by.T @ (later[k + 1] @ near[0]) + free_by.T @ (later[k + 1] @ free)
            later[k] = message / message.sum()
        for k, (near, free) in enumerate(reversed(moves)):
            message = near_by @ (earlier[k] @ near.T) + free_by @ (earlier[k] @ free.T)
            earlier[k + 1] = message / message.max()
        return later, earlier

    def ends(self, first: int, last: int, messages: tuple[Floats, Floats], prior: OffTracePrior) -> Floats:
        """The joint posterior [GRID, GRID] of the values before fork `last` and before fork `first`."""
        near_by, free_by = prior.mode_moves()
        # Modes and levels are one index here.
        reached = np.diag(messages[0][last].ravel())
        for k in range(last - 1, first - 1, -1):
            kernels = Kernels.at(int(self._steps[k]), (prior.concentration,), prior.spread)
            near, free = kernels.moves(self._likelihood[k] if self._drawn[k] else None)
            reached = reached @ (np.kron(near_by, near[0]) + np.kron(free_by, free))
            reached /= reached.sum()
        reached *= messages[1][first].ravel()
        joint: Floats = reached.reshape(MODES, GRID, MODES, GRID).sum(axis=(0, 2))
        joint /= joint.sum()
        return joint

    def joint(self, rows: slice, messages: tuple[Floats, Floats], prior: OffTracePrior) -> Floats:
        """The joint posterior of the value after each fork of `rows` and of its off-trace value [K, GRID²]."""
        later, earlier = messages[0][1:][rows], messages[1][:-1][rows]
        lower, fraction = landing(self._steps[rows])
        cells = lower + GRID * np.arange(len(later))[:, None, None]
        near, free = near_kernel(prior.concentration), free_kernel(prior.spread)
        joint = np.zeros((len(later), GRID, GRID))
        for mode, (near_by, free_by) in enumerate(zip(*(m.T for m in prior.mode_moves()), strict=True)):
            ahead = earlier[:, mode]
            reached = np.take(ahead, cells)
            reached += fraction * np.take(np.diff(ahead, axis=1, append=0.0), cells)
            # Into this mode, from either: [K, GRID] by the value after the fork.
            by_near, by_free = np.tensordot(near_by, later, (0, 1)), np.tensordot(free_by, later, (0, 1))
            reached *= by_near[:, :, None] * near + by_free[:, :, None] * free
            joint += reached
        joint *= self._likelihood[rows, None, :]
        flat: Floats = joint.reshape(len(later), GRID * GRID)
        flat /= flat.sum(axis=1, keepdims=True)
        return flat


_VALUE, _OFF = (each.ravel() for each in np.meshgrid(LEVELS, LEVELS, indexing="ij"))
_GAP = _VALUE - _OFF
_MOMENTS = np.stack([_VALUE, _OFF, _VALUE**2, _OFF**2, _VALUE * _OFF], axis=1)
_LARGE_MOMENTS = np.stack([np.ones_like(_GAP), _GAP, _GAP**2], axis=1)


def _moments(joint: Floats, share: Floats, threshold: float) -> Floats:
    """The columns of `Belief` [7, K] from joint posteriors [K, GRID²]; `share` is 1 − q [K]."""
    least = (threshold - 1e-9) / np.maximum(share, 1e-12)
    large = np.where(np.abs(_GAP) >= least[:, None], joint, 0.0)
    value, off, value_square, off_square, product = (joint @ _MOMENTS).T
    chance, large_gap, large_square = (large @ _LARGE_MOMENTS).T
    value_variance = np.maximum(value_square - value**2, 0.0)
    off_variance = np.maximum(off_square - off**2, 0.0)
    shared = product - value * off
    gap_variance = np.maximum(value_variance + off_variance - 2.0 * shared, 0.0)
    large_variance = np.maximum(large_square - large_gap**2, 0.0)
    # V before is V after less (1 − q) times the gap.
    with_before = value_variance - share * (value_variance - shared)
    before_variance = np.maximum(with_before - share * (value_variance - shared - share * gap_variance), 0.0)
    link = with_before / np.sqrt(np.maximum(value_variance * before_variance, 1e-16))
    return np.stack(
        [
            chance,
            share**2 * gap_variance,
            share**2 * large_variance,
            shared**2 / np.maximum(value_variance, 1e-12),
            off,
            off_variance,
            np.clip(link, 0.0, 1.0),
        ]
    )
