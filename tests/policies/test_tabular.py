import numpy as np
import pytest

from pts.policies.tabular import Node, TabularPolicy
from pts.records import Rollout, RolloutRequest, Sampling

GOOD, BAD = Node(success=True), Node()
ROOT = Node(
    {
        1: (0.5, Node({2: (0.8, GOOD), 3: (0.2, BAD)})),
        4: (0.3, BAD),
        5: (0.2, Node({6: (1.0, Node({7: (1.0, GOOD)}))})),
    }
)


def draw(policy: TabularPolicy, request: RolloutRequest) -> list[Rollout]:
    rollouts = list(policy.rollouts([request]))
    assert sum(r.count for r in rollouts) == request.n
    assert len({r.completion for r in rollouts}) == len(rollouts)
    return rollouts


def test_exact_values() -> None:
    policy = TabularPolicy(ROOT)
    assert policy.value(()) == pytest.approx(0.5 * 0.8 + 0.2)
    assert policy.value((1,)) == pytest.approx(0.8)
    assert policy.off_trace_value((), 1) == pytest.approx(0.2 / 0.5)
    assert policy.effect((), 1) == pytest.approx((1 - 0.5) * (0.8 - 0.4))


def test_budget_cuts_and_a_cut_completion_fails() -> None:
    policy = TabularPolicy(ROOT, budget=2)
    assert policy.value((5,)) == 0.0
    (rollout,) = draw(policy, RolloutRequest((), (), force=5, n=3, sampling=Sampling(budget=2)))
    assert (rollout.completion, rollout.count, rollout.finish) == ((5, 6), 3, "budget")
    assert not policy.grade(policy.decode(rollout.completion), "")


def test_rollouts_follow_the_probabilities() -> None:
    policy = TabularPolicy(ROOT)
    counts = {r.completion: r.count for r in draw(policy, RolloutRequest((), n=20000, seed=3))}
    expected = {(1, 2): 0.4, (1, 3): 0.1, (4,): 0.3, (5, 6, 7): 0.2}
    for path, prob in expected.items():
        # Five standard errors: a false alarm in about two million runs.
        assert abs(counts[path] / 20000 - prob) < 5 * np.sqrt(prob * (1 - prob) / 20000)


def test_avoid_renormalises_and_force_starts_with_the_token() -> None:
    policy = TabularPolicy(ROOT)
    avoided = {r.completion[0]: r.count for r in draw(policy, RolloutRequest((), avoid=1, n=10000, seed=1))}
    assert set(avoided) == {4, 5}
    assert abs(avoided[4] / 10000 - 0.6) < 0.025
    forced = draw(policy, RolloutRequest((), force=1, n=50, seed=1))
    assert {r.completion[0] for r in forced} == {1}


def test_avoiding_the_only_token_is_an_error() -> None:
    with pytest.raises(ValueError, match="only one"):
        list(TabularPolicy(ROOT).rollouts([RolloutRequest((), (5,), avoid=6)]))


def test_the_seed_alone_decides() -> None:
    policy = TabularPolicy(ROOT)
    first, second = RolloutRequest((), n=9, seed=4), RolloutRequest((), n=9, seed=5)
    alone = draw(policy, first)
    assert [r for r in policy.rollouts([second, first]) if r.request is first] == alone
    assert alone != draw(policy, second)


def test_next_token_probs_along_a_completion() -> None:
    first, second = TabularPolicy(ROOT).next_token_probs((), (1, 3), Sampling())
    assert list(first.ids) == [1, 4, 5]
    assert second.prob(3) == pytest.approx(0.2)
    assert second.prob(99) == 0.0


def test_a_tree_thousands_of_tokens_deep_has_exact_values() -> None:
    node = GOOD
    for _ in range(5000):
        node = Node({1: (0.9999, node), 2: (0.0001, BAD)})
    assert TabularPolicy(node, budget=6000).value(()) == pytest.approx(0.9999**5000)
