"""Success among readable answers, by numbers worked out by hand."""

import pytest

from pts.decoding.answers import TokenUsage
from pts.evaluation.items import Item
from pts.evaluation.readable import readable_successes
from pts.evaluation.systems import System

PLAIN, STEERED = System("full"), System("full", "vectors")


def answers(system, *kinds):
    """Items of problems p0, p1, ...: right, wrong, blank (ended with nothing to grade) or cut."""
    items = {}
    for number, kind in enumerate(kinds):
        finish = "limit" if kind == "cut" else "end"
        usage = TokenUsage(
            prompt=5, thinking=0, answer=9, injected=0, finish=finish, budget_kept=True, seconds=0.1
        )
        right = kind == "right"
        item = Item(system.name, f"p{number}", 0, "digest", right, kind not in ("blank", "cut"), "", "", usage)
        items[item.key] = item
    return items


def found_in(steered, plain):
    items = {**answers(STEERED, *steered), **answers(PLAIN, *plain)}
    problems = [f"p{number}" for number in range(len(plain))]
    return readable_successes([PLAIN, STEERED], problems, 1, items, 0)


def test_a_gain_of_form_alone_is_gone_among_readable_answers():
    # Half of the readable answers are right with vectors and without; with them more can be read.
    plain = ["right", "wrong", "blank", "cut"] * 10
    steered = ["right", "wrong", "right", "wrong"] * 10
    (found,) = found_in(steered, plain)
    assert found.line == "full + vectors"
    assert (found.success, found.unsteered, found.difference) == (0.5, 0.5, 0.0)
    assert (found.readable, found.readable_unsteered) == (1.0, 0.5)
    assert found.low < 0 < found.high


def test_a_gain_of_reasoning_stays():
    plain = ["right", "wrong", "wrong", "cut"] * 10
    steered = ["right", "right", "right", "cut"] * 10
    (found,) = found_in(steered, plain)
    assert found.difference == pytest.approx(2 / 3)
    assert found.low > 0.4


def test_no_readable_answer_has_no_success():
    assert found_in(["cut"] * 4, ["right"] * 4) == []
    assert found_in(["right"] * 4, ["blank"] * 4) == []


def test_only_what_was_asked_for_with_vectors():
    items = {**answers(PLAIN, "right"), **answers(System("full", "vectors", asked=False), "right")}
    assert readable_successes([PLAIN, System("full", "vectors", asked=False)], ["p0"], 1, items, 0) == []
