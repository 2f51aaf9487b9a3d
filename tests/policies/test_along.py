"""Distributions along a completion that are too large to keep, and rollouts with ids in few bytes."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from one_sampling import OneSampling
from test_transformers_rollouts import plain_probs, prompt_of
from tiny import tiny_model

from pts.pivot_search.values import GradedRollout
from pts.policies.transformers import along
from pts.records import Rollout, RolloutRequest, Sampling


@pytest.mark.parametrize("kept", [0, 3 * 8 * 37, 1 << 20])
@pytest.mark.parametrize("top_p", [1.0, 0.9])
def test_they_are_those_of_passes_without_a_cache_however_few_are_kept(monkeypatch, kept, top_p):
    monkeypatch.setattr(along, "KEPT_BYTES", kept)
    loaded = tiny_model("qwen3")
    sampling = Sampling(temperature=0.8, top_k=0, top_p=top_p, budget=12)
    policy = OneSampling(loaded, sampling)
    prompt, completion = prompt_of(5), prompt_of(8, 2)
    found = policy.next_token_probs(prompt, completion)
    assert len(found) == len(completion)
    for index, (distribution, again) in enumerate(zip(found, found[:], strict=True)):
        expected = plain_probs(loaded, prompt + completion[:index], sampling)
        for one in (distribution, again, found[index], found[index - len(completion)]):
            assert dict(zip(one.ids.tolist(), one.probs.tolist(), strict=True)) == pytest.approx(
                expected, abs=1e-5
            )
            assert (np.diff(one.probs) <= 0).all()
            for token in completion:
                assert one.prob(token) == pytest.approx(expected.get(token, 0.0), abs=1e-5)
    assert found[0].prob(10**6) == 0.0
    with pytest.raises(IndexError):
        found[len(completion)]
    assert list(policy.next_token_probs(prompt, ())) == []


def test_a_whole_vocabulary_at_many_positions_is_not_kept():
    loaded = tiny_model("qwen3", vocab=40_000)
    policy = OneSampling(loaded, Sampling(temperature=1.0, top_k=0, top_p=1.0, budget=100))
    found = policy.next_token_probs(prompt_of(5), prompt_of(100, 2))
    assert sum(distribution.prob(3) > 0 for distribution in found) == 100
    held = sum(distribution.nbytes for distribution in found._kept.values())
    assert 0 < held <= along.KEPT_BYTES
    before = policy.work.tokens_prefilled
    # One that was not kept costs the last token, not the completion.
    assert found[99].prob(3) > 0
    assert policy.work.tokens_prefilled == before + 1


REQUEST = RolloutRequest((9,), tuple(range(100, 150)), n=3)


@pytest.mark.parametrize(
    "kind", [lambda *given: Rollout(*given, "end"), lambda *given: GradedRollout(*given, True)]
)
@pytest.mark.parametrize(
    "ids", [(*REQUEST.prefix, 3, 2**31 - 1), (*REQUEST.prefix, 2**40), (5, 6), REQUEST.prefix, ()]
)
def test_a_rollouts_completion_is_a_tuple_kept_in_few_bytes(kind, ids):
    rollout = kind(REQUEST, ids, 3)
    assert rollout.completion == ids
    assert type(rollout.completion) is tuple
    assert all(type(token) is int for token in rollout.completion)
    assert rollout == kind(REQUEST, ids, 3) == pickle.loads(pickle.dumps(rollout))
    assert hash(rollout) == hash(kind(REQUEST, ids, 3))
    assert rollout != kind(REQUEST, (*ids, 4), 3)
    assert replace(rollout, count=7).completion == ids
    assert replace(rollout, completion=(1, 2)).completion == (1, 2)
    assert str(ids) in repr(rollout)
    with pytest.raises(TypeError):
        kind(REQUEST)


def test_ids_after_the_prefix_take_four_bytes_each():
    ids = tuple(range(5000, 9000))
    rollout = Rollout(REQUEST, REQUEST.prefix + ids, 1, "end")
    shared, own = rollout.__dict__["_ids"]
    assert (shared, own.itemsize * len(own)) == (50, 16_000)
    assert GradedRollout(REQUEST, REQUEST.prefix + ids, 2, True).new_tokens == 8000


def test_a_row_of_a_large_vocabulary_is_read_exactly():
    logits = 3 * torch.randn(2, 3000, generator=torch.Generator().manual_seed(0))
    sampling = Sampling(temperature=0.7, top_k=0, top_p=1.0)
    for row, distribution in zip(logits, along.whole_vocabulary(logits, sampling), strict=True):
        exact = torch.softmax((row / 0.7).double(), dim=-1).numpy()
        np.testing.assert_allclose(distribution.probs, exact[distribution.ids], rtol=1e-12)
        assert distribution.probs.sum() == pytest.approx(1.0, abs=1e-12)
