"""The fit of a router finds a difficulty that was planted in the residual stream, and is calibrated."""

import numpy as np
import pytest

from pts.calibration.router_fit import Measurements, choose_price, fit_probe
from pts.decoding.limits import ThinkingBudget
from pts.errors import DataError
from pts.evaluation.outcomes import Outcomes

BUDGETS = {"none": ThinkingBudget(thinking=0), "hard": ThinkingBudget()}
SAMPLES, HIDDEN, PLANTED = 4, 24, 2


def outcomes(rng, probabilities, tokens):
    successes = rng.binomial(SAMPLES, probabilities)
    spent = np.round(SAMPLES * tokens).astype(np.int64) * np.ones(len(successes), dtype=np.int64)
    return Outcomes(SAMPLES, successes, spent, np.zeros(len(successes), dtype=np.int64))


def planted(problems=400, seed=0, strength=4.0):
    """Layer 2 knows along one direction whether a problem needs thinking; the other layers are noise."""
    rng = np.random.default_rng(seed)
    states = rng.normal(size=(problems, 3, HIDDEN)) * 5 + 20
    difficulty = rng.normal(size=problems)
    direction = rng.normal(size=HIDDEN)
    states[:, PLANTED] += 10 * difficulty[:, None] * direction / np.linalg.norm(direction) * 3
    without = 1 / (1 + np.exp(strength * difficulty))
    measured = {
        "none": outcomes(rng, without, 5.0),
        "hard": outcomes(rng, np.full(problems, 0.8), 40 + 10 * difficulty),
    }
    return Measurements(states, (3, 5, 9), np.arange(problems), measured), without


def test_it_reads_the_planted_layer_and_predicts_what_was_planted():
    measured, without = planted()
    probe = fit_probe(measured, BUDGETS, 96)
    assert probe.layer == 9
    none, hard = probe.classes
    assert none.quality.auc > 0.9
    assert none.quality.log_loss < 0.6 * none.quality.base_log_loss
    assert hard.quality.log_loss == pytest.approx(hard.quality.base_log_loss, abs=0.02)
    import torch

    predicted = np.array(
        [probe.predict(torch.from_numpy(state[PLANTED]), 96)[0][0] for state in measured.states]
    )
    assert np.corrcoef(predicted, without)[0, 1] > 0.95
    # Calibrated: of the problems given about p, about p are solved.
    for low in (0.0, 0.25, 0.5, 0.75):
        chosen = (predicted >= low) & (predicted < low + 0.25)
        assert without[chosen].mean() == pytest.approx(predicted[chosen].mean(), abs=0.08)
    tokens = [probe.predict(torch.from_numpy(state[PLANTED]), 96)[1][1] for state in measured.states]
    spent = measured.outcomes["hard"].tokens / SAMPLES
    assert np.corrcoef(tokens, spent)[0, 1] > 0.9


def test_routing_beats_each_arm_alone_at_the_fitted_price():
    measured, _ = planted()
    probe = fit_probe(measured, BUDGETS, 96)
    hard = measured.outcomes["hard"]
    assert probe.routed["success"] >= hard.success
    assert probe.routed["tokens"] < 0.85 * hard.tokens_each
    assert probe.routed["share_none"] + probe.routed["share_hard"] == pytest.approx(1)


def test_a_price_that_is_given_is_kept_and_a_high_one_buys_no_thinking():
    measured, _ = planted()
    probe = fit_probe(measured, BUDGETS, 96, price=0.5)
    assert (probe.price, probe.routed["share_none"]) == (0.5, 1.0)


def test_a_stream_that_knows_nothing_predicts_the_mean():
    rng = np.random.default_rng(3)
    measured = Measurements(
        rng.normal(size=(300, 1, HIDDEN)),
        (0,),
        np.arange(300),
        {"none": outcomes(rng, np.full(300, 0.3), 5.0), "hard": outcomes(rng, np.full(300, 0.7), 40.0)},
    )
    probe = fit_probe(measured, BUDGETS, 96)
    for each in probe.classes:
        assert each.quality.log_loss == pytest.approx(each.quality.base_log_loss, abs=0.02)
    assert probe.routed["share_hard"] > 0.9


def test_an_arm_that_always_succeeds_can_be_fitted():
    rng = np.random.default_rng(4)
    measured = Measurements(
        rng.normal(size=(60, 1, HIDDEN)),
        (0,),
        np.arange(60),
        {"none": outcomes(rng, np.ones(60), 5.0), "hard": outcomes(rng, np.zeros(60), 40.0)},
    )
    probe = fit_probe(measured, BUDGETS, 96)
    assert [each.quality.auc for each in probe.classes] == [None, None]
    assert probe.routed["share_none"] == 1.0


def test_problems_that_are_alike_are_held_out_together():
    # Every problem ten times: a probe of noise would remember them if its twins were in the fit.
    rng = np.random.default_rng(5)
    states = np.repeat(rng.normal(size=(40, 1, HIDDEN)), 10, axis=0)
    rates = np.repeat(rng.choice([0.05, 0.95], size=40), 10)
    measured = Measurements(states, (0,), np.repeat(np.arange(40), 10), {"none": outcomes(rng, rates, 5.0)})
    probe = fit_probe(measured, {"none": BUDGETS["none"]}, 96)
    assert probe.classes[0].quality.auc < 0.75


def test_the_price_is_the_lowest_that_saves_enough_without_a_loss():
    sure = Outcomes(1, np.array([1, 1, 0, 0]), np.array([5, 5, 5, 5]), np.zeros(4, dtype=np.int64))
    long = Outcomes(1, np.array([1, 1, 1, 1]), np.array([50, 50, 50, 50]), np.zeros(4, dtype=np.int64))
    success = np.array([[0.90, 1.0], [0.90, 1.0], [0.1, 1.0], [0.1, 1.0]])
    tokens = np.array([[5.0, 50.0]] * 4)
    price = choose_price(success, tokens, [sure, long], long)
    # Two are worth 0.1 for 45 tokens, two 0.9.
    assert 0.1 / 45 < price < 0.1 / 45 * 1.2


def test_too_few_problems_are_refused():
    measured, _ = planted(problems=9)
    with pytest.raises(DataError, match="9 different problems are too few"):
        fit_probe(measured, BUDGETS, 96)
