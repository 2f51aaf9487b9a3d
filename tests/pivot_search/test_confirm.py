"""Rollouts that take a token begin where they leave the trace, and are fair draws of the value after it."""

import numpy as np
import pytest
from shapes import ChainShape, chain, long_trace

from pts.pivot_search.confirm import Confirmation, taken_position, tally
from pts.pivot_search.values import GradedRollout
from pts.policies.tabular import TabularPolicy
from pts.records import Sampling, Trace

BUDGET = 512


def confirmation(position: int, seed: int, *, whole: bool = True) -> tuple[TabularPolicy, Confirmation]:
    policy = TabularPolicy(chain(ChainShape(length=40), np.random.default_rng(11)), BUDGET)
    ids = long_trace(policy.root)
    distributions = policy.next_token_probs((), ids, Sampling(budget=BUDGET))
    probs = tuple(d.prob(token) for d, token in zip(distributions, ids, strict=True))
    success = policy.node(ids).success
    return policy, Confirmation(
        Trace((), ids, probs, "end"), success if whole else None, 0, position, 0.2, seed
    )


def look(policy: TabularPolicy, pending: Confirmation) -> None:
    pending.add(
        [
            GradedRollout(r.request, r.completion, r.count, policy.node(r.completion).success, r.finish)
            for request in pending.requests()
            for r in policy.rollouts([request])
        ]
    )


@pytest.mark.parametrize("whole", [True, False])
def test_the_first_look_is_a_fair_draw_of_both_values(whole: bool) -> None:
    policy, first = confirmation(0, 0, whole=whole)
    position = next(i for i, q in enumerate(first.trace.token_probs) if 0.3 < q < 0.8 and i > 8)
    on, off = [], []
    for seed in range(400):
        policy, pending = confirmation(position, seed, whole=whole)
        look(policy, pending)
        on.append(tally(pending.on))
        off.append(tally(pending.off))
    ids = first.trace.completion
    exact = (policy.value(ids[: position + 1]), policy.off_trace_value(ids[:position], ids[position]))
    for draws, value in zip((on, off), exact, strict=True):
        successes, n = np.sum(draws, axis=0)
        # Four standard errors: a false alarm in 16,000.
        assert abs(successes / n - value) < 4 * np.sqrt(value * (1 - value) / n) + 1e-9
        assert {each[1] for each in draws} == {draws[0][1]}


def test_nothing_is_generated_where_the_trace_is_surely_followed() -> None:
    policy, first = confirmation(0, 0)
    last = max(i for i, q in enumerate(first.trace.token_probs) if q < 1.0)
    policy, pending = confirmation(last, 5)
    (request,) = pending.requests()
    assert request.avoid == first.trace.completion[last]
    look(policy, pending)
    n1, n2 = pending.test.draws(0)
    assert n1 == 3 * n2
    assert tally(pending.on) == (n1 * policy.node(first.trace.completion).success, n1)
    assert sum(rollout.new_tokens for rollout in pending.on) == 0


def test_a_key_says_which_token_a_rollout_takes() -> None:
    _, pending = confirmation(3, 0)
    for request in pending.requests():
        taken = taken_position(request.key)
        assert taken == (3 if len(request.prefix) > 3 else None)
    assert taken_position("on/1/screen/0/2/3") is None
    assert taken_position("gsm8k/7/confirm/0/1/4-9/on/6") is None


def test_a_candidate_that_spending_cut_off_is_no_finding() -> None:
    policy, pending = confirmation(0, 0)
    position = next(i for i, q in enumerate(pending.trace.token_probs) if 0.3 < q < 0.8)
    policy, pending = confirmation(position, 1)
    while not pending.stopped:
        if pending.looks_taken:
            assert pending.p_value() == 1.0
        look(policy, pending)
    assert pending.looks_taken >= 1
