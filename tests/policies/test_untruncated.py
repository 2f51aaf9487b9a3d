"""The sampler that truncates nothing: exact probabilities by inverse CDF, whatever shares the batch."""

from collections import Counter

import numpy as np
import pytest
import torch
from one_sampling import OneSampling
from scipy.stats import chisquare
from tiny import END, tiny_model

from pts.errors import ModelError
from pts.policies.transformers import distribution
from pts.policies.transformers import untruncated as module
from pts.policies.transformers.distribution import apportion, draw, next_tokens, truncate
from pts.policies.transformers.draws import child_keys
from pts.records import RolloutRequest, Sampling

PLAIN = Sampling(temperature=1.0, top_k=0, top_p=1.0)


def some_logits(rows, vocab, scale=3.0):
    return scale * torch.randn(rows, vocab, generator=torch.Generator().manual_seed(vocab))


def exact(logits, temperature=1.0):
    return torch.softmax((logits.float() / temperature).double(), dim=-1).numpy()


def distributions(logits, sampling=PLAIN, avoid=None):
    avoid = np.full(len(logits), -1) if avoid is None else np.array(avoid)
    return next_tokens(logits.clone(), sampling, avoid)


def keys_of(rows):
    return child_keys(np.arange(rows, dtype=np.uint64), np.zeros(rows, dtype=np.int64))


def pooled_p_value(counts, probs, n):
    """Chi-square of cells against their probabilities; the rest is one more, unless it is next to nothing."""
    counts, probs = np.append(counts, n - counts.sum()), np.append(probs, 1 - probs.sum())
    kept = probs * n >= 5
    return chisquare(counts[kept], probs[kept] / probs[kept].sum() * counts[kept].sum()).pvalue


def drawn_at(monkeypatch, logits, points):
    """The tokens that row 0 of `logits` gives for these values of u."""

    def fixed(_keys, counts):
        assert counts.sum() == len(points)
        return np.zeros(len(points), dtype=np.int64), np.array(points)

    monkeypatch.setattr(module, "uniforms", fixed)
    return draw(distributions(logits), keys_of(1), np.array([len(points)]))


@pytest.mark.parametrize("vocab", [1, 7, 1024, 1025, 1500, 151_936])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_probabilities_are_those_of_a_softmax_in_float64(vocab, dtype):
    logits = some_logits(3, vocab).to(dtype)
    draws = draw(distributions(logits), keys_of(3), np.full(3, 400))
    np.testing.assert_allclose(draws.probs, exact(logits)[draws.rows, draws.tokens], rtol=1e-12)
    assert np.bincount(draws.rows, weights=draws.counts).tolist() == [400] * 3


@pytest.mark.parametrize("vocab", [37, 1500])
def test_draws_follow_the_distribution(vocab):
    # Chi-square over 20,000 draws for each of 20 rows; false alarm rate 1e-4 in all (Bonferroni).
    logits = some_logits(20, vocab, scale=1.5)
    draws = draw(
        distributions(logits, Sampling(temperature=0.8, top_k=0, top_p=1.0)), keys_of(20), np.full(20, 20_000)
    )
    for row, probs in enumerate(exact(logits, 0.8)):
        counts = np.zeros(vocab)
        counts[draws.tokens[draws.rows == row]] = draws.counts[draws.rows == row]
        large = 20_000 * probs >= 5
        assert pooled_p_value(counts[large], probs[large], 20_000) > 1e-4 / 20


def test_each_token_has_the_interval_that_its_probability_gives_it(monkeypatch):
    # Sums in float32 would move the edges of the intervals by more than the rare tokens' own width.
    logits = some_logits(1, 151_936)
    edges = np.cumsum(exact(logits)[0].astype(np.longdouble))
    asked = [3, 511, 512, 70_000, 151_934]
    middles = [float((edges[token - 1] + edges[token]) / 2) for token in asked]
    assert drawn_at(monkeypatch, logits, middles).tokens.tolist() == asked


def test_the_ends_of_the_interval_give_the_first_and_the_last_token_with_a_share(monkeypatch):
    logits = some_logits(1, 1500)
    logits[0, :600] = -torch.inf
    logits[0, 1200:] = -1e6
    draws = drawn_at(monkeypatch, logits, [0.0, np.nextafter(1.0, 0.0), 1.0])
    assert draws.tokens.tolist() == [600, 1199]
    assert draws.counts.tolist() == [1, 2]


def test_a_token_without_a_share_is_never_drawn():
    logits = torch.full((2, 2000), -torch.inf)
    logits[0, [0, 700, 1999]] = torch.tensor([0.0, 1.0, -1e5])
    logits[1, 1999] = 3.0
    draws = draw(distributions(logits), keys_of(2), np.array([50_000, 7]))
    assert draws.tokens.tolist() == [0, 700, 1999]
    assert draws.first.tolist() == [True, False, True]
    assert draws.probs[2] == 1.0


def test_company_changes_nothing():
    logits = some_logits(40, 1300)
    keys, counts = keys_of(40), np.arange(1, 41) ** 2
    together = draw(distributions(logits), keys, counts)
    for row in (0, 17, 39):
        alone = draw(distributions(logits[row : row + 1]), keys[row : row + 1], counts[row : row + 1])
        of_row = together.rows == row
        assert alone.tokens.tolist() == together.tokens[of_row].tolist()
        assert alone.counts.tolist() == together.counts[of_row].tolist()
        assert alone.probs.tolist() == together.probs[of_row].tolist()


def test_many_draws_of_one_row_are_searched_as_few_are(monkeypatch):
    logits = some_logits(2, 1300)
    few = draw(distributions(logits), keys_of(2), np.array([3000, 2]))
    monkeypatch.setattr(module, "CHUNK_BYTES", 1)
    monkeypatch.setattr(module, "SEARCHED_AT_ONCE", 1)
    again = draw(distributions(logits), keys_of(2), np.array([3000, 2]))
    for name in ("rows", "tokens", "probs", "counts", "first"):
        assert getattr(few, name).tolist() == getattr(again, name).tolist()


def test_what_is_avoided_is_not_drawn_and_the_rest_renormalised():
    logits = some_logits(2, 1700)
    avoided = int(logits[0].argmax())
    draws = draw(distributions(logits, avoid=[avoided, -1]), keys_of(2), np.array([5000, 5000]))
    probs = exact(logits)
    own = draws.rows == 0
    assert avoided not in draws.tokens[own]
    np.testing.assert_allclose(
        draws.probs[own], probs[0, draws.tokens[own]] / (1 - probs[0, avoided]), rtol=1e-9
    )
    np.testing.assert_allclose(draws.probs[~own], probs[1, draws.tokens[~own]], rtol=1e-12)


def test_avoiding_the_only_token_gives_the_likeliest_other():
    logits = torch.full((1, 1700), -1e4)
    logits[0, [5, 1600]] = torch.tensor([0.0, -900.0])
    assert draw(distributions(logits, avoid=[5]), keys_of(1), np.array([9])).tokens.tolist() == [1600]


def test_logits_that_are_not_finite_are_refused():
    for bad in (float("nan"), float("inf")):
        with pytest.raises(ModelError, match="not finite"):
            distributions(torch.tensor([[0.0, bad, 1.0] * 500]))


def test_shares_are_rounded_down_as_with_sorted_distributions():
    logits = some_logits(3, 1900)
    counts = np.array([10**12, 10**4, 0])
    ours = apportion(distributions(logits), counts, least=2)
    theirs = apportion(truncate(logits, PLAIN), counts, least=2)
    assert set(zip(ours.rows.tolist(), ours.tokens.tolist(), strict=True)) == set(
        zip(theirs.rows.tolist(), theirs.tokens.tolist(), strict=True)
    )
    assert ours.counts.sum() == pytest.approx(theirs.counts.sum(), rel=1e-6)


def test_truncation_in_parts_is_truncation_at_once(monkeypatch):
    logits = some_logits(9, 300)
    for sampling in (Sampling(), Sampling(top_k=0, top_p=0.9), Sampling(temperature=0.0), PLAIN):
        whole = truncate(logits, sampling)
        monkeypatch.setattr(distribution, "_CHUNK_BYTES", 2 * 8 * 300)
        parts = truncate(logits, sampling)
        monkeypatch.undo()
        assert parts.ids[parts.probs > 0].tolist() == whole.ids[whole.probs > 0].tolist()
        assert parts.probs[parts.probs > 0].tolist() == whole.probs[whole.probs > 0].tolist()


def test_completions_are_drawn_with_their_exact_probabilities(monkeypatch):
    monkeypatch.setattr(distribution, "_SORTED", 0)
    # Chi-square over completions of two tokens; false alarm rate 1e-4.
    loaded = tiny_model("qwen3", vocab=6, sharpness=0.6)
    sampling = Sampling(temperature=1.0, top_k=0, top_p=1.0, budget=2)
    policy = OneSampling(loaded, sampling, batch_rows=16)
    prompt = (2, 4, 3)

    def after(ids):
        return exact(loaded.model(input_ids=torch.tensor([ids]), use_cache=False).logits[:, -1])[0]

    expected = {}
    for first, prob in enumerate(after(prompt)):
        if first == END:
            expected[(first,)] = prob
        else:
            expected |= {(first, token): prob * p for token, p in enumerate(after((*prompt, first)))}
    found = Counter()
    for rollout in policy.rollouts([RolloutRequest(prompt, n=5000, seed=3)]):
        found[rollout.completion] += rollout.count
    large = [key for key, prob in expected.items() if prob * 5000 >= 5]
    assert len(large) >= 5
    counts = np.array([found[key] for key in large])
    assert pooled_p_value(counts, np.array([expected[key] for key in large]), 5000) > 1e-4


def test_batch_size_and_order_change_no_result(monkeypatch):
    monkeypatch.setattr(distribution, "_SORTED", 0)
    loaded = tiny_model("llama")
    sampling = Sampling(temperature=1.0, top_k=0, top_p=1.0, budget=8)
    requests = [RolloutRequest((3, 4, 5), n=4, seed=seed) for seed in range(4)]
    requests += [RolloutRequest((7, 8), (3, 4), avoid=6, n=5, seed=9)]

    def outcome(batch_rows, asked):
        policy = OneSampling(loaded, sampling, batch_rows=batch_rows)
        found = {request: Counter() for request in asked}
        for rollout in policy.rollouts(asked):
            found[rollout.request][rollout.completion, rollout.finish] += rollout.count
        return found

    wide = outcome(64, requests)
    assert outcome(1, requests) == outcome(3, requests[::-1]) == wide
