"""The sequential test of a candidate: when to stop drawing, and an exact p-value that counts every stop."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pts.pivot_search.values import Floats
from pts.stats import difference_intervals, score_table

TEST = "sequential"
"""The name of this test in the records of candidates; those of earlier versions name none."""
LOOKS = (10, 16, 26, 42, 72)
"""Rollouts that avoid the token, after each planned look."""
HOPELESS_LEVELS = (0.8, 0.7, 0.6, 0.5, 0.4)
"""By look, the level of the interval for Δ below τ that ends a confirmation as hopeless."""
CLEAR_LEVEL = 0.5
"""The level of the interval for Δ above τ that ends a confirmation as found."""
CLEAR_SCORE = 2.6
"""The smallest score against |Δ| ≤ τ/2 with which a confirmation ends as found before the last look."""
CHEAPER_SIDE = (1.0, 1.5, 2.0, 2.5, 3.0)
"""Rollouts that take the token for each that avoids it: more where they are cheaper."""
BASE_RATES = 48
"""How finely the unknown base rate is searched for the largest tail probability."""
ROUNDING = 1e-9

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class SequentialTest:
    """When a confirmation stops, and the p-value of where it stopped, for the null |Δ| ≤ threshold/2.

    `token_prob` is q: Δ is (1 − q) times the difference of two success rates. `ratio` is how many rollouts
    take the token for each that avoids it. All is fixed before the first draw.

    Example:
        >>> test = SequentialTest(token_prob=0.5, threshold=0.2)
        >>> test.stops(0, 10, 1), round(test.p_value(0, 10, 1), 4)
        (True, 0.0012)
    """

    token_prob: float
    threshold: float
    ratio: float = 1.0

    def draws(self, look: int) -> tuple[int, int]:
        """Rollouts that take the token and rollouts that avoid it, after a look (from 0)."""
        return round(self.ratio * LOOKS[look]), LOOKS[look]

    def delta(self, look: int, taken: int, avoided: int) -> float:
        """Δ̂ from the successes of both sides."""
        n1, n2 = self.draws(look)
        return (1.0 - self.token_prob) * (taken / n1 - avoided / n2)

    def stops(self, look: int, taken: int, avoided: int) -> bool:
        """Whether the confirmation ends after a look with these successes."""
        return bool(_plan(self).stops[look][taken, avoided])

    def p_value(self, look: int, taken: int, avoided: int) -> float:
        """The p-value of a confirmation that ended after `look`; 1.0 where |Δ̂| is below the threshold.

        The chance, under the null, to stop at any look with |Δ̂| ≥ threshold and a score at least as high. It is
        exact for both success rates, from the probability of every outcome at every look (Jennison and
        Turnbull 2000, chapter 12), and maximised over the base rate on a grid and over both ends of the null.
        """
        return _largest_tail(self, look, taken, avoided, BASE_RATES)

    def reached(self, taken: Floats, avoided: Floats) -> Iterator[Floats]:
        """The probability of every outcome at each look, for pairs of success rates ([P] each).

        Yields [P, n1 + 1, n2 + 1] for each look; what stopped before does not reach it.
        """
        state = np.ones((len(taken), 1, 1))
        done = (0, 0)
        for look in range(len(LOOKS)):
            draws = self.draws(look)
            more = [_added(n, d, rate) for n, d, rate in zip(draws, done, (taken, avoided), strict=True)]
            state = more[0] @ state @ more[1].transpose(0, 2, 1)
            yield state
            state = np.where(_plan(self).stops[look], 0.0, state)
            done = draws


@dataclass(frozen=True)
class _Plan:
    """The outcomes of every look, [n1 + 1, n2 + 1] each: which stop, which have |Δ̂| ≥ τ, and their scores.

    `margin` is the null's largest difference of the two rates.
    """

    margin: float
    stops: tuple[Flags, ...]
    large: tuple[Flags, ...]
    scores: tuple[Floats, ...]


@functools.lru_cache(maxsize=64)
def _plan(test: SequentialTest) -> _Plan:
    share = 1.0 - test.token_prob
    margin = test.threshold / (2.0 * share)
    columns: list[tuple[Flags, Flags, Floats]] = []
    for look, level in enumerate(HOPELESS_LEVELS):
        n1, n2 = test.draws(look)
        difference = share * np.abs(np.arange(n1 + 1)[:, None] / n1 - np.arange(n2 + 1)[None, :] / n2)
        low, high = difference_intervals(n1, n2, level)
        hopeless = share * np.maximum(np.abs(low), np.abs(high)) < test.threshold
        low, high = difference_intervals(n1, n2, CLEAR_LEVEL)
        clear = (low * high > 0) & (share * np.minimum(np.abs(low), np.abs(high)) >= test.threshold)
        if margin < 1.0:
            scores = np.maximum(score_table(n1, n2, margin), score_table(n2, n1, margin).T)
        else:
            scores = np.zeros_like(difference)
        last = look == len(LOOKS) - 1
        stops = np.full_like(clear, fill_value=True) if last else hopeless | clear & (scores >= CLEAR_SCORE)
        columns.append((stops, difference >= test.threshold - ROUNDING, scores))
    stopping, large, ordered = zip(*columns, strict=True)
    return _Plan(margin, stopping, large, ordered)


@functools.lru_cache(maxsize=1024)
def _largest_tail(test: SequentialTest, look: int, taken: int, avoided: int, base_rates: int) -> float:
    """The p-value, with the base rate on a grid of so many points."""
    plan = _plan(test)
    if not plan.large[look][taken, avoided] or plan.margin >= 1.0:
        return 1.0
    observed = plan.scores[look][taken, avoided] - ROUNDING
    extreme = [
        stops & large & (scores >= observed)
        for stops, large, scores in zip(plan.stops, plan.large, plan.scores, strict=True)
    ]
    base = np.linspace(0.0, 1.0 - plan.margin, base_rates)
    higher = np.minimum(base + plan.margin, 1.0)
    worst = 0.0
    for first, second in ((higher, base), (base, higher)):
        tail = np.zeros(len(base))
        for reached, ends in zip(test.reached(first, second), extreme, strict=True):
            tail += reached[:, ends].sum(axis=1)
        worst = max(worst, float(tail.max()))
    return min(1.0, worst)


def _added(draws: int, done: int, rate: Floats) -> Floats:
    """The chance of each count of successes after `draws`, by that after `done` [P, draws + 1, done + 1]."""
    from scipy.stats import binom

    fresh = draws - done
    chance = binom.pmf(np.arange(fresh + 1)[None, :], fresh, rate[:, None])
    added = np.zeros((len(rate), draws + 1, done + 1))
    for before in range(done + 1):
        added[:, before : before + fresh + 1, before] = chance
    return added


def side_ratio(taken_cost: float, avoided_cost: float) -> float:
    """How many rollouts to take the token for each that avoids it, from the expected tokens of one of each.

    For equal variances the best ratio is the square root of that of the costs (Neyman); rounded down to one of
    `CHEAPER_SIDE`.
    """
    best = (avoided_cost / max(taken_cost, ROUNDING)) ** 0.5
    return max((ratio for ratio in CHEAPER_SIDE if ratio <= best), default=CHEAPER_SIDE[0])
