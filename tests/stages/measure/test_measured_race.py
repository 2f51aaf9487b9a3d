"""A set in a race with random vectors: who is dropped when, what that proves, and that it goes on."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_measured_controls import layered

from pts.calibration.set_controls import SetControls, race_among
from pts.errors import ConfigError
from pts.evaluation.measured import Measured
from pts.evaluation.outcomes import Outcomes
from pts.report.vector_tables import measured_report
from pts.stages.measure.inputs import MeasureInputs
from pts.stages.measure.run import measure_set
from pts.steering.hooks import Intervention

KEPT_VECTORS = (Intervention(0, torch.ones(4)),)


def raced(successes, tokens=None):
    """A race on these successes [vectors, problems], the set's own first: the order, and who saw what."""
    settings = SetControls(KEPT_VECTORS, 0).settings(len(successes) - 1)[1:]
    rows = dict(zip(settings, successes, strict=True))
    lengths = dict(zip(settings, np.full(successes.shape, 7) if tokens is None else tokens, strict=True))
    seen = []

    def evaluate(alive, first, end):
        seen.append((len(alive), first, end))
        return {
            one: Outcomes.of(1, rows[one][first:end].tolist(), lengths[one][first:end], [0] * (end - first))
            for one in alive
        }

    order, outcomes = race_among(settings, evaluate, successes.shape[1])
    return [settings.index(one) for one in order], [len(outcomes[one].successes) for one in settings], seen


def test_the_worse_half_is_dropped_and_keeps_its_place():
    # The more the higher the row: the last is the best from the first problem on.
    successes = np.array([[problem % 8 < row for problem in range(32)] for row in range(8)], dtype=int)
    order, problems, seen = raced(successes)
    assert order == [7, 6, 5, 4, 3, 2, 1, 0]
    assert problems == [4, 4, 4, 4, 12, 12, 24, 32] or problems == [4, 4, 4, 4, 12, 12, 24, 24]
    assert seen == [(8, 0, 4), (4, 4, 12), (2, 12, 24), (1, 24, 32)]


def test_a_late_bloomer_that_was_dropped_does_not_come_back():
    successes = np.zeros((4, 16), dtype=int)
    successes[0, 2:] = 1  # Fails the first two problems only.
    successes[1:3, :2] = 1
    order, problems, _ = raced(successes)
    assert order[:2] == [1, 2]
    assert problems[0] == 2


def test_the_set_is_behind_the_random_vectors_that_do_as_well():
    order, _, _ = raced(np.ones((4, 16), dtype=int))
    assert order[-1] == 0


def test_vectors_that_are_no_better_come_first_as_often_as_any_other():
    rng = np.random.default_rng(0)
    draws = 2000

    def place():
        order, _, _ = raced(rng.integers(0, 2, (20, 64)), rng.integers(20, 60, (20, 64)))
        return order.index(0)

    places = np.array([place() for _ in range(draws)])
    for end in (1, 5, 10):  # Four standard errors.
        share = end / 20
        assert np.mean(places < end) == pytest.approx(share, abs=4 * (share * (1 - share) / draws) ** 0.5)


def test_a_race_on_the_demo_model_drops_random_vectors_and_goes_on(tmp_path):
    source, output = layered(tmp_path / "set"), tmp_path / "kept"
    inputs = MeasureInputs(source, problems=32, samples=1, random=5, race=True, output=output)
    measured = measure_set(inputs)
    assert len(measured.steered.successes) == len(measured.unsteered.successes) == 32
    assert {len(each.successes) for each in measured.random} <= {4, 12, 24, 32}
    assert min(len(each.successes) for each in measured.random) == 4
    plain = measure_set(replace(inputs, race=False, random=0, output=None))
    assert (plain.unsteered.sums, plain.steered.sums) == (measured.unsteered.sums, measured.steered.sums)
    for each, difference in zip(measured.random, measured.random_differences, strict=True):
        count = len(each.successes)
        expected = sum(each.successes) / count - sum(measured.unsteered.successes[:count]) / count
        assert difference == pytest.approx(expected)
    assert measured.p_value == measured.place / 6
    journal = output / "outcomes.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:7]))
    assert measure_set(inputs).figures() == measured.figures()
    assert sorted(journal.read_text().splitlines(keepends=True)) == sorted(lines)


def test_a_race_needs_random_vectors():
    with pytest.raises(ConfigError, match=r"race.* needs random vectors: give random=, such as 19"):
        MeasureInputs("demo", race=True)


def test_the_report_names_those_that_were_last_in_the_race():
    plain, steered = Outcomes.of(1, (0,) * 8, (5,) * 8, (0,) * 8), Outcomes.of(1, (1,) * 8, (5,) * 8, (0,) * 8)
    dropped, last = Outcomes.of(1, (1,), (5,), (0,)), Outcomes.of(1, (1, 0) * 4, (5,) * 8, (0,) * 8)
    measured = Measured(plain, steered, 1.0, 1.0, 1.0, None, (last, *[dropped] * 18), 1)
    text = " ".join(str(part) for part in measured_report(measured).renderables)
    assert "in a race (the last 1, on 8 problems: best +0.500): rank 1 of 20, p 0.050" in text
