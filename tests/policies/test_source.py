"""Sources of requests: what is taken, and that a policy comes back for what a source has later."""

import pytest
from tiny import tiny_model

from pts.policies import Policy, RequestQueue, as_source
from pts.policies.tabular import Node, TabularPolicy
from pts.policies.transformers import TransformersPolicy
from pts.records import RolloutRequest, Sampling

SHORT = Sampling(budget=3)
LEAF = Node(success=True)
TREE = Node({3: (0.5, Node({4: (1.0, LEAF)})), 5: (0.5, LEAF)})


def test_plain_requests_are_taken_in_order_until_there_are_none():
    queue = RequestQueue(RolloutRequest((1,), seed=seed) for seed in range(5))
    assert [request.seed for request in queue.take(2)] == [0, 1]
    assert [request.seed for request in queue.take(9)] == [2, 3, 4]
    assert queue.take(1) == []
    assert as_source(queue) is queue


class Chain:
    """Has one request at a time: the next is there once the one before was delivered."""

    def __init__(self, length: int) -> None:
        self.ready = [RolloutRequest((7, 8), n=2, key="0", sampling=SHORT)]
        self.length = length

    def take(self, n: int) -> list[RolloutRequest]:
        taken, self.ready = self.ready[:n], self.ready[n:]
        return taken

    def delivered(self, key: str) -> None:
        if int(key) + 1 < self.length:
            number = int(key) + 1
            self.ready.append(RolloutRequest((7, 8), n=2, seed=number, key=str(number), sampling=SHORT))


POLICIES = (
    TabularPolicy(TREE),
    TransformersPolicy(tiny_model("qwen3"), batch_rows=2),
)


@pytest.mark.parametrize("policy", POLICIES, ids=["tabular", "transformers"])
def test_a_policy_comes_back_for_what_a_source_has_after_a_delivery(policy: Policy):
    source, counts = Chain(6), dict.fromkeys(map(str, range(6)), 0)
    for rollout in policy.rollouts(source):
        counts[rollout.request.key] += rollout.count
        if counts[rollout.request.key] == 2:
            source.delivered(rollout.request.key)
    assert counts == dict.fromkeys(map(str, range(6)), 2)


@pytest.mark.parametrize("policy", POLICIES, ids=["tabular", "transformers"])
def test_the_key_is_no_part_of_the_stream(policy: Policy):
    def drawn(key: str) -> list[tuple[tuple[int, ...], int]]:
        requests = [RolloutRequest((7, 8), n=20, seed=3, key=key, sampling=SHORT)]
        return sorted((rollout.completion, rollout.count) for rollout in policy.rollouts(requests))

    assert drawn("a") == drawn("b")
