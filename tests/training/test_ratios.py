"""AdaptThink's arithmetic on small tensors, with the values worked out by hand."""

import math

import pytest
import torch

from pts.decoding.think_format import ThinkFormat
from pts.records import Problem
from pts.training.modes import Modes
from pts.training.objectives import AdaptThink, GroupReward
from pts.training.ratios import clipped_loss, old_log_probs, padded, ratios
from pts.training.samples import Sample

THINK = ThinkFormat((1,), (2,), (2,), (), ())
MODES = Modes((), (2,), (), True, THINK)
PROBLEM = Problem("p", "?", "1")


def sample(ids, thinks, success, logs, forced=True, thinking=0):
    return Sample(ids, thinks, forced, success, False, thinking, len(ids) - thinking, logs)


def test_the_first_token_of_a_forced_mode_has_one_half():
    short = sample((2, 7, 9), False, True, (math.nan, math.log(0.9), math.log(0.8)))
    assert old_log_probs(short, MODES) == pytest.approx([math.log(0.5), math.log(0.9), math.log(0.8)])
    long = sample((5, 7, 2), True, True, (math.log(0.55), math.log(0.9), math.log(0.8)))
    assert old_log_probs(long, MODES)[0] == pytest.approx(math.log(0.5 * 0.55))
    free = sample((5, 7, 2), True, True, (math.log(0.55), math.log(0.9), math.log(0.8)), forced=False)
    assert old_log_probs(free, MODES)[0] == pytest.approx(math.log(0.55))


def test_what_is_forced_behind_the_first_token_is_certain():
    modes = Modes((), (2, 3), (4, 5), True, THINK)
    logs = (math.nan, math.nan, math.log(0.25))
    assert old_log_probs(sample((2, 3, 9), False, True, logs), modes) == pytest.approx(
        [math.log(0.5), 0.0, math.log(0.25)]
    )
    assert old_log_probs(sample((4, 5, 9), True, True, logs), modes) == pytest.approx(
        [math.log(0.5), 0.0, math.log(0.25)]
    )


def test_the_ratio_of_a_sequence_is_the_geometric_mean_and_the_full_one_the_product():
    # Two tokens with p / p_old of 4 and 1, and one with 0.01 alone.
    log_probs = torch.log(torch.tensor([[0.8, 0.5], [0.005, 0.3]]))
    old = torch.log(torch.tensor([[0.2, 0.5], [0.5, 1.0]]))
    mask = torch.tensor([[1, 1], [1, 0]])
    assert ratios(log_probs, old, mask, "sequence").tolist() == pytest.approx([2.0, 0.01])
    assert ratios(log_probs, old, mask, "full").tolist() == pytest.approx([4.0, 0.01])
    # Seven tokens that the policy begins with 0.00032: the weight is 0.35 as a sequence, 0.00064 in full.
    seven = torch.zeros(1, 7)
    seven[0, 0] = math.log(0.00032)
    before = torch.zeros(1, 7)
    before[0, 0] = math.log(0.5)
    assert ratios(seven, before, torch.ones(1, 7), "sequence").item() == pytest.approx(0.3497, abs=1e-4)
    assert ratios(seven, before, torch.ones(1, 7), "full").item() == pytest.approx(0.00064)


def test_the_loss_is_clipped_as_in_ppo():
    ratio = torch.tensor([2.0, 2.0, 0.5, 0.5])
    advantages = torch.tensor([1.0, -1.0, 1.0, -1.0])
    # min(2, 1.2), min(−2, −1.2), min(0.5, 0.8), min(−0.5, −0.8)
    assert clipped_loss(ratio, advantages, 0.2).item() == pytest.approx(-(1.2 - 2.0 + 0.5 - 0.8) / 4)


def test_rows_are_padded_with_zeros_and_what_was_not_drawn_is_zero():
    assert padded([[1.0], [math.nan, 2.0]], 3).tolist() == [[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]]


def test_the_advantage_is_reward_less_reference_plus_delta():
    group = [
        sample((2, 7, 9), False, True, (0.0,) * 3),
        sample((2, 7, 9), False, False, (0.0,) * 3),
        sample((5, 2, 9), True, True, (0.0,) * 3, thinking=2),
        sample((5, 2, 9), True, False, (0.0,) * 3, thinking=2),
    ]
    scored = AdaptThink(0.05, {"p": 0.75}).scored(PROBLEM, group, 0)
    assert [score.advantage for score in scored] == pytest.approx([0.3, -0.7, 0.25, -0.75])
    # No group mean: the advantages need not add up to nothing.
    assert sum(score.advantage for score in scored) != pytest.approx(0.0)


def test_the_reference_of_its_own_is_the_other_thinking_completions():
    group = [sample((2, 9), False, True, (0.0,) * 2)] + [
        sample((5, 9), True, success, (0.0,) * 2) for success in (True, True, False)
    ]
    advantages = [score.advantage for score in AdaptThink(0.0, None).scored(PROBLEM, group, 0)]
    assert advantages == pytest.approx([1 - 2 / 3, 1 - 0.5, 1 - 0.5, 0 - 1.0])


def test_halves_are_forced_or_all_is_free():
    assert AdaptThink(0.05, {}).modes(4) == ["no thinking", "no thinking", "thinking", "thinking"]
    assert AdaptThink(0.05, {}, importance_sampling=False).modes(2) == ["free", "free"]


def test_without_a_length_reward_the_group_mean_is_taken_and_nothing_is_scaled():
    group = [sample((5,), True, success, (0.0,)) for success in (True, False, False, False)]
    assert [s.advantage for s in GroupReward().scored(PROBLEM, group, 0)] == pytest.approx(
        [0.75, -0.25, -0.25, -0.25]
    )
