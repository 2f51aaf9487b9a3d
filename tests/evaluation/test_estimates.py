"""Intervals cover what they should; tests hold their level; known answers."""

import numpy as np
import pytest
from scipy.stats import binomtest

from pts.evaluation.estimates import bootstrap_p, mcnemar_p, sign_flip_p
from pts.evaluation.paired_systems import PairedSystems


def mean_estimate(values, **more):
    return PairedSystems(values[None], values[None], **more).mean_success(0)


def difference(first, second, **more):
    both = np.stack([first, second])
    return PairedSystems(both, both, **more).difference(0, 1)


def draws(rng, rates, seeds):
    """Outcomes [problems, seeds] of problems with these success rates."""
    return (rng.random((len(rates), seeds)) < rates[:, None]).astype(float)


def test_a_mean_with_its_interval():
    values = np.repeat([[0.0], [1.0]], 50, axis=0)
    estimate = mean_estimate(values)
    assert estimate.value == 0.5
    assert (estimate.low, estimate.high) == pytest.approx((0.40, 0.60), abs=0.011)


def test_seeds_of_one_problem_are_not_independent():
    rng = np.random.default_rng(0)
    rates = rng.integers(0, 2, 60).astype(float)
    few, many = (mean_estimate(draws(rng, rates, seeds)) for seeds in (1, 20))
    assert (many.high - many.low) == pytest.approx(few.high - few.low, rel=0.1)


def test_all_alike_is_not_certain():
    estimate = mean_estimate(np.ones((50, 3)))
    assert estimate.high == 1.0
    assert estimate.low == pytest.approx(binomtest(50, 50).proportion_ci(0.95).low)
    same = difference(np.ones((50, 2)), np.ones((50, 2)))
    assert same.value == 0.0
    assert same.low < 0 < same.high
    assert same.p_value == 1.0


def test_the_interval_of_a_paired_difference_covers_and_an_unpaired_one_would_be_wider():
    rng = np.random.default_rng(1)
    covered, widths, unpaired = 0, [], []
    for trial in range(300):
        base = rng.beta(0.6, 0.6, 80)
        shifted = np.clip(base + 0.1, 0, 1)
        first, second = draws(rng, shifted, 3), draws(rng, base, 3)
        estimate = difference(first, second, seed=trial, resamples=600)
        covered += estimate.low <= 0.1 * 0.93 <= estimate.high  # some rates are clipped at 1: 0.093 in the mean
        widths.append(estimate.high - estimate.low)
        alone = mean_estimate(first, resamples=600), mean_estimate(second, resamples=600)
        unpaired.append(np.hypot(*(entry.high - entry.low for entry in alone)))
    assert 0.90 <= covered / 300 <= 0.99
    assert np.mean(widths) < 0.75 * np.mean(unpaired)


def test_the_tests_hold_their_level_and_have_power():
    rng = np.random.default_rng(2)
    null = {1: 0, 4: 0}
    power = {1: 0, 4: 0}
    for _ in range(300):
        rates = rng.beta(0.6, 0.6, 60)
        for seeds in null:
            first, second = draws(rng, rates, seeds), draws(rng, rates, seeds)
            better = draws(rng, np.clip(rates + 0.25, 0, 1), seeds)
            null[seeds] += difference(first, second, resamples=400).p_value <= 0.05
            power[seeds] += difference(better, second, resamples=400).p_value <= 0.05
    assert null[1] / 300 <= 0.075
    assert null[4] / 300 <= 0.08
    assert power[1] / 300 > 0.5
    assert power[4] / 300 > 0.95


def test_mcnemar_is_the_binomial_test_of_the_pairs_that_differ():
    first = np.array([1] * 9 + [0] * 2 + [1] * 20 + [0] * 5)
    second = np.array([0] * 9 + [1] * 2 + [1] * 20 + [0] * 5)
    expected = binomtest(2, 11).pvalue
    assert mcnemar_p(first, second) == pytest.approx(expected)
    assert difference(first[:, None], second[:, None]).p_value == pytest.approx(expected)
    # The sign-flip test is the same test drawn by chance.
    assert sign_flip_p((first - second).astype(float)) == pytest.approx(expected, abs=0.012)


def test_a_ratio_is_paired():
    rng = np.random.default_rng(3)
    tokens = rng.lognormal(4, 1, (100, 2))
    both = np.stack([0.8 * tokens, tokens])
    estimate = PairedSystems(both, both).tokens_ratio(0, 1)
    assert estimate[:3] == pytest.approx((0.8, 0.8, 0.8))


def test_bootstrap_p():
    assert bootstrap_p(np.full(99, 0.1)) == pytest.approx(0.02)
    assert bootstrap_p(np.zeros(99)) == 1.0


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match="systems, problems, seeds"):
        PairedSystems(np.ones((2, 3, 2)), np.ones((2, 3, 1)))
    with pytest.raises(ValueError, match="systems, problems, seeds"):
        PairedSystems(np.ones((2, 0, 2)), np.ones((2, 0, 2)))
