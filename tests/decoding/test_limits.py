"""Thinking budgets as users give them, in tokens."""

import pytest

from pts.decoding.limits import ThinkingBudget, TokenLimits
from pts.errors import ConfigError


def test_shares_are_of_the_total_and_whole_numbers_are_tokens():
    budget = ThinkingBudget(thinking=0.4, least_thinking=0.2, answer=12, switches=3)
    assert budget.limits(96, 1) == TokenLimits(thinking=38, least_thinking=19, answer=12, total=96, switches=3)
    assert ThinkingBudget(thinking=1.0).limits(96, 1).thinking == 96
    assert ThinkingBudget(thinking=1).limits(96, 1).thinking == 1
    assert ThinkingBudget().limits(96, 1) == TokenLimits(total=96)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"thinking": -1}, "thinking is -1"),
        ({"least_thinking": -0.5}, "least thinking is -0.5"),
        ({"answer": 1.5}, "answer is 1.5"),
    ],
)
def test_an_amount_outside_its_range_is_refused(given, said):
    with pytest.raises(ConfigError, match=said):
        ThinkingBudget(**given)


def test_a_limit_must_hold_the_end_sequence_and_the_minimum():
    with pytest.raises(ConfigError, match="below the 3"):
        ThinkingBudget(thinking=2).limits(96, 3)
    with pytest.raises(ConfigError, match="below the 3"):
        ThinkingBudget(thinking=0.02).limits(96, 3)
    assert ThinkingBudget(thinking=0).limits(96, 3).thinking == 0
    with pytest.raises(ConfigError, match="more than the maximum"):
        ThinkingBudget(thinking=10, least_thinking=11).limits(96, 3)


def test_only_limits_on_thinking_need_a_model_that_thinks():
    assert not TokenLimits(answer=3, total=9).needs_thinking
    for limits in (
        TokenLimits(thinking=0),
        TokenLimits(least_thinking=1),
        TokenLimits(switches=0),
        TokenLimits(pause=True),
    ):
        assert limits.needs_thinking
