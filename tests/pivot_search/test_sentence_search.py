from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from sentence_shapes import SentencePolicy, sentence_chain
from shapes import RIGHT, WRONG, ChainShape, chain

from pts.pivot_search import SearchConfig, find_pivotal_tokens, search_problems, select_findings
from pts.pivot_search.different import different_tally, sentences_at, shared_words, words_of
from pts.pivot_search.findings import Finding
from pts.pivot_search.links import select_links
from pts.pivot_search.posterior import believe, span_chances
from pts.pivot_search.results import LaterSentence, ProblemResult
from pts.pivot_search.sentences import sentence_spans
from pts.pivot_search.values import GradedRollout, TraceMap, leaving_draws
from pts.policies.tabular import Node, TabularPolicy
from pts.records import Problem, RolloutRequest, TokenIds, Trace


def policy_of(seed: int, length: int = 60) -> SentencePolicy:
    return sentence_chain(ChainShape(length=length), np.random.default_rng(seed))


def searched(policy: SentencePolicy, config: SearchConfig) -> ProblemResult:
    trace = policy.trace()
    (result,) = search_problems(
        [Problem("p", "q", "a")], policy, policy.grade, config, given_traces={"p": [trace.completion]}
    )
    return result


def off_trace(policy: SentencePolicy, trace: Trace, start: int, end: int) -> float:
    """Exact O of a span: V before = Q V after + (1 − Q) O."""
    values = policy.values_along(trace.completion)
    q = float(np.prod(trace.token_probs[start:end]))
    return (values[start] - q * values[end]) / (1.0 - q)


def test_draws_that_leave_a_sentence_have_its_off_trace_value() -> None:
    policy = policy_of(3)
    trace = policy.trace()
    spans = sentence_spans(trace.completion, policy.decode)
    assert len(spans) > 5
    for start, end in spans:
        if np.prod(trace.token_probs[start:end]) == 1.0:
            continue
        n, mean = 4000, 0.0
        for position, count in leaving_draws(trace.token_probs, start, end, n, seed=start).items():
            prefix, token = trace.completion[:position], trace.completion[position]
            mean += count / n * policy.off_trace_value(prefix, token)
        assert mean == pytest.approx(off_trace(policy, trace, start, end), abs=0.05)


def test_the_chance_of_a_sentence_is_that_of_both_its_ends_together() -> None:
    trace = Trace((), (1, 2, 3), (0.4, 0.5, 1.0), "end")
    tokens = TraceMap.of(trace, True)
    # Off the trace the first token always succeeds and the second never: V is 0.8, 0.5, 1 from the start on.
    successes, draws = np.array([200, 0]), np.array([200, 200])
    first, second, both, last = span_chances(tokens, successes, draws, [(0, 1), (1, 2), (0, 2), (2, 3)], 0.25)
    assert [first, second] == pytest.approx(believe(tokens, successes, draws, 0.25).pivotal.tolist(), abs=0.02)
    assert first > 0.9
    assert second > 0.9
    assert both < 0.1
    assert last == 0.0


@pytest.fixture(scope="module")
def found() -> list[tuple[SentencePolicy, Trace, ProblemResult]]:
    policies = [policy_of(seed, 120) for seed in range(30)]
    config = SearchConfig(seed=5, unit="sentence")
    return [(policy, policy.trace(), searched(policy, config)) for policy in policies]


def test_effects_of_sentences_are_found_and_unbiased(
    found: list[tuple[SentencePolicy, Trace, ProblemResult]],
) -> None:
    errors, large, reported = [], [], set()
    findings = select_findings([result for _, _, result in found], 0.05)
    for index, (policy, trace, result) in enumerate(found):
        values = policy.values_along(trace.completion)
        spans = sentence_spans(trace.completion, policy.decode)
        assert result.traces[0].sentences == spans
        for candidate in result.candidates:
            assert candidate.unit == "sentence"
            assert candidate.entropy is None
            assert (candidate.position, candidate.end) in spans
            assert candidate.token == policy.decode(trace.completion[candidate.position : candidate.end])
            errors.append(candidate.delta - (values[candidate.end] - values[candidate.position]))
        large += [(index, start) for start, end in spans if abs(values[end] - values[start]) >= 0.3]
        for f in findings:
            if f.problem is result:
                c = f.candidate
                reported.add((index, c.position))
                assert abs(values[c.end] - values[c.position]) > 0.1
                assert (c.delta > 0) == (values[c.end] > values[c.position])
    assert len(errors) >= 20
    # The standard error of a mean of 20 effects of 72 draws a side is below 0.02.
    assert abs(float(np.mean(errors))) < 0.06
    assert len(large) >= 10
    assert len(reported & set(large)) >= 0.8 * len(large)


def test_a_search_of_both_finds_the_tokens_of_a_search_of_tokens() -> None:
    policy = policy_of(1, 120)
    result = searched(policy, SearchConfig(seed=5, unit="both"))
    alone = searched(policy, SearchConfig(seed=5))
    sentences = [c for c in result.candidates if c.unit == "sentence"]
    assert sentences
    assert alone.candidates
    assert tuple(c for c in result.candidates if c.unit == "token" and c.audit_weight is None) == tuple(
        c for c in alone.candidates if c.audit_weight is None
    )
    assert result.tokens_screen == alone.tokens_screen
    assert result.audit is not None
    trace = result.traces[0]
    assert trace.details is not None
    counts = (trace.excluded_exact, trace.excluded_value, trace.screened_out, trace.unresolved)
    assert sum(counts) + trace.out_of_region + trace.shared + trace.confirmed == len(trace.completion)
    assert {i for i, fate in enumerate(trace.details.fates) if fate == "c"} == {
        c.position for c in result.candidates if c.unit == "token"
    }


def test_the_same_seed_gives_the_same_search_of_sentences() -> None:
    policy = policy_of(2)
    config = SearchConfig(seed=9, unit="sentence")
    assert searched(policy, config) == searched(policy, config)


def test_a_search_of_tokens_has_no_sentences() -> None:
    policy = TabularPolicy(chain(ChainShape(length=40), np.random.default_rng(0)))
    result = find_pivotal_tokens(
        Problem("p", "q", "a"), policy, policy.grade, SearchConfig(seed=1, value_range=(0.0, 1.0))
    ).problem
    assert all(c.unit == "token" for c in result.candidates)
    assert all(trace.sentences == () for trace in result.traces)


@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [
        ("So 5 + 3 = 8.", "so 5 + 3 = 8", 1.0),
        ("5 + 3 = 8.", "5 + 3 = 9.", 0.8),
        ("Wait, that is wrong.", "20 - 9 = 11.", 0.0),
        ("", "", 1.0),
    ],
)
def test_sentences_are_compared_by_their_words(first: str, second: str, shared: float) -> None:
    assert shared_words(words_of(first), words_of(second)) == pytest.approx(shared)
    assert shared_words(words_of(second), words_of(first)) == pytest.approx(shared)


def test_a_different_sentence_is_told_from_a_like_one() -> None:
    words = {1: "Add", 2: " 5", 3: " and", 4: " 3", 5: ".", 6: " Subtract", 7: " two", 8: " things", 9: " 4"}

    def decode(ids: TokenIds, stop: Sequence[str] = ()) -> str:
        return "".join(words[i] for i in ids)

    like, different = (1, 2, 3, 9, 5, 6, 7, 5), (6, 7, 8, 5, 1, 2)
    rollouts = [
        GradedRollout(RolloutRequest(()), like, 3, True),
        GradedRollout(RolloutRequest(()), different, 4, True),
        GradedRollout(RolloutRequest(()), different, 5, False),
    ]
    written = sentences_at(rollouts, 0, decode)
    assert written[0] == "Add 5 and 4."
    assert different_tally(rollouts, "Add 5 and 3.", written) == (4, 9)


def test_the_counterfactual_is_a_part_of_what_left_the_sentence(
    found: list[tuple[SentencePolicy, Trace, ProblemResult]],
) -> None:
    candidates = [c for _, _, result in found for c in result.candidates]
    assert any(0 < c.different_n < c.off_trace_n for c in candidates)
    for c in candidates:
        assert 0 <= c.different_successes <= min(c.different_n, c.off_trace_successes)


BUS, WALK, COINS, APPLE, SLEEP = range(11, 16)
LINKED = {
    **{BUS: "Take a bus. ", WALK: "Walk home. ", COINS: "Pay two coins. ", APPLE: "Eat an apple. "},
    **{SLEEP: "Sleep now. ", RIGHT: "Yes.", WRONG: "No."},
}
"""Sentences of one token each."""
PAYS_AFTER = {BUS: 0.8, WALK: 0.1}
"""How often the coins are paid after the bus, and after the walk."""


class LinkedSentences(TabularPolicy):
    """The first sentence decides how often the second is written, and success; the third is left to chance."""

    def __init__(self) -> None:
        super().__init__(Node({BUS: (0.6, self._after(BUS, 0.9)), WALK: (0.4, self._after(WALK, 0.1))}))

    def _after(self, first: int, value: float) -> Node:
        ends = Node({RIGHT: (value, Node(success=True)), WRONG: (1.0 - value, Node())})
        last = Node({APPLE: (0.5, ends), SLEEP: (0.5, ends)})
        pays = PAYS_AFTER[first]
        return Node({COINS: (pays, last), SLEEP: (1.0 - pays, last)})

    def decode(self, ids: TokenIds, stop: Sequence[str] = ()) -> str:
        return "".join(LINKED[token] for token in ids)

    def grade(self, completion: str, answer: str) -> bool:
        return completion.endswith("Yes.")


@pytest.fixture(scope="module")
def linked() -> list[ProblemResult]:
    policy = LinkedSentences()
    problems = [Problem(f"p{seed}", "q", "a") for seed in range(12)]
    traces = {problem.id: [(BUS, COINS, APPLE, RIGHT)] for problem in problems}
    config = SearchConfig(seed=3, unit="sentence", value_range=(0.0, 1.0))
    return list(search_problems(problems, policy, policy.grade, config, given_traces=traces))


def with_later(finding: Finding, text: str) -> Finding:
    """A finding of which one later sentence alone was looked for."""
    (later,) = (each for each in finding.candidate.later if each.text == text)
    return replace(finding, candidate=replace(finding.candidate, later=(later,)))


def test_a_sentence_is_linked_to_the_later_one_that_it_leads_to(linked: list[ProblemResult]) -> None:
    findings = select_findings(linked, 0.05)
    assert len(findings) >= 8
    assert {f.candidate.token for f in findings} == {LINKED[BUS]}
    links = select_links([with_later(f, LINKED[COINS]) for f in findings], 0.05)
    assert len(links) >= 8
    for (link,) in links.values():
        assert link.position == 1
        assert link.low <= PAYS_AFTER[BUS] - PAYS_AFTER[WALK] <= link.high
        assert 0.0 < link.p_value <= link.q_value <= 0.05
    shares = [(link.written, link.written_without) for (link,) in links.values()]
    # Some 8 × 10 rollouts a side at least: a standard error of 0.05.
    assert np.mean(shares, axis=0) == pytest.approx([PAYS_AFTER[BUS], PAYS_AFTER[WALK]], abs=0.12)


def test_links_of_sentences_that_are_as_likely_are_not_reported(linked: list[ProblemResult]) -> None:
    apples = [with_later(f, LINKED[APPLE]) for f in select_findings(linked, 0.05)]
    assert all(f.candidate.later[0].left_written > 0 for f in apples)
    assert not select_links(apples, 0.05)


def test_a_later_sentence_that_every_rollout_wrote_is_not_tested(linked: list[ProblemResult]) -> None:
    (first, *_) = select_findings(linked, 0.05)
    always = LaterSentence(1, "Pay.", 20, 20, 15, 15)
    assert not select_links([replace(first, candidate=replace(first.candidate, later=(always,)))], 0.05)
