from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from searched_chains import search_chain
from shapes import OFF, ChainShape, chain, long_trace, policy_in_range

from pts.errors import ConfigError, PtsError
from pts.pivot_search import Progress, SearchConfig, find_pivotal_tokens, search_problems, select_findings
from pts.pivot_search.config import Phase
from pts.policies.source import RolloutRequests, as_source
from pts.policies.tabular import Node, TabularPolicy
from pts.records import Problem, Rollout, Sampling, TokenDistribution, TokenIds

PROBLEMS = [Problem(str(i), "q", "a") for i in range(5)]
FORK = Node({1: (0.5, Node({2: (1.0, Node(success=True))})), 3: (0.5, Node({4: (1.0, Node())}))})


def in_range_chain(seed: int) -> TabularPolicy:
    rng = np.random.default_rng(seed)
    while True:
        policy = TabularPolicy(chain(ChainShape(length=80), rng))
        if 0.3 < policy.value(()) < 0.7:
            return policy


def test_the_one_fork_that_decides_is_found() -> None:
    policy = TabularPolicy(FORK)
    result = find_pivotal_tokens(PROBLEMS[0], policy, policy.grade)
    assert result.problem.status == "searched"
    assert {f.candidate.token_id for f in result.findings} <= {1, 3}
    assert result.findings
    for finding in result.findings:
        assert abs(finding.candidate.delta) == pytest.approx(0.5, abs=0.1)
        assert finding.candidate.position == 0
        assert (finding.candidate.delta > 0) == (finding.candidate.token_id == 1)


def test_a_policy_written_by_a_user_works() -> None:
    class Coin:
        """Two tokens, the first decides; written without anything of ours but the records."""

        def encode(self, problem: Problem) -> TokenIds:
            return (7,)

        def decode(self, ids: TokenIds, stop: Sequence[str] = ()) -> str:
            return "".join("ht."[i] for i in ids)

        def next_token_probs(
            self, prompt: TokenIds, completion: TokenIds, sampling: Sampling
        ) -> list[TokenDistribution]:
            fair, end = (np.array([0, 1]), np.array([0.5, 0.5])), (np.array([2]), np.array([1.0]))
            return [TokenDistribution(*pair) for pair in (fair, end)][: len(completion)]

        def rollouts(self, requests: RolloutRequests) -> Iterator[Rollout]:
            source = as_source(requests)
            while taken := source.take(3):
                for r in taken:
                    heads = np.random.default_rng(r.seed).binomial(r.n, 0.5)
                    if r.prefix or r.force is not None or r.avoid is not None:
                        first = r.prefix[0] if r.prefix else r.force if r.force is not None else 1 - r.avoid
                        heads = r.n if first == 0 else 0
                    for token, count in ((0, heads), (1, r.n - heads)):
                        if count:
                            yield Rollout(r, (token, 2), int(count), "end")

    result = find_pivotal_tokens(PROBLEMS[0], Coin(), lambda completion, answer: completion.startswith("h"))
    assert [f.candidate.position for f in result.findings] == [0] * len(result.problem.traces)


@pytest.mark.parametrize("value", [0.02, 0.97])
def test_a_prompt_out_of_range_is_left_after_one_look(value: float) -> None:
    policy = TabularPolicy(Node({1: (value, Node(success=True)), 2: (1 - value, Node())}))
    result = find_pivotal_tokens(PROBLEMS[0], policy, policy.grade).problem
    assert result.status == "out_of_range"
    assert result.prompt_n <= 20
    assert not result.traces


def test_the_same_seed_gives_the_same_search_and_another_does_not() -> None:
    policy = in_range_chain(1)
    first = search_chain(policy, "x", SearchConfig(seed=5))
    assert first == search_chain(policy, "x", SearchConfig(seed=5))
    other = search_chain(policy, "x", SearchConfig(seed=6))
    assert (first.prompt_value, first.tokens_screen) != (other.prompt_value, other.tokens_screen)


def test_what_else_is_in_flight_changes_nothing() -> None:
    policy = in_range_chain(2)
    together = list(search_problems(PROBLEMS, policy, policy.grade, SearchConfig()))
    together.sort(key=lambda result: result.problem_id)
    alone = [next(search_problems([p], policy, policy.grade, SearchConfig())) for p in PROBLEMS]
    assert together == alone


def test_the_order_in_which_rollouts_finish_changes_nothing() -> None:
    class Backwards(TabularPolicy):
        def rollouts(self, requests: RolloutRequests) -> Iterator[Rollout]:
            source = as_source(requests)
            while taken := source.take(100):
                yield from reversed(list(super().rollouts(taken)))

    policy = in_range_chain(3)
    shuffled = Backwards(policy.root)
    assert search_chain(policy, "x", SearchConfig()) == search_chain(shuffled, "x", SearchConfig())


def test_a_budget_that_cuts_completions_fails_them() -> None:
    policy = in_range_chain(4)
    cut = TabularPolicy(policy.root, budget=40)
    config = SearchConfig(value_range=(0.0, 1.0), sampling=Sampling(budget=40))
    result = find_pivotal_tokens(PROBLEMS[0], cut, cut.grade, config).problem
    for trace in result.traces:
        assert trace.finish == ("budget" if len(trace.completion) == 40 else "end")
        assert not (trace.finish == "budget" and trace.success)


def test_the_spending_limit_ends_the_run_and_says_so() -> None:
    policy = in_range_chain(5)
    config = SearchConfig(max_tokens=4000)
    results = list(search_problems(PROBLEMS, policy, policy.grade, config))
    assert any(r.status == "spent" for r in results)
    free = list(search_problems(PROBLEMS, policy, policy.grade, replace(config, max_tokens=None)))
    assert sum(r.tokens_generated for r in results) < sum(r.tokens_generated for r in free) / 2
    for r in results:
        for trace in r.traces:
            assert trace.unresolved == 0 or r.status == "spent"
    nothing = list(search_problems(PROBLEMS, policy, policy.grade, config, spent=4000))
    assert {r.status for r in nothing} == {"spent"}
    assert sum(r.tokens_generated for r in nothing) == 0


def test_a_limited_run_confirms_what_its_screens_advanced() -> None:
    """A third of the spending finds something, where all twelve problems would otherwise be screened first."""
    policy, _ = policy_in_range(ChainShape(indifferent=0.6), np.random.default_rng(12))
    problems = [Problem(f"limited-{i}", "q", "a") for i in range(12)]
    full = list(search_problems(problems, policy, policy.grade, SearchConfig()))
    tokens = sum(r.tokens_generated for r in full)
    total = sum(c.p_value < 1.0 for r in full for c in r.candidates)
    assert total > 8
    found = []
    for share in (0.3, 0.6):
        config = SearchConfig(max_tokens=int(share * tokens))
        results = list(search_problems(problems, policy, policy.grade, config))
        assert sum(r.tokens_generated for r in results) < 1.1 * share * tokens
        found.append(sum(c.p_value < 1.0 for r in results for c in r.candidates))
    assert found[0] >= 0.1 * total
    assert found[1] >= 0.3 * total


def test_the_region_restricts_the_candidates() -> None:
    policy = in_range_chain(6)
    length = len(long_trace(policy.root))
    result = search_chain(policy, "x", SearchConfig(region=(0.5, 1.0)))
    assert result.traces[0].out_of_region > 0
    assert all(c.position >= length // 2 for c in result.candidates)


def test_a_problem_without_given_traces_is_not_searched_afresh() -> None:
    policy = in_range_chain(7)
    (result,) = search_problems(PROBLEMS[:1], policy, policy.grade, SearchConfig(), given_traces={})
    assert result.traces == ()


def test_a_given_trace_that_the_budget_cut_fails() -> None:
    # Only the last token can end it well, and a budget of its length leaves room for it; one less does not.
    end = Node({6: (0.5, Node(success=True)), 7: (0.5, Node())})
    tree = Node({1: (1.0, Node({2: (1.0, end)}))})
    for budget, success in ((3, True), (2, False)):
        policy = TabularPolicy(tree, budget=budget)
        (result,) = search_problems(
            PROBLEMS[:1],
            policy,
            lambda completion, answer: True,
            SearchConfig(value_range=(0.0, 1.0), sampling=Sampling(budget=budget)),
            given_traces={"0": [(1, 2, 6)[:budget]]},
        )
        assert result.traces[0].success == success
        assert result.traces[0].finish == ("end" if success else "budget")


def test_a_token_that_two_traces_share_is_searched_once() -> None:
    policy = in_range_chain(9)
    trace = long_trace(policy.root)
    # The second trace leaves the first late: all before that stands in both.
    left = next(i for i in reversed(range(60)) if len(policy.node(trace[:i]).children) > 1)
    other, node = [*trace[:left], OFF], policy.node((*trace[:left], OFF))
    while node.children:
        other.append(next(iter(node.children)))
        node = node.children[other[-1]][1]
    (result,) = search_problems(
        PROBLEMS[:1],
        policy,
        policy.grade,
        SearchConfig(),
        given_traces={"0": [trace, tuple(other)]},
    )
    assert result.traces[1].shared == left
    assert all(c.position >= left for c in result.candidates if c.trace == 1)


def test_progress_is_observed() -> None:
    policy = in_range_chain(8)
    seen: list[Progress] = []
    results = list(search_problems(PROBLEMS, policy, policy.grade, SearchConfig(), done=5, observe=seen.append))
    assert seen[0].problems_done == 5
    spent = [p.tokens_generated for p in seen]
    assert spent == sorted(spent)
    assert spent[-1] == sum(r.tokens_generated for r in results)
    assert {p.phase for p in seen} >= {"range", "screen"}


def test_a_policy_whose_counts_do_not_add_up_is_refused() -> None:
    class Short(TabularPolicy):
        def rollouts(self, requests: RolloutRequests) -> Iterator[Rollout]:
            for rollout in super().rollouts(requests):
                yield replace(rollout, count=rollout.count + 1)

    with pytest.raises(PtsError, match="counts must add up"):
        find_pivotal_tokens(PROBLEMS[0], Short(FORK), lambda c, a: True)


def test_findings_are_selected_over_the_whole_run() -> None:
    policy = TabularPolicy(FORK)
    results = list(search_problems(PROBLEMS, policy, policy.grade, SearchConfig()))
    candidates = [c for r in results for c in r.candidates]
    findings = select_findings(results, 0.05)
    assert 0 < len(findings) <= len(candidates)
    assert [abs(f.candidate.delta) for f in findings] == sorted(
        (abs(f.candidate.delta) for f in findings), reverse=True
    )
    assert all(f.q_value <= 0.05 and f.ci_low <= f.candidate.delta <= f.ci_high for f in findings)
    assert select_findings([], 0.05) == []


@pytest.mark.parametrize(
    "setting",
    [
        {"threshold": 0.0},
        {"threshold": 1.2},
        {"fdr": 0.0},
        {"value_range": (0.8, 0.2)},
        {"traces": 0},
        {"region": (0.5, 0.5)},
        {"max_tokens": 0},
        {"audit": 5},
    ],
)
def test_a_setting_outside_its_range_is_refused(setting: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="must be"):
        SearchConfig(**setting)  # type: ignore[arg-type]


class Recorded(TabularPolicy):
    """Keeps the keys of what it was asked for, in order."""

    def __init__(self, root: Node) -> None:
        super().__init__(root)
        self.keys: list[str] = []

    def rollouts(self, requests: RolloutRequests) -> Iterator[Rollout]:
        source = as_source(requests)
        while taken := source.take(7):
            self.keys += [request.key for request in taken]
            yield from super().rollouts(taken)


def test_requests_have_names_of_their_own_and_the_same_ones_when_searched_again() -> None:
    root = in_range_chain(2).root
    first, again = Recorded(root), Recorded(root)
    for policy in (first, again):
        list(search_problems(PROBLEMS, policy, policy.grade, SearchConfig()))
    assert sorted(first.keys) == sorted(again.keys)
    assert len(set(first.keys)) == len(first.keys)
    assert {key.split("/")[0] for key in first.keys} == {problem.id for problem in PROBLEMS}
    assert {key.split("/")[1] for key in first.keys} == set(get_args(Phase))


def test_two_problems_of_one_id_are_refused() -> None:
    policy = in_range_chain(2)
    with pytest.raises(PtsError, match="id of its own"):
        list(search_problems([PROBLEMS[0], PROBLEMS[0]], policy, policy.grade, SearchConfig()))
