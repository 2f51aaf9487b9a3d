"""What may be claimed: ranks among controls, their correction, and how often a false claim is made."""

from dataclasses import replace

import numpy as np
import pytest

from pts.ranks import controls_needed, rank_among, rank_p_value
from pts.steering.claims import claims, rank_sentence
from pts.steering.vector_set import Effect


def effect(pattern="all", difference=0.2, random=(0.0,) * 19, low=0.1, methods=1):
    return Effect(
        pattern,
        64,
        4,
        0.4,
        0.4 + difference,
        difference,
        low,
        0.3,
        0.95,
        tuple(random),
        30.0,
        31.0,
        None,
        methods,
    )


def set_of(*effects):
    return claims({one.pattern: one for one in effects})


def test_a_rank_counts_ties_against_the_vector():
    assert rank_among(0.3, [0.1, 0.2]) == 1
    assert rank_among(0.3, [0.3, 0.2, 0.4]) == 3
    assert rank_p_value(0.3, [0.3] + [0.0] * 18) == pytest.approx(2 / 20)
    assert rank_p_value(0.3, [0.0] * 19) == 0.05
    assert rank_p_value(0.3, [0.0] * 19, methods=4) == pytest.approx(0.2)
    assert rank_p_value(0.3, []) == 1.0
    assert rank_p_value(0.0, [0.1] * 19, methods=2) == 1.0


@pytest.mark.parametrize(("methods", "patterns", "needed"), [(1, 1, 19), (2, 1, 39), (1, 4, 79), (4, 5, 399)])
def test_the_controls_that_a_claim_needs(methods, patterns, needed):
    assert controls_needed(methods, patterns) == needed
    assert methods * patterns / (needed + 1) <= 0.05 < methods * patterns / needed


@pytest.mark.parametrize("count", [0, 1, 8, 18])
def test_fewer_than_nineteen_controls_claim_nothing(count):
    one = effect(random=(0.0,) * count)
    assert not one.found
    claim = set_of(one)["all"]
    assert not claim.made
    assert not claim.possible
    said = rank_sentence(claim)
    assert ("nothing is proved" if count == 0 else f"rank 1 of {count + 1}") in said
    assert count == 0 or "proves nothing: a claim needs at least 19" in said


def test_nineteen_controls_claim_the_first_rank_alone():
    assert effect().found
    assert set_of(effect())["all"].made
    assert not effect(random=(0.0,) * 18 + (0.2,)).found
    assert not effect(low=0.0).found
    assert effect(random=(0.0,) * 38 + (0.3,)).found


def test_the_best_of_several_methods_needs_as_many_times_the_controls():
    chosen = effect(methods=2)
    assert not chosen.found
    assert "a claim for the best of 2 methods needs at least 39" in rank_sentence(set_of(chosen)["all"])
    assert replace(chosen, random=(0.0,) * 39).found
    said = rank_sentence(set_of(replace(chosen, random=(0.0,) * 39))["all"])
    assert "p 0.050 (times 2" in said


def test_the_patterns_are_a_family_after_the_vector_of_all_pairs():
    random = tuple(np.linspace(-0.1, 0.1, 79))
    four = [effect(name, random=random) for name in ("a", "b", "c")]
    weak = effect("d", 0.0, random, low=0.01)
    found = set_of(effect(random=random), *four, weak)
    assert [name for name, claim in found.items() if claim.made] == ["all", "a", "b", "c"]
    assert found["all"].corrected == found["all"].p_value == pytest.approx(1 / 80)
    # Holm: 4 × 1/80 for the smallest, and no less for the next.
    assert found["a"].corrected == pytest.approx(0.05)
    # Where the vector of all pairs fails, nothing after it is claimed.
    failed = set_of(effect(difference=0.05, random=random), *four)
    assert not any(claim.made for claim in failed.values())
    assert "corrected (Holm, over 3 patterns)" in rank_sentence(failed["a"])


def test_with_nineteen_controls_one_of_several_patterns_cannot_be_claimed():
    found = set_of(effect(), effect("a"), effect("b"))
    assert found["all"].made
    assert not found["a"].possible
    assert found["a"].needed == 39
    assert "a claim for one of 2 patterns needs at least 39" in rank_sentence(found["a"])


def test_patterns_without_a_vector_of_all_pairs_are_one_family():
    assert not any(claim.made for claim in set_of(effect("a"), effect("b")).values())
    assert set_of(effect("a"))["a"].made
    assert claims({}) == {}
