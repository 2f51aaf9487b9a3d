"""The one-standard-error rule: what the problems cannot tell apart is equal, and then cost decides."""

import numpy as np
import pytest

from pts.evaluation.thresholds import cheapest_of_best

ALL, HALF = np.ones(40), np.arange(40) % 2


@pytest.mark.parametrize(
    ("success", "tokens", "chosen"),
    [
        # Clearly better, whatever it costs.
        ([HALF, ALL], [10, 90], 1),
        # As good on every problem: the cheaper, wherever it stands.
        ([HALF, HALF, HALF], [30, 20, 40], 1),
        # One problem of 40 more: within a standard error of the difference.
        ([np.r_[1.0, HALF[1:]], HALF], [50, 49], 1),
        # Six more, and never one less: beyond it.
        ([np.r_[np.ones(12), HALF[12:]], HALF], [50, 49], 0),
        # Equally good, equally dear: the one with more success.
        ([HALF, np.r_[1.0, HALF[1:]]], [50, 50], 1),
    ],
)
def test_cost_decides_among_what_is_as_good(success, tokens, chosen):
    costs = np.repeat(np.array(tokens, float)[:, None], 40, axis=1)
    assert cheapest_of_best(np.array(success, float), costs) == chosen


def test_the_difference_is_paired():
    """Problems differ far more than the rows do: unpaired, nothing could be told apart."""
    rng = np.random.default_rng(0)
    hard = rng.random(400)
    better, worse = (hard < 0.55).astype(float), (hard < 0.45).astype(float)
    tokens = np.repeat(np.array([[20.0], [10.0]]), 400, axis=1)
    assert cheapest_of_best(np.stack([better, worse]), tokens) == 0
    assert cheapest_of_best(np.stack([better, rng.permutation(better)]), tokens) == 1
