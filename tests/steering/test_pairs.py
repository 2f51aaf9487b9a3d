"""A pair is the taken token and the other one that was measured on its other side."""

from pts.pivot_search.results import Alternative
from pts.steering.pairs import Choice, _other_side

TAKEN = Choice(7, "x", 0.4, 0.5, 24)


def other(token_id, value, n):
    return Alternative(token_id, str(token_id), 0.2, value, n)


def test_a_harming_token_is_paired_with_the_best_other():
    chosen = _other_side(TAKEN, [other(1, 0.7, 20), other(2, 0.9, 20), other(3, 0.1, 30)], helps=False)
    assert chosen.token_id == 2


def test_a_helping_token_is_paired_with_the_worst_other():
    chosen = _other_side(TAKEN, [other(1, 0.3, 20), other(2, 0.9, 20), other(3, 0.1, 30)], helps=True)
    assert chosen.token_id == 3


def test_few_rollouts_say_less_than_many():
    chosen = _other_side(TAKEN, [other(1, 1.0, 3), other(2, 1.0, 4), other(3, 0.95, 40)], helps=False)
    assert chosen.token_id == 3


def test_no_pair_where_nothing_was_drawn_often_enough_or_lies_on_the_right_side():
    assert _other_side(TAKEN, [other(1, 1.0, 3)], helps=False) is None
    assert _other_side(TAKEN, [other(1, 0.4, 50)], helps=False) is None
    assert _other_side(TAKEN, [other(1, 0.6, 50)], helps=True) is None
    assert _other_side(TAKEN, [], helps=True) is None
