"""The sequential test keeps its level whatever the base rate, and counts every way in which it can stop."""

import bisect
import functools

import numpy as np
import pytest
from scipy.stats import binom

from pts.pivot_search import sequential
from pts.pivot_search.sequential import LOOKS, SequentialTest, side_ratio
from pts.stats import score_table

TESTS = [SequentialTest(0.3, 0.2), SequentialTest(0.5, 0.2, 1.5), SequentialTest(0.75, 0.2, 3.0)]
"""Of the three, 1 − q and so the null's margin differ, and so do the two sides' rollouts."""


def chance_of(test: SequentialTest, level: float, taken: float, avoided: float) -> float:
    """The exact chance to stop with a p-value of at most `level` at these success rates."""
    critical = smallest_score(test, level)
    chance = 0.0
    for look, outcomes in enumerate(test.reached(np.array([taken]), np.array([avoided]))):
        chance += sum(outcomes[0, a, b] for score, k, a, b in found(test) if k == look and score >= critical)
    return chance


@functools.cache
def found(test: SequentialTest) -> list[tuple[float, int, int, int]]:
    """Every outcome that stops with |Δ̂| ≥ τ, by its score: (score, look, taken, avoided)."""
    margin, outcomes = test.threshold / (2 * (1 - test.token_prob)), []
    for look in range(len(LOOKS)):
        n1, n2 = test.draws(look)
        scores = np.maximum(score_table(n1, n2, margin), score_table(n2, n1, margin).T)
        outcomes += [
            (float(scores[a, b]), look, a, b)
            for a in range(n1 + 1)
            for b in range(n2 + 1)
            if test.stops(look, a, b) and abs(test.delta(look, a, b)) >= test.threshold
        ]
    return sorted(outcomes)


@functools.cache
def smallest_score(test: SequentialTest, level: float) -> float:
    """The smallest score whose p-value is at most `level`: p-values fall with the score."""
    outcomes = found(test)
    place = bisect.bisect_left(outcomes, -level, key=lambda outcome: -test.p_value(*outcome[1:]))
    return outcomes[place][0]


@pytest.mark.parametrize("test", TESTS[:2], ids=["equal sides", "unequal sides"])
def test_the_chance_of_a_small_p_value_is_at_most_that_under_the_null(test: SequentialTest) -> None:
    margin = test.threshold / (2 * (1 - test.token_prob))
    for low in (0.02, 0.3, 0.6, 0.97 - margin):
        for difference in (margin, margin / 2, 0.0):
            for pair in ((low + difference, low), (low, low + difference)):
                # Off the grid of base rates the p-value may be too small by 2% of itself.
                assert chance_of(test, 0.05, *pair) <= 0.05 * 1.02


@pytest.mark.parametrize("test", TESTS, ids=["equal sides", "unequal sides", "a rare alternative"])
def test_every_run_of_the_test_ends_and_the_p_values_order_its_ends(test: SequentialTest) -> None:
    total = 0.0
    for look, outcomes in enumerate(test.reached(np.array([0.7]), np.array([0.3]))):
        stops = np.array(
            [[test.stops(look, a, b) for b in range(outcomes.shape[2])] for a in range(outcomes.shape[1])]
        )
        total += outcomes[0][stops].sum()
    assert total == pytest.approx(1.0)
    last = len(LOOKS) - 1
    n1, n2 = test.draws(last)
    values = [test.p_value(last, a, n2 // 8) for a in range(n1 // 2, n1 + 1, 8)]
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.01


def test_a_finer_search_of_the_base_rate_changes_little(monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = [(TESTS[0], 0, 8, 1), (TESTS[0], 4, 45, 25), (TESTS[1], 2, 34, 7), (TESTS[2], 1, 46, 2)]
    coarse = [test.p_value(*outcome) for test, *outcome in outcomes]
    assert any(0.001 < p < 0.2 for p in coarse)
    monkeypatch.setattr(sequential, "BASE_RATES", 8 * 47 + 1)
    fine = [test.p_value(*outcome) for test, *outcome in outcomes]
    for low, high in zip(coarse, fine, strict=True):
        assert low <= high * (1 + 1e-9)
        assert high <= 1.02 * low + 1e-12


def test_the_p_value_of_the_first_look_counts_later_looks_too() -> None:
    """It lies between the chance of as high a score in that look alone, and that times the looks."""
    test = TESTS[0]
    n1, n2 = test.draws(0)
    margin = test.threshold / (2 * (1 - test.token_prob))
    scores = score_table(n1, n2, margin)
    observed = scores[n1, 2]
    alone = 0.0
    for base in np.linspace(0, 1 - margin, 48):
        pairs = np.outer(
            binom.pmf(np.arange(n1 + 1), n1, base + margin), binom.pmf(np.arange(n2 + 1), n2, base)
        )
        alone = max(alone, pairs[scores >= observed].sum())
    assert alone < test.p_value(0, n1, 2) < len(LOOKS) * alone


def test_a_small_effect_and_a_threshold_above_all_effects_have_no_p_value_below_one() -> None:
    assert SequentialTest(0.5, 0.2).p_value(4, 40, 30) == 1.0
    assert SequentialTest(0.95, 0.2).p_value(0, 10, 0) == 1.0


@pytest.mark.parametrize(
    ("costs", "ratio"), [((10.0, 10.0), 1.0), ((100.0, 10.0), 1.0), ((4.0, 10.0), 1.5), ((0.0, 10.0), 3.0)]
)
def test_the_cheaper_side_gets_more_rollouts(costs: tuple[float, float], ratio: float) -> None:
    assert side_ratio(*costs) == ratio
