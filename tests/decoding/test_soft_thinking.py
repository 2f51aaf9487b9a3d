"""The loop of `benchmarks/soft_thinking.py` writes what pts writes where it mixes no embeddings."""

import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

from pts.decoding import SteeredDecoder
from pts.demo.problems import demo_problems
from pts.records import Sampling

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from soft_thinking import SoftDecoder, dirichlet, drawn, gumbel

GREEDY = Sampling(temperature=0.0, budget=96)


def test_without_a_mixture_it_writes_what_full_writes(demo):
    prompts = [problem.query for problem in demo_problems("train", 8, 5)]
    full = SteeredDecoder(demo, None, "full", sampling=GREEDY).generate(prompts)
    soft = SoftDecoder(GREEDY)
    by_length = defaultdict(list)
    for prompt, answer in zip(prompts, full, strict=True):
        ids = soft.session.encode(prompt)
        by_length[len(ids)].append((ids, answer.completion))
    for rows in by_length.values():
        written = soft.complete([ids for ids, _ in rows], drawn, np.random.default_rng(0), False)
        assert [tuple(tokens) for tokens in written] == [completion for _, completion in rows]


def test_noise_keeps_the_weights_of_a_mixture_and_gumbel_the_draw():
    probs = np.tile([0.6, 0.3, 0.1, 0.0], (20_000, 1))
    for weigh in (gumbel(0.5), dirichlet(4.0)):
        weights = weigh(probs, np.random.default_rng(0))
        assert np.allclose(weights.sum(axis=1), 1)
        assert (weights[:, 3] == 0).all()
        assert weights.std(axis=0)[:3].min() > 0.05
    shares = np.bincount(gumbel(0.5)(probs, np.random.default_rng(1)).argmax(axis=1), minlength=4) / len(probs)
    # Six standard errors of the share of 0.6.
    assert np.abs(shares - probs[0]).max() < 6 * np.sqrt(0.24 / len(probs))
    means = dirichlet(4.0)(probs, np.random.default_rng(2)).mean(axis=0)
    assert np.abs(means - probs[0]).max() < 0.02
