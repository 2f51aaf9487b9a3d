"""The sampler: equal to transformers' logits warpers, and draws that follow it."""

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from transformers import MinPLogitsWarper, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from pts.errors import ModelError
from pts.policies.transformers.distribution import Truncated, draw, truncate, without
from pts.policies.transformers.draws import child_keys, uniforms
from pts.records import Sampling


def warped(logits: torch.Tensor, sampling: Sampling) -> np.ndarray:
    """Probabilities [rows, vocabulary] by transformers' own warpers."""
    scores = logits.float() / 1.0
    if sampling.temperature != 1.0:
        scores = TemperatureLogitsWarper(sampling.temperature)(None, scores)
    if sampling.top_k:
        scores = TopKLogitsWarper(sampling.top_k)(None, scores)
    if sampling.top_p < 1:
        scores = TopPLogitsWarper(sampling.top_p)(None, scores)
    if sampling.min_p > 0:
        scores = MinPLogitsWarper(sampling.min_p)(None, scores)
    return torch.softmax(scores.double(), dim=-1).numpy()


def dense(truncated: Truncated, vocab: int) -> np.ndarray:
    full = np.zeros((len(truncated.ids), vocab))
    np.put_along_axis(full, truncated.ids, truncated.probs, axis=1)
    return full


SAMPLINGS = [
    Sampling(),
    Sampling(temperature=1.0, top_k=0, top_p=1.0),
    Sampling(temperature=0.7, top_k=5, top_p=1.0),
    Sampling(temperature=1.3, top_k=0, top_p=0.9),
    Sampling(temperature=1.3, top_k=0, top_p=0.99, min_p=0.02),
    Sampling(temperature=0.9, top_k=1000, top_p=0.8, min_p=0.1),
    Sampling(temperature=1.0, top_k=0, top_p=1.0, min_p=0.3),
    Sampling(temperature=0.6, top_k=1, top_p=0.5),
]


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
@pytest.mark.parametrize("vocab", [7, 300, 5000])
def test_truncation_equals_the_warpers(sampling, vocab):
    generator = torch.Generator().manual_seed(vocab)
    scale = torch.tensor([0.2, 1.0, 4.0, 20.0]).repeat(10)[:, None]
    logits = torch.randn(40, vocab, generator=generator) * scale
    truncated = truncate(logits, sampling)
    np.testing.assert_allclose(dense(truncated, vocab), warped(logits, sampling), atol=2e-6)
    np.testing.assert_allclose(truncated.probs.sum(1), 1, atol=1e-12)
    assert (np.diff(truncated.probs, axis=1) <= 1e-15).all()


@pytest.mark.parametrize("top_p", [1.0, 0.6])
def test_ties_are_kept_and_cut_as_the_warpers_do(top_p):
    # bfloat16 logits tie often; more tokens tie at the k-th here than the first look fetches.
    generator = torch.Generator().manual_seed(0)
    logits = (torch.randn(50, 400, generator=generator) * 2).round() / 2
    sampling = Sampling(temperature=0.8, top_k=10, top_p=top_p)
    ours, theirs = dense(truncate(logits, sampling), 400), warped(logits, sampling)
    if top_p < 1:
        # Which of the tokens that tie top-p cuts is up to an unstable sort: only how many is defined.
        ours, theirs = np.sort(ours, axis=1), np.sort(theirs, axis=1)
    np.testing.assert_allclose(ours, theirs, atol=2e-6)


def test_of_tokens_that_tie_the_lower_id_comes_first():
    truncated = truncate(torch.tensor([[1.0, 0.0, 1.0, 1.0, -9.0]]), Sampling(temperature=1.0, top_p=0.5))
    assert truncated.ids.tolist() == [[0, 2]]


def test_greedy_takes_the_lowest_id_of_those_that_tie():
    logits = torch.tensor([[1.0, 3.0, 3.0, 0.0], [5.0, 3.0, 3.0, 0.0]])
    truncated = truncate(logits, Sampling(temperature=0.0))
    assert truncated.ids.tolist() == [[1], [0]]
    assert truncated.probs.tolist() == [[1.0], [1.0]]


def test_logits_that_are_not_finite_are_refused():
    with pytest.raises(ModelError, match="not finite"):
        truncate(torch.tensor([[float("nan"), 1.0, 2.0]]), Sampling())


def test_without_renormalises_or_takes_the_likeliest_other_token():
    truncated = Truncated(np.array([[4, 2, 9], [7, 0, 0]]), np.array([[0.5, 0.3, 0.2], [1.0, 0.0, 0.0]]))
    logits = torch.zeros(2, 10)
    logits[1, 7], logits[1, 3] = 9.0, 4.0
    left = without(truncated, np.array([2, -1]), logits)
    np.testing.assert_allclose(left.probs, [[0.5 / 0.7, 0, 0.2 / 0.7], [1, 0, 0]])
    left = without(truncated, np.array([2, 7]), logits)
    np.testing.assert_allclose(left.probs, [[0.5 / 0.7, 0, 0.2 / 0.7], [1, 0, 0]])
    assert left.row(1).ids.tolist() == [3]


def test_draws_follow_the_distribution():
    # Chi-square over 20,000 draws for each of 30 keys; false alarm rate 1e-4 in all (Bonferroni).
    probs = np.array([[0.5, 0.3, 0.15, 0.04, 0.01]]).repeat(30, axis=0)
    truncated = Truncated(np.arange(5)[None].repeat(30, axis=0), probs)
    keys = child_keys(np.arange(30, dtype=np.uint64), np.zeros(30, dtype=np.int64))
    draws = draw(truncated, keys, np.full(30, 20_000))
    for row in range(30):
        counts = np.zeros(5)
        counts[draws.tokens[draws.rows == row]] = draws.counts[draws.rows == row]
        assert counts.sum() == 20_000
        assert chisquare(counts, 20_000 * probs[row]).pvalue > 1e-4 / 30


def test_a_token_of_probability_zero_is_never_drawn():
    truncated = Truncated(np.array([[3, 5, 8, 0]]), np.array([[0.0, 0.6, 0.0, 0.4]]))
    draws = draw(truncated, np.array([1], dtype=np.uint64), np.array([100_000]))
    assert set(draws.tokens.tolist()) == {5, 0}


def test_uniforms_are_independent_over_draws_and_nodes():
    # Correlation of 50,000 pairs has a standard error of 0.0045; bound at 5 of them.
    parents = np.arange(50_000, dtype=np.uint64)
    _, own = uniforms(parents, np.full(50_000, 2))
    _, childs = uniforms(child_keys(parents, np.full(50_000, 11)), np.ones(50_000, dtype=np.int64))
    _, siblings = uniforms(child_keys(parents, np.full(50_000, 12)), np.ones(50_000, dtype=np.int64))
    for first, second in ((own[::2], own[1::2]), (own[::2], childs), (childs, siblings)):
        assert abs(np.corrcoef(first, second)[0, 1]) < 0.0225
    assert abs(own.mean() - 0.5) < 0.005
