import numpy as np
import pytest
from shapes import ON, ChainShape, chain, long_trace

from pts.pivot_search.values import GradedRollout, TraceMap, leaving_position, off_trace_counts, shared_length
from pts.policies.tabular import TabularPolicy
from pts.records import RolloutRequest, Sampling, TokenIds, Trace


def mapped_chain(seed: int) -> tuple[TabularPolicy, TraceMap]:
    policy = TabularPolicy(chain(ChainShape(length=60), np.random.default_rng(seed)))
    path = long_trace(policy.root)
    probs = tuple(d.prob(t) for d, t in zip(policy.next_token_probs((), path, Sampling()), path, strict=True))
    return policy, TraceMap.of(Trace((), path, probs, "end"), policy.grade(policy.decode(path), ""))


@pytest.mark.parametrize("seed", range(3))
def test_values_are_the_weighted_off_trace_values(seed: int) -> None:
    policy, trace_map = mapped_chain(seed)
    path = trace_map.trace.completion
    off = np.array([policy.off_trace_value(path[:i], path[i]) for i in trace_map.forks])
    for k, fork in enumerate(trace_map.forks):
        stayed = np.prod(trace_map.q[k + 1 :])
        value = trace_map.weight[k] @ off + stayed * trace_map.final_value
        assert value == pytest.approx(policy.value(path[: fork + 1]))
        assert trace_map.weight[k].sum() + stayed == pytest.approx(1.0)


def test_shared_length_is_that_of_the_common_beginning() -> None:
    first = tuple(range(300))
    for shared in (0, 1, 63, 64, 65, 200, 300):
        other = first[:shared] + (-1,) * 5
        assert shared_length(first, other) == shared_length(other, first) == shared


def test_no_effect_exceeds_either_bound() -> None:
    policy, trace_map = mapped_chain(4)
    path = trace_map.trace.completion
    for k, fork in enumerate(trace_map.forks):
        effect, value = abs(policy.effect(path[:fork], path[fork])), policy.value(path[: fork + 1])
        assert effect <= trace_map.most_effect[k] + 1e-12
        assert effect <= trace_map.most_effect[k] * max(value, 1 - value) + 1e-12


TRACE = Trace((9,), (1, 2, 3, 4), (0.5, 0.5, 0.5, 0.5), "end")


def rolled(
    completion: TokenIds, prefix: TokenIds = (), force: int | None = None, avoid: int | None = None
) -> GradedRollout:
    return GradedRollout(RolloutRequest((9,), prefix, force, avoid, 1), completion, 1, True)


@pytest.mark.parametrize(
    ("rollout", "position"),
    [
        (rolled((1, 7, 8)), 1),
        (rolled((7, 8)), 0),
        (rolled((1, 2, 7), (1,), avoid=5), 2),
        (rolled((1, 7), (1,), avoid=2), 1),
        (rolled((1, 7), (1,), avoid=5), None),  # avoided something else: not a draw of the rest
        (rolled((1, 7), (1,), force=7), None),
        (rolled((1, 2, 7), (1,), force=2), 2),
        (rolled((1, 2, 3, 4)), None),
        (rolled((8, 7, 7), (8, 7)), None),  # left the trace within its given prefix
    ],
)
def test_a_rollout_counts_where_it_leaves_by_its_own_draw(rollout: GradedRollout, position: int | None) -> None:
    assert leaving_position(rollout, TRACE) == position


def test_off_trace_counts_are_unbiased_from_any_prefix() -> None:
    policy, trace_map = mapped_chain(5)
    path = trace_map.trace.completion
    requests = [RolloutRequest((), path[:start], n=6000, seed=start) for start in (0, 20, 40)]
    pool = [
        GradedRollout(r.request, r.completion, r.count, policy.grade(policy.decode(r.completion), ""))
        for r in policy.rollouts(requests)
    ]
    successes, draws = off_trace_counts(pool, trace_map)
    assert draws.sum() > 10000
    for fork, s, n in zip(trace_map.forks, successes, draws, strict=True):
        exact = policy.off_trace_value(path[:fork], path[fork])
        # Five standard errors with a floor: no false alarm to be expected over some twenty forks.
        assert abs(s - n * exact) <= 5 * np.sqrt(max(n * exact * (1 - exact), 1.0))


def test_a_given_trace_may_hold_tokens_that_the_policy_never_takes() -> None:
    trace_map = TraceMap.of(Trace((), (ON, ON, ON), (0.5, 0.0, 1.0), "end"), True)
    assert list(trace_map.forks) == [0, 1]
    assert trace_map.weight[0, 1] == 1.0
