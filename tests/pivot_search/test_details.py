"""What is kept of each token: its fate, its place in the text, and the value that the search believed."""

from collections import Counter

import numpy as np
import pytest
from searched_chains import search_chain
from shapes import ChainShape, chain

from pts.pivot_search import SearchConfig, find_pivotal_tokens
from pts.pivot_search.offsets import text_offsets
from pts.pivot_search.results import FATE_LETTERS
from pts.policies.tabular import TabularPolicy
from pts.records import Problem


@pytest.fixture(scope="module")
def searched():
    rng = np.random.default_rng(11)
    results = []
    while len(results) < 12:
        policy = TabularPolicy(chain(ChainShape(length=80), rng))
        if 0.3 < policy.value(()) < 0.7:
            results.append((policy, search_chain(policy, str(len(results)), SearchConfig())))
    return results


def test_every_token_has_one_fate_and_the_counts_are_of_them(searched):
    seen = set()
    for _, result in searched:
        for index, trace in enumerate(result.traces):
            details = trace.details
            assert len(details.fates) == len(trace.completion)
            counted = Counter(details.fates)
            assert {name: getattr(trace, name) for name in FATE_LETTERS.values()} == {
                name: counted[letter] for letter, name in FATE_LETTERS.items()
            }
            confirmed = {c.position for c in result.candidates if c.trace == index}
            assert {i for i in range(len(trace.completion)) if trace.fate(i) == "confirmed"} == confirmed
            exact = [i for i, letter in enumerate(details.fates) if letter == "e"]
            assert all(1 - trace.token_probs[i] < 0.2 for i in exact)
            seen |= set(details.fates)
    assert seen >= {"e", "s", "c"}


def test_a_candidate_has_the_entropy_of_its_choice(searched):
    several = 0
    for policy, result in searched:
        for candidate in result.candidates:
            completion = result.traces[candidate.trace].completion
            choice = policy.next_token_probs((), completion, SearchConfig().sampling)[candidate.position]
            assert candidate.entropy == pytest.approx(-sum(p * np.log(p) for p in choice.probs.tolist() if p))
            several += candidate.entropy > 0.1
    assert several


def test_the_region_and_what_the_limit_left_open_are_fates_too():
    rng = np.random.default_rng(3)
    policy = TabularPolicy(chain(ChainShape(length=80), rng))
    config = SearchConfig(region=(0.5, 1.0), value_range=(0.0, 1.0), max_tokens=3000)
    result = find_pivotal_tokens(Problem("p", "q", "a"), policy, policy.grade, config).problem
    letters = "".join(trace.details.fates for trace in result.traces)
    assert "o" in letters
    assert result.status != "spent" or "u" in letters


def test_the_believed_values_are_near_the_exact_ones_and_their_band_holds_most(searched):
    errors, inside = [], []
    for policy, result in searched:
        for trace in result.traces:
            details = trace.details
            exact = np.array([policy.value(trace.completion[: i + 1]) for i in range(len(trace.completion))])
            errors += (np.array(details.values) - exact).tolist()
            inside += ((details.values_low <= exact + 0.001) & (exact - 0.001 <= details.values_high)).tolist()
            assert details.values[-1] == float(trace.success)
            assert np.all(np.array(details.values_low) <= details.values_high)
    assert np.abs(errors).mean() < 0.08
    assert abs(np.mean(errors)) < 0.05
    assert np.mean(inside) > 0.75  # Where nothing can be pivotal it draws little, and its prior is rough.


def test_offsets_cut_the_text_into_its_tokens():
    text = "Wait, 3 × 4 is 12 — not 13 🙂. " * 5
    ids = tuple(text.encode())

    def decode(part):
        return bytes(part).decode("utf-8", errors="replace")

    offsets = text_offsets(ids, decode)
    assert list(offsets) == sorted(offsets)
    # Bytes of one character share its place.
    expected = [i for i, character in enumerate(text) for _ in character.encode()]
    assert list(offsets) == expected


def test_an_end_token_that_has_no_text_is_at_the_end():
    def decode(ids):
        return "".join({1: "so", 2: " what"}.get(i, "") for i in ids)

    assert text_offsets((1, 2, 1, 9), decode) == (0, 2, 7, 9)
    assert text_offsets((), decode) == ()
