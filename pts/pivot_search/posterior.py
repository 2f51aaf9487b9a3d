"""The screen's belief about a trace: a particle posterior over its values, run from its end to its start.

It directs spending and drops the hopeless; no reported number comes from it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pts.pivot_search.values import Floats, Ints, TraceMap

PARTICLES = 400
BAND = (0.05, 0.95)
"""Quantiles that bound what is believed of a value."""
EDGE = 0.02
"""Values are kept this far from 0 and 1 where they centre a prior."""


@dataclass(frozen=True, slots=True)
class OffTracePrior:
    """What an off-trace value is thought to be before it is seen: a mixture of two Beta distributions.

    With probability `indifferent` the fork changes nothing much (a Beta around the value of the token taken,
    worth `concentration` draws); otherwise anything goes, success or failure rather than a middle
    (Beta(`spread`, `spread`), U-shaped below 1).
    """

    indifferent: float = 0.75
    concentration: float = 30.0
    spread: float = 0.6


@dataclass(frozen=True)
class Belief:
    """The posterior over a trace, by fork [F]: effect, chance that it is pivotal, off-trace value."""

    pivotal: Floats
    effect_variance: Floats
    off_trace_mean: Floats
    off_trace_variance: Floats


def believe(
    trace_map: TraceMap,
    successes: Ints,
    draws: Ints,
    threshold: float,
    rng: np.random.Generator,
    prior: OffTracePrior | None = None,
) -> Belief:
    """Runs the recursion V_{i−1} = q_i V_i + (1 − q_i) O_i (fact 1) backwards over particles.

    The off-trace draws (`successes` of `draws`, [F] each) enter as each fork's Beta-binomial likelihood given
    the value after it; particles are resampled when their effective number halves.
    """
    belief = Belief(*(np.zeros(len(trace_map.forks)) for _ in range(4)))
    for k, value, off, weight in _backwards(trace_map, successes, draws, rng, prior or OffTracePrior()):
        effect = (1.0 - trace_map.q[k]) * (value - off)
        belief.pivotal[k] = weight[np.abs(effect) >= threshold].sum()
        belief.effect_variance[k] = _variance(effect, weight)
        belief.off_trace_mean[k] = np.dot(weight, off)
        belief.off_trace_variance[k] = _variance(off, weight)
    return belief


def believed_values(
    trace_map: TraceMap, successes: Ints, draws: Ints, rng: np.random.Generator
) -> tuple[Floats, Floats, Floats]:
    """The value after each token of the trace, as it is believed to be: mean, 5% and 95% quantile ([T] each).

    Between two forks a value does not change; after the last one it is the trace's own grade.
    """
    length, forks = len(trace_map.trace.completion), trace_map.forks
    mean, low, high = (np.full(length, trace_map.final_value) for _ in range(3))
    end = length
    for k, value, off, weight in _backwards(trace_map, successes, draws, rng, OffTracePrior()):
        start = int(forks[k])
        mean[start:end], low[start:end], high[start:end] = _mean_and_band(value, weight)
        end = start
        if k == 0:
            q = trace_map.q[0]
            mean[:end], low[:end], high[:end] = _mean_and_band(q * value + (1.0 - q) * off, weight)
    return mean, low, high


def _backwards(
    trace_map: TraceMap, successes: Ints, draws: Ints, rng: np.random.Generator, prior: OffTracePrior
) -> Iterator[tuple[int, Floats, Floats, Floats]]:
    """Each fork, the last one first: the particles' values after it, their off-trace values, their weights."""
    value = np.full(PARTICLES, trace_map.final_value)
    weight = np.full(PARTICLES, 1.0 / PARTICLES)
    for k in range(len(trace_map.forks) - 1, -1, -1):
        off, likelihood = _draw_off_trace(value, int(successes[k]), int(draws[k]), prior, rng)
        weight = weight * likelihood
        weight /= weight.sum()
        yield k, value, off, weight
        q = trace_map.q[k]
        value = q * value + (1.0 - q) * off
        if 1.0 / np.dot(weight, weight) < PARTICLES / 2:
            value = value[_resample(weight, rng)]
            weight = np.full(PARTICLES, 1.0 / PARTICLES)


def _draw_off_trace(
    value: Floats, successes: int, draws: int, prior: OffTracePrior, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Off-trace values [PARTICLES] from each particle's posterior, and its likelihood up to a factor."""
    from scipy.special import betaln  # heavy to import, and `pts --help` needs none of it

    centre = np.clip(value, EDGE, 1.0 - EDGE)
    near_a, near_b = prior.concentration * centre, prior.concentration * (1.0 - centre)
    failures = draws - successes
    # In logarithms and relative to the best particle: many draws make every likelihood tiny.
    near = betaln(near_a + successes, near_b + failures) - betaln(near_a, near_b) + np.log(prior.indifferent)
    free = betaln(prior.spread + successes, prior.spread + failures) - betaln(prior.spread, prior.spread)
    either = np.logaddexp(near, free + np.log1p(-prior.indifferent))
    share_near = np.exp(near - either)
    likelihood = np.exp(either - either.max())
    is_near = rng.random(PARTICLES) < share_near
    a = np.where(is_near, near_a, prior.spread) + successes
    b = np.where(is_near, near_b, prior.spread) + failures
    return rng.beta(a, b), likelihood


def _mean_and_band(values: Floats, weight: Floats) -> tuple[float, float, float]:
    """Weighted mean, 5% and 95% quantile."""
    order = np.argsort(values)
    low, high = np.searchsorted(np.cumsum(weight[order]), BAND)
    last = len(values) - 1
    return float(np.dot(weight, values)), values[order[min(low, last)]], values[order[min(high, last)]]


def _variance(values: Floats, weight: Floats) -> float:
    mean = np.dot(weight, values)
    return float(np.dot(weight, (values - mean) ** 2))


def _resample(weight: Floats, rng: np.random.Generator) -> Ints:
    """Systematic resampling: indices [PARTICLES] in proportion to weight."""
    points = (rng.random() + np.arange(PARTICLES)) / PARTICLES
    return np.minimum(np.searchsorted(np.cumsum(weight), points), PARTICLES - 1)
