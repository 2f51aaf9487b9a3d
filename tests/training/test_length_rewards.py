"""Each length reward on a small group, with the values worked out by hand."""

import pytest

from pts.training.length_rewards import FORMS, WITH_TARGET, Aim, LengthReward
from pts.training.samples import Sample

LENGTHS = [10, 20, 30, 15]
SUCCESSES = [True, True, True, False]
AIM = Aim(20.0, 40)


@pytest.mark.parametrize(
    ("form", "gains"),
    [
        ("linear", [0.5, 0.0, -0.5, 0.25]),
        ("kimi", [0.5, 0.0, -0.5, 0.0]),
        ("target", [-0.5, 0.0, -0.5, -0.25]),
        ("limit", [0.0, 0.0, -1.0, 0.0]),
        ("ratio", [1.0, 0.0, -1 / 3, 1 / 3]),
        ("cosine", [0.353553, 0.0, -0.353553, -0.345671]),
    ],
)
def test_a_form_gives_what_its_formula_says(form, gains):
    assert FORMS[form](LENGTHS, SUCCESSES, AIM) == pytest.approx(gains, abs=1e-5)


def test_a_failure_never_gains_by_being_short_where_the_reward_is_gated():
    assert FORMS["gated-linear"](LENGTHS, SUCCESSES, Aim(0.0, 40)) == pytest.approx([1.0, 0.5, 0.0, 0.0])
    # Below the target nothing more is gained.
    assert FORMS["gated-linear"](LENGTHS, SUCCESSES, AIM) == pytest.approx([1.0, 1.0, 0.0, 0.0])
    short, long = ([5, 20], [39, 20]), [False, True]
    for form in ("gated-linear", "kimi", "limit"):
        failing = [FORMS[form](lengths, long, AIM)[0] for lengths in short]
        assert failing[0] <= 0.0, form
    # What goes wrong without the gate: a short failure gains more than a long success.
    ungated = FORMS["linear"]([5, 39], [False, True], AIM)
    assert ungated[0] > ungated[1]


def test_a_group_of_one_length_gains_nothing():
    for form in ("linear", "kimi", "gated-linear"):
        assert FORMS[form]([7, 7], [True, False], AIM) == [0.0, 0.0]


def test_what_is_counted_is_a_setting_and_alpha_weighs_it():
    group = [
        Sample((1,) * 9, True, False, True, False, 6, 3, ()),
        Sample((1,) * 9, True, False, True, False, 4, 5, ()),
    ]
    assert LengthReward("gated-linear", 0.5, "thinking")(group, 0) == [0.0, 0.5]
    assert LengthReward("gated-linear", 0.5, "answer")(group, 0) == [0.5, 0.0]
    assert LengthReward("gated-linear", 0.5, "all")(group, 0) == [0.0, 0.0]


def test_a_limit_is_lowered_in_stages_and_stays():
    reward = LengthReward("limit", 1.0, limits=(60.0, 40.0), stage_steps=10)
    assert [reward.aim_at(step).target for step in (0, 9, 10, 19, 25)] == [60.0, 60.0, 40.0, 40.0, 40.0]
    assert set(WITH_TARGET) <= set(FORMS)
