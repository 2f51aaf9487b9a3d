"""Requests of different samplers, budgets and stop texts in one batch get what each gets alone."""

import math
from collections import Counter
from dataclasses import replace

import pytest
from test_stop_texts import of_words
from tiny import tiny_model

from pts.policies.transformers import TransformersPolicy
from pts.records import RolloutRequest, Sampling

ONE = Sampling(temperature=1.3, top_k=0, top_p=1.0, budget=12, stop=("7",))
OTHER = Sampling(temperature=0.7, top_k=4, top_p=0.9, budget=5, stop=("Q Q", "= :"))
GREEDY = Sampling(temperature=0.0, budget=30)
SAMPLINGS = {"one": ONE, "other": OTHER, "greedy": GREEDY}


@pytest.fixture(scope="module")
def worded():
    return replace(tiny_model("qwen3", vocab=8, sharpness=0.4), tokenizer=of_words())


def requests(*users):
    found = []
    for user in users:
        sampling = SAMPLINGS[user]
        found += [
            RolloutRequest((2, 3, 4, 5), n=200, seed=1, key=f"{user}/plain", sampling=sampling),
            RolloutRequest((2, 3, 4, 5), (5,), avoid=3, n=50, seed=3, key=f"{user}/avoid", sampling=sampling),
            RolloutRequest((2, 3), (3,), force=4, n=50, seed=4, key=f"{user}/force", sampling=sampling),
        ]
    return found


def outcome(policy, asked):
    result = {request.key: Counter() for request in asked}
    for finished in policy.finished(asked, own_probs=True):
        rollout = finished.rollout
        # A probability rounds by what shares its pass; a forced token has none.
        probs = tuple(-1 if math.isnan(prob) else round(prob, 4) for prob in finished.new_probs)
        result[rollout.request.key][rollout.completion, rollout.finish, probs] += rollout.count
    return result


@pytest.mark.parametrize("rows", [3, 17, 256])
def test_each_gets_what_it_gets_alone(worded, rows):
    alone = {}
    for user in SAMPLINGS:
        alone |= outcome(TransformersPolicy(worded), requests(user))
    mixed = [r for three in zip(*(requests(user) for user in SAMPLINGS), strict=True) for r in three]
    together = outcome(TransformersPolicy(worded, batch_rows=rows), mixed)
    assert together == alone
    ends = {user: {end for _, end, _ in together[f"{user}/plain"]} for user in SAMPLINGS}
    assert ends["one"] == ends["other"] == {"end", "budget"}
    longest = {user: max(len(ids) for ids, *_ in together[f"{user}/plain"]) for user in SAMPLINGS}
    assert longest["one"] == 12
    assert longest["other"] == 5


def test_two_budgets_alone_are_drawn_by_one_sampler(worded):
    """Where only budgets and stop texts differ the rows are one group: the same draws, cut at other lengths."""
    free = Sampling(temperature=1.3, top_k=0, top_p=1.0, budget=12)
    short = replace(free, budget=3)
    asked = [
        RolloutRequest((2, 3), seed=s, key=f"{s}/{at.budget}", sampling=at)
        for s in range(20)
        for at in (free, short)
    ]
    drawn = {rollout.request.key: rollout.completion for rollout in TransformersPolicy(worded).rollouts(asked)}
    for seed in range(20):
        assert drawn[f"{seed}/3"] == drawn[f"{seed}/12"][:3]
