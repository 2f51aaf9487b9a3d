"""The frontier of known points, and gains over it whose intervals cover the truth."""

import numpy as np
import pytest

from pts.evaluation.frontier import frontier_at, frontier_corners
from pts.evaluation.paired_systems import frontier_gain

TOKENS = np.array([10.0, 20.0, 40.0, 30.0, 60.0])
SUCCESS = np.array([0.2, 0.6, 0.7, 0.55, 0.65])


def at(*costs):
    return [float(frontier_at(TOKENS, SUCCESS, np.array(cost))) for cost in costs]


def test_the_frontier_is_concave_and_never_falls():
    assert at(10, 15, 20, 30, 40) == pytest.approx([0.2, 0.4, 0.6, 0.65, 0.7])
    assert at(60, 1000) == pytest.approx([0.7, 0.7])
    assert np.isnan(at(9.9)[0])
    assert frontier_corners(TOKENS, SUCCESS) == [(10, 0.2), (20, 0.6), (40, 0.7)]


def test_a_point_below_the_chord_is_no_corner():
    assert frontier_corners(np.array([0.0, 1, 2]), np.array([0, 0.4, 1])) == [(0, 0), (2, 1)]
    assert float(frontier_at(np.array([0.0, 1, 2]), np.array([0, 0.4, 1]), np.array(1.0))) == 0.5


def outcomes(rng, difficulty, slopes, seeds):
    """Success and tokens [systems, problems, seeds] of lines that solve a problem with slope − difficulty."""
    success, tokens = [], []
    for shift, mean_tokens in slopes:
        rates = 1 / (1 + np.exp(3 * (difficulty - shift)))
        success.append(rng.random((len(difficulty), seeds)) < rates[:, None])
        spread = rng.uniform(0.8, 1.2, (len(difficulty), seeds))
        tokens.append(mean_tokens * (1 + 0.3 * np.tanh(difficulty))[:, None] * spread)
    return np.array(success, float), np.array(tokens)


def truth(shift):
    difficulty = np.random.default_rng(99).normal(size=400_000)
    return float(np.mean(1 / (1 + np.exp(3 * (difficulty - shift)))))


def test_a_known_gain_of_toy_arrays():
    success = np.zeros((3, 40, 1))
    success[1] = 1
    success[2, :30] = 1
    tokens = np.stack([np.full((40, 1), 10.0), np.full((40, 1), 30.0), np.full((40, 1), 20.0)])
    estimate = frontier_gain(success, tokens, sweep=[0, 1], system=2)
    assert estimate.value == pytest.approx(0.25)
    assert estimate.low == pytest.approx(0.25 - 0.134, abs=0.026)
    assert estimate.p_value < 0.01


def test_a_line_cheaper_than_every_budget_has_no_claim():
    success = np.ones((2, 10, 1))
    tokens = np.stack([np.full((10, 1), 10.0), np.full((10, 1), 9.0)])
    assert all(np.isnan(part) for part in frontier_gain(success, tokens, sweep=[0], system=1))


def test_a_point_of_the_sweep_gains_nothing():
    rng = np.random.default_rng(4)
    success, tokens = outcomes(rng, rng.normal(size=60), [(-1, 10), (0, 20), (0.5, 40)], 2)
    assert frontier_gain(success, tokens, sweep=[0, 1, 2], system=1).value <= 0


@pytest.mark.parametrize(("shift", "cost"), [(0.75, 30.0), (0.4, 20.0)])
def test_intervals_cover_the_true_gain(shift, cost):
    # The sweep's frontier is known: its points are concave in the tokens.
    sweep = [(-1.0, 10.0), (0.0, 20.0), (0.5, 40.0)]
    chord = {30.0: (truth(0.0) + truth(0.5)) / 2, 20.0: truth(0.0)}[cost]
    expected = truth(shift) - chord
    rng = np.random.default_rng(5)
    covered, too_high, clear = 0, 0, 0
    for trial in range(200):
        success, tokens = outcomes(rng, rng.normal(size=120), [*sweep, (shift, cost)], 3)
        estimate = frontier_gain(success, tokens, sweep=[0, 1, 2], system=3, seed=trial, resamples=500)
        covered += estimate.low <= expected <= estimate.high
        too_high += expected < estimate.low
        clear += estimate.low > 0
    assert covered / 200 >= 0.91
    assert too_high / 200 <= 0.05
    assert clear / 200 > 0.5


def test_no_gain_is_found_where_there_is_none():
    rng = np.random.default_rng(6)
    sweep = [(-1.0, 10.0), (0.0, 20.0), (0.5, 40.0)]
    found = 0
    for trial in range(200):
        success, tokens = outcomes(rng, rng.normal(size=80), [*sweep, (0.0, 20.0)], 2)
        found += frontier_gain(success, tokens, sweep=[0, 1, 2], system=3, seed=trial, resamples=500).low > 0
    # 2.5% were it exact.
    assert found / 200 <= 0.05


def test_a_frontier_that_is_not_resampled_would_claim_too_much():
    """The interval must hold the sweep's own uncertainty: with few problems it is wider than the line's."""
    rng = np.random.default_rng(7)
    difficulty = rng.normal(size=40)
    success, tokens = outcomes(rng, difficulty, [(-1.0, 10.0), (0.3, 40.0), (0.3, 25.0)], 1)
    estimate = frontier_gain(success, tokens, sweep=[0, 1], system=2)
    assert estimate.low < estimate.value < estimate.high
    assert estimate.high - estimate.low > 0.1


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match="sweep"):
        frontier_gain(np.ones((2, 3, 1)), np.ones((2, 3, 1)), sweep=[], system=0)
    with pytest.raises(ValueError, match="systems, problems, seeds"):
        frontier_gain(np.ones((2, 3)), np.ones((2, 3)), sweep=[0], system=1)


def test_few_problems_give_no_smaller_p_value_than_they_can_show():
    success = np.array([[1.0] * 5, [0.0] * 5])[..., None]
    tokens = np.full((2, 5, 1), 10.0)
    assert frontier_gain(success, tokens, sweep=[0], system=1).p_value == 2.0**-4
