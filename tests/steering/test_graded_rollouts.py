"""Advantages of a journal's rollouts are the policy gradient's, whatever was forced or avoided."""

from types import SimpleNamespace

import numpy as np
import pytest

from pts.errors import DataError
from pts.pivot_search.results import Candidate, ProblemResult, SearchedTrace
from pts.pivot_search.values import GradedRollout
from pts.records import RolloutRequest, Sampling
from pts.runs.rollout_journal import RolloutJournal
from pts.runs.search_run import ROLLOUTS
from pts.steering.graded_rollouts import (
    Advantage,
    Graded,
    RolloutSample,
    Start,
    advantages,
    arms_of,
    journal_sample,
)

PROBS = {7: 0.5, 8: 0.3, 9: 0.2}
VALUES = {7: 0.9, 8: 0.2, 9: 0.4}
"""A fork: the policy's probability of each first token, and the success that follows it."""
START = Start("p", (1,), (2,), 7)


def arm(name, draws, probs):
    """Exactly as many rollouts as the policy would draw on average."""
    rows = []
    for token, prob in probs.items():
        n = round(draws * prob)
        solved = round(n * VALUES[token])
        rows += [Graded(0, name, (token,), solved, True), Graded(0, name, (token,), n - solved, False)]
    return rows


def others(token):
    rest = {other: prob for other, prob in PROBS.items() if other != token}
    return {other: prob / sum(rest.values()) for other, prob in rest.items()}


def gradient(rows, probs):
    """What each first token's log-probability is multiplied by, a rollout."""
    sample = RolloutSample((START,), tuple(rows), Sampling())
    found = dict.fromkeys(PROBS, 0.0)
    for row, worth in zip(rows, advantages(sample, probs), strict=True):
        found[row.new[0]] += worth.first * worth.weight
    total = sum(row.count for row in rows)
    return {token: value / total for token, value in found.items()}


@pytest.mark.parametrize("sizes", [(4000, 4000), (1000, 9000), (9000, 1000)])
def test_forced_and_avoided_rollouts_are_the_policy_gradient_of_their_prefix(sizes):
    rows = [*arm("forced", sizes[0], {7: 1.0}), *arm("avoided", sizes[1], others(7))]
    value = sum(PROBS[token] * VALUES[token] for token in PROBS)
    exact = {token: PROBS[token] * (VALUES[token] - value) for token in PROBS}
    assert gradient(rows, [PROBS[7]]) == pytest.approx(exact, abs=2e-3)


def test_weights_of_a_start_add_up_to_its_rollouts():
    rows = [*arm("forced", 30, {7: 1.0}), *arm("avoided", 50, others(7))]
    sample = RolloutSample((START,), tuple(rows), Sampling())
    assert sum(worth.weight for worth in advantages(sample, [0.5])) == pytest.approx(80)


def test_one_side_alone_is_measured_by_its_own_value():
    rows = arm("forced", 1000, {7: 1.0})
    assert gradient(rows, [0.5])[7] == pytest.approx(0.0, abs=1e-12)
    found = advantages(RolloutSample((START,), tuple(rows), Sampling()), [0.5])
    assert [round(worth.first, 2) for worth in found] == [0.1, -0.9]
    assert [worth.later for worth in found] == [worth.first for worth in found]


def test_a_rollout_says_nothing_of_the_value_that_it_is_measured_by():
    rows = (Graded(0, "free", (7,), 1, True), Graded(0, "free", (8,), 1, False))
    sample = RolloutSample((Start("p", (1,), ()),), rows, Sampling())
    assert advantages(sample, [None]) == [Advantage(1.0, 1.0, 1.0), Advantage(-1.0, -1.0, 1.0)]
    alone = RolloutSample((Start("p", (1,), ()),), rows[:1], Sampling())
    assert advantages(alone, [None]) == [Advantage(0.0, 0.0, 1.0)]


def test_a_fork_worked_out_by_hand():
    """q = 0.4; five rollouts took the token, two solved; three did not, and two of these solved."""
    rows = (
        Graded(0, "forced", (7,), 2, True),
        Graded(0, "forced", (7,), 3, False),
        Graded(0, "avoided", (8, 5), 2, True),
        Graded(0, "avoided", (9, 5), 1, False),
    )
    taken_solved, taken_failed, other_solved, other_failed = advantages(
        RolloutSample((START,), rows, Sampling()), [0.4]
    )
    # Of the other four that took it one solved, so V is 1/4; O is 2/3; b = 0.4 · 1/4 + 0.6 · 2/3 = 1/2.
    assert taken_solved.first == pytest.approx(1 - 1 / 2)
    assert taken_solved.later == pytest.approx(1 - 1 / 4)
    # V is 2/4 without a failure: b = 0.4 · 1/2 + 0.6 · 2/3 = 3/5.
    assert taken_failed.first == pytest.approx(-3 / 5)
    assert taken_failed.later == pytest.approx(-1 / 2)
    # Each of the five stands for 0.4 · 8/5 = 0.64 rollouts of the policy.
    assert taken_solved.weight == pytest.approx(2 * 0.64)
    assert taken_failed.weight == pytest.approx(3 * 0.64)
    # O is 1/2 without a success and 1 without the failure; V is 2/5: b = 0.16 + 0.6 · O.
    assert other_solved.first == pytest.approx(1 - 0.46)
    assert other_solved.later == pytest.approx(1 / 2)
    assert other_failed.first == pytest.approx(-0.76)
    assert other_failed.later == pytest.approx(-1.0)
    # Each of the three stands for 0.6 · 8/3 = 1.6: token 8 comes to 3.2 of 8, which is p(8) = 0.6 · 2/3.
    assert other_solved.weight == pytest.approx(3.2)
    assert other_failed.weight == pytest.approx(1.6)


def test_shuffled_grades_keep_every_problem_as_hard_as_it_was():
    generator = np.random.default_rng(0)
    starts = (Start("a", (1,), ()), Start("a", (1,), (4,)), Start("b", (2,), ()))
    rows = tuple(
        Graded(place, "free", (place, number), int(generator.integers(1, 4)), bool(number % 3))
        for place in range(3)
        for number in range(40)
    )
    sample = RolloutSample(starts, rows, Sampling())
    shuffled = sample.shuffled(5)

    def totals(of):
        found = {"a": [0, 0], "b": [0, 0]}
        for row in of.rollouts:
            counted = found[starts[row.start].problem_id]
            counted[0] += row.count * row.success
            counted[1] += row.count
        return found

    assert totals(shuffled) == totals(sample)
    assert set(shuffled.rollouts) != set(sample.rollouts)
    assert shuffled == sample.shuffled(5)


TRACE, PROMPT = (5, 6, 7, 8, 1), (2, 3)


def problem(number):
    """A problem whose token 6, at position 1, was confirmed by 50 rollouts that took it and 30 that did not."""
    counts = dict.fromkeys(
        ("excluded_exact", "excluded_value", "screened_out", "unresolved", "out_of_region", "shared"), 0
    )
    trace = SearchedTrace(TRACE, tuple("abcde"), (1.0, 0.5, 1.0, 0.7, 1.0), "end", True, **counts, confirmed=1)
    candidate = Candidate(0, 1, 6, "b", 0.5, 0.6, 30, 50, 2 / 3, 20, 30, -0.03, 1.0, 5)
    return ProblemResult(f"p{number}", "?", "4", 0, "searched", PROMPT, 0.5, 12, (trace,), (candidate,))


def searched(folder, problems, *, solved=True):
    """The run of these problems. Of the 50 that took the token 20 left the trace at position 3, and failed."""
    journal = RolloutJournal(folder / ROLLOUTS)
    for result in problems:
        for side, place, n, successes in (("off", 1, 30, 20), ("on/3", 3, 20, 0)):
            key = f"{result.problem_id}/confirm/0/1/1/{side}"
            request = RolloutRequest(PROMPT, TRACE[:place], avoid=TRACE[place], n=n, key=key)
            rows = [((9, 1), successes, True), ((4, 1), n - successes, not solved)]
            graded = [
                GradedRollout(request, TRACE[:place] + new, count, success)
                for new, count, success in rows
                if count
            ]
            journal.record(result.problem_id, "confirm", graded)
    journal.close(complete=True)
    return SimpleNamespace(path=folder, results=problems)


def test_the_journal_has_both_sides_of_a_confirmed_token(tmp_path):
    problems = [problem(number) for number in range(8)]
    sample = journal_sample(searched(tmp_path, problems), Sampling(), {each.problem_id for each in problems})
    arms = dict(zip(sample.starts, arms_of(sample), strict=True))
    # Where the rollouts with the token begin nothing was ever solved: that start says nothing by itself.
    assert arms.keys() == {Start(each.problem_id, PROMPT, (5,), 6) for each in problems}
    # The other 30 that took it stayed on the trace, which was solved.
    assert all(found == {"forced": [30, 50], "avoided": [20, 30]} for found in arms.values())
    assert {row.new for row in sample.rollouts if row.arm == "forced"} == {(6,)}


def test_too_few_rollouts_and_prefixes_of_one_value_are_refused(tmp_path):
    problems = [problem(number) for number in range(8)]
    run = searched(tmp_path / "few", problems[:3])
    with pytest.raises(DataError, match=r"has 90 graded rollouts of 3 problems .* at least 200 of 8: search"):
        journal_sample(run, Sampling(), {each.problem_id for each in problems})
    run = searched(tmp_path / "one", problems, solved=False)
    with pytest.raises(DataError, match="every prefix has one value, as no start of its 400 rollouts"):
        journal_sample(run, Sampling(), {each.problem_id for each in problems})
