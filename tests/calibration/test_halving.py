"""Successive halving keeps the best, spends little on the rest, and treats every lane alike."""

import zlib

import numpy as np
import pytest

from pts.calibration.halving import Schedule, race, race_size
from pts.calibration.settings import grid
from pts.evaluation.outcomes import Outcomes
from pts.stats import bootstrap_mean_interval

PROBLEMS, SAMPLES = 64, 4


def settings():
    return list(grid(["all"], ["good", "random-0"], [1, 2], [0.2, 0.4], ["probe", "always"]))


def truth(setting):
    return 0.9 if (setting.method, setting.layer, setting.strength) == ("good", 2, 0.4) else 0.4


class Bench:
    """Outcomes with a known success rate, drawn once for each setting and problem."""

    def __init__(self):
        self.calls = []

    def __call__(self, asked, first, end):
        self.calls.append((len(asked), first, end))
        return {setting: self.outcomes(setting, first, end) for setting in asked}

    def outcomes(self, setting, first, end):
        rng = np.random.default_rng(zlib.crc32(setting.key.encode()))
        successes = rng.binomial(SAMPLES, truth(setting), size=PROBLEMS)[first:end]
        return Outcomes(SAMPLES, successes, np.full(end - first, 40), np.zeros(end - first, dtype=int))


def test_the_grid_has_every_combination_with_both_signs():
    assert len(settings()) == len(set(settings())) == 2 * 2 * 2 * 2 * 2
    assert {setting.strength for setting in settings()} == {0.2, -0.2, 0.4, -0.4}


def test_the_best_setting_wins_its_lane_and_the_finalists_have_seen_every_problem():
    bench = Bench()
    lanes = race(settings(), lambda setting: setting.method, bench, PROBLEMS)
    winner, outcomes = lanes["good"][0]
    assert (winner.layer, winner.strength) == (2, 0.4)
    assert set(lanes) == {"good", "random-0"}
    for ranked in lanes.values():
        assert all(len(outcomes.successes) == PROBLEMS for _, outcomes in ranked)
    assert outcomes.success == pytest.approx(
        bench.outcomes(winner, 0, PROBLEMS).successes.sum() / (SAMPLES * PROBLEMS)
    )


def test_no_problem_is_measured_twice_and_each_round_halves_the_settings():
    bench = Bench()
    race(settings(), lambda setting: setting.method, bench, PROBLEMS)
    places = [(first, end) for _, first, end in bench.calls]
    assert places == [(0, 2), (2, 4), (4, 8), (8, 16), (16, 32), (32, 64)]
    assert [count for count, _, _ in bench.calls] == [32, 16, 8, 4, 2, 2]


def test_a_race_may_follow_another_schedule():
    bench = Bench()
    schedule = Schedule((0.125, 0.375, 1.0), (0.2, 0.2))
    race(settings(), lambda setting: setting.method, bench, PROBLEMS, schedule)
    assert bench.calls == [(32, 0, 8), (8, 8, 24), (2, 24, 64)]
    assert race_size([16, 16], PROBLEMS, schedule) == 32 * 8 + 8 * 16 + 2 * 40


@pytest.mark.parametrize("problems", [1, 2, 7, PROBLEMS])
def test_the_size_of_a_race_is_known_before_it_is_run(problems):
    bench = Bench()
    race(settings(), lambda setting: setting.method, bench, problems)
    assert race_size([16, 16], problems) == sum(count * (end - first) for count, first, end in bench.calls)
    assert max(end for _, _, end in bench.calls) == problems


def test_outcomes_of_other_samples_do_not_join():
    one, other = (Outcomes(n, np.ones(2), np.ones(2), np.ones(2)) for n in (2, 3))
    with pytest.raises(ValueError, match="2 samples"):
        one.joined(other)


def test_the_bootstrap_interval_covers_at_its_level():
    """400 means of 40 draws: 95% intervals cover between 91% and 98% (false alarm below one in a thousand)."""
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(400):
        low, high = bootstrap_mean_interval(rng.normal(0.3, 1.0, 40), 0.95, seed, resamples=400)
        covered += low <= 0.3 <= high
    assert 0.90 < covered / 400 < 0.985
