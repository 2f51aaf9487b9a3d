"""The audit: whom it draws, what it costs, and that its interval for the recall holds."""

from collections.abc import Sequence

import numpy as np
import pytest
from shapes import ChainShape, policy_in_range

from pts.pivot_search import SearchConfig, search_problems, select_findings
from pts.pivot_search.audit import (
    FLOOR,
    audit_draw,
    draw_audits,
    estimate_recall,
    expected_weight,
    inclusion_chances,
    pivotal_interval,
)
from pts.pivot_search.results import ProblemResult
from pts.records import Problem, Sampling

RNG = np.random.default_rng(8)
PIVOTAL = RNG.beta(0.2, 6.0, 300)
COST = RNG.uniform(100.0, 4000.0, 300)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_the_chances_spend_what_they_may(share: float) -> None:
    tokens = share * COST.sum()
    chances = inclusion_chances(PIVOTAL, COST, tokens)
    assert chances @ COST == pytest.approx(tokens)
    assert chances.min() > 0
    assert chances.max() <= 1.0
    by_chance = np.argsort(PIVOTAL)
    assert (np.diff(chances[by_chance]) >= -1e-12).all()


def test_enough_tokens_audit_everything_and_no_candidates_nothing() -> None:
    assert (inclusion_chances(PIVOTAL, COST, 2 * COST.sum()) == 1.0).all()
    nothing = np.zeros(0)
    assert inclusion_chances(nothing, nothing, 100.0).shape == (0,)
    assert audit_draw(nothing, nothing).dropped == 0


def test_tokens_are_drawn_with_their_chances() -> None:
    chances = np.array([0.03, 0.4, 1.0])
    drawn = np.mean([draw_audits(chances, seed) for seed in range(4000)], axis=0)
    assert np.abs(drawn - chances).max() < 0.03
    assert drawn[2] == 1.0


def test_nothing_found_leaves_room_for_as_much_as_its_chance_allows() -> None:
    low, estimate, high = pivotal_interval([], 20.0, 1000)
    assert (low, estimate) == (0.0, 0.0)
    # (1 − 1/20)^n falls to 2.5% at n = 72; the gamma interval allows for 74.
    assert high == pytest.approx(20.0 * 3.689, rel=1e-3)
    assert pivotal_interval([], 20.0, 30)[2] == 30


def test_what_was_drawn_for_certain_is_known() -> None:
    assert pivotal_interval([1.0, 1.0], 0.0, 9) == (2.0, 2.0, 2.0)
    certain = audit_draw(PIVOTAL, np.ones(300))
    assert expected_weight([certain]) == 0.0
    unsure = audit_draw(PIVOTAL[:9], np.full(9, 0.1))
    assert expected_weight([certain, unsure]) == pytest.approx(10.0)


def test_no_hit_is_as_likely_as_the_expected_weight_says() -> None:
    """Of M tokens that are pivotal by the belief, none is drawn with probability (1 − 1/weight)^M."""
    rng = np.random.default_rng(6)
    belief = PIVOTAL + FLOOR
    chances = inclusion_chances(PIVOTAL, COST, 0.1 * COST.sum())
    weight = expected_weight([audit_draw(PIVOTAL, chances)])
    pivotal = rng.choice(300, size=(20_000, 5), p=belief / belief.sum())
    unseen = (rng.random(pivotal.shape) >= chances[pivotal]).all(axis=1).mean()
    assert unseen == pytest.approx((1 - 1 / weight) ** 5, abs=0.015)


@pytest.mark.parametrize("trust", ["believed", "misled"])
def test_the_interval_holds_its_level(trust: str) -> None:
    """Coverage over 600 audits of 300 tokens, where the belief is right and where it is wrong by a factor."""
    rng = np.random.default_rng(3)
    truth = PIVOTAL if trust == "believed" else np.full(300, PIVOTAL.mean())
    chances = inclusion_chances(PIVOTAL, COST, 0.15 * COST.sum())
    unseen = audit_draw(PIVOTAL, chances).weight
    held, errors = 0, []
    for _ in range(600):
        pivotal = rng.random(300) < truth
        drawn = draw_audits(chances, int(rng.integers(2**40)))
        low, estimate, high = pivotal_interval((1.0 / chances[drawn & pivotal]).tolist(), unseen, 300)
        held += low <= pivotal.sum() <= high
        errors.append(estimate - pivotal.sum())
    assert held / 600 >= 0.93
    # Unbiased: within 4 standard errors, which an estimate without weights misses by far.
    assert abs(np.mean(errors)) < 4 * np.std(errors) / 600**0.5


def searched(audit: float, seed: int = 4) -> list[ProblemResult]:
    """Six traces of 120 tokens."""
    rng = np.random.default_rng(seed)
    results = []
    for index in range(6):
        policy, trace = policy_in_range(ChainShape(), rng)
        config = SearchConfig(value_range=(0.0, 1.0), audit=audit, sampling=Sampling(budget=512))
        problem = Problem(str(index), "q", "a")
        results += search_problems([problem], policy, policy.grade, config, given_traces={problem.id: [trace]})
    return results


def audited(results: Sequence[ProblemResult]) -> int:
    return sum(c.audit_weight is not None for result in results for c in result.candidates)


def test_an_audit_adds_candidates_and_changes_no_other() -> None:
    without, with_audit = searched(0.0), searched(0.2)
    assert estimate_recall(without, select_findings(without, 0.05)) is None
    assert audited(without) == 0
    for plain, other in zip(without, with_audit, strict=True):
        assert [c for c in other.candidates if c.audit_weight is None] == list(plain.candidates)
        assert other.tokens_generated - other.tokens_audit == plain.tokens_generated
        assert other.audit is not None
        assert plain.audit is None
        drawn = sum(c.audit_weight is not None for c in other.candidates)
        (trace,) = other.traces
        assert trace.excluded_value + trace.screened_out + drawn == other.audit.dropped
    recall = estimate_recall(with_audit, select_findings(with_audit, 0.05))
    assert recall is not None
    assert recall.audited == audited(with_audit) > 0
    assert recall.dropped == sum(result.audit.dropped for result in with_audit if result.audit is not None)
    assert recall.low is not None
    assert recall.recall is not None
    assert recall.high is not None
    assert 0.0 < recall.low <= recall.recall <= recall.high <= 1.0
    nothing_reported = estimate_recall(with_audit, [])
    assert nothing_reported is not None
    assert (nothing_reported.recall, nothing_reported.missed) == (None, 0.0)
    assert nothing_reported.missed_high > 0
    spent = sum(result.tokens_audit for result in with_audit)
    assert 0.05 < spent / sum(result.tokens_generated - result.tokens_audit for result in with_audit) < 0.6


def test_a_run_cut_within_its_audit_has_no_recall() -> None:
    rng = np.random.default_rng(4)
    policy, trace = policy_in_range(ChainShape(), rng)
    problem = Problem("0", "q", "a")
    config = SearchConfig(value_range=(0.0, 1.0), audit=1.0, sampling=Sampling(budget=512))
    given = {problem.id: [trace]}
    (whole,) = search_problems([problem], policy, policy.grade, config, given_traces=given)
    limit = whole.tokens_generated - whole.tokens_audit
    limited = SearchConfig(value_range=(0.0, 1.0), audit=1.0, sampling=Sampling(budget=512), max_tokens=limit)
    (cut,) = search_problems([problem], policy, policy.grade, limited, given_traces=given)
    assert cut.status == "spent"
    assert cut.audit is None
    assert estimate_recall([cut], select_findings([cut], 0.05)) is None
