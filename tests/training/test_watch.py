"""What a watch of a training writes down, and when it stops it."""

import math

import pytest

from pts.errors import RunError
from pts.records import Problem
from pts.runs.journal import Journal
from pts.training.curves import CurvePoint, Drawn, curve_point
from pts.training.objectives import Scored
from pts.training.references import half_width
from pts.training.samples import Sample
from pts.training.watch import EQUAL_STEPS, Watch

PROBLEM = Problem("p", "?", "1", {"level": 2})


def sample(thinks, success, tokens, forced=True):
    return Sample((1,) * tokens, thinks, forced, success, False, 0, tokens, (math.log(0.5),) * tokens)


def drawn(success, share=0.25):
    group = [sample(False, success, 4), sample(True, True, 10), sample(True, True, 20)]
    return Drawn(PROBLEM, (1,), group, [Scored(float(one.success), 0.0) for one in group], share, 0.0)


def test_forced_modes_are_weighed_by_the_policys_own_choice():
    point = curve_point(0, [drawn(False)])
    # A quarter of 4 tokens and no success, three quarters of 15 tokens and success.
    assert point.tokens == pytest.approx(0.25 * 4 + 0.75 * 15)
    assert point.success == pytest.approx(0.75)
    assert point.levels["2"].no_thinking == 0.25
    assert (point.thinking_tokens, point.no_thinking_tokens) == (15.0, 4.0)


def test_a_step_is_written_with_its_update_and_read_again(tmp_path):
    journal = Journal(tmp_path / "curves.jsonl", CurvePoint)
    watch = Watch(journal, 10, lambda *_: None)
    watch.heard(0, [drawn(False)])
    watch.logged({"loss": 0.5, "grad_norm": 1.5, "learning_rate": 1e-3})
    assert [(point.step, point.loss, point.grad_norm) for point in journal.read()] == [(0, 0.5, 1.5)]
    watch.heard(1, [drawn(False)])
    with pytest.raises(RunError, match="the loss of step 2 is not a number"):
        watch.logged({"loss": 0.5, "grad_norm": math.nan})


def test_steps_that_solve_everything_stop_the_training_and_say_so():
    watch = Watch(None, 100, lambda *_: None)
    for step in range(EQUAL_STEPS - 1):
        watch.heard(step, [drawn(True)])
    assert watch.stopped is None
    watch.heard(EQUAL_STEPS - 1, [drawn(True)])
    assert "they solve every problem" in watch.stopped


def test_a_step_with_a_difference_begins_the_count_again():
    watch = Watch(None, 100, lambda *_: None)
    differing = Drawn(
        PROBLEM, (1,), [sample(True, True, 4), sample(True, False, 4)], [Scored(1, 0), Scored(0, 0)], 0, 0
    )
    for step in range(3 * EQUAL_STEPS):
        watch.heard(step, [drawn(False) if step % 10 else differing])
    assert watch.stopped is None


def test_sixteen_completions_know_a_success_to_a_quarter():
    assert half_width(16) == pytest.approx(0.245)
