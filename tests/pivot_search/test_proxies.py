"""The parts of benchmarks/proxies.py: its scores, its branched forward pass, its probe."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pts.models.load import ModelOptions, load_model
from pts.policies.transformers import TransformersPolicy
from pts.records import Problem, Sampling, TokenDistribution

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from branched_pass import Branch, BranchedReader
from proxies import class_rates, combined
from proxy_scores import resamples, scored
from proxy_signals import entropy, token_class
from success_probe import Readings, fit_probe, problem_folds


def test_auc_counts_pairs_of_a_large_and_a_small_effect() -> None:
    score = np.array([3.0, 1.0, 2.0, 2.0, 0.0, 2.0])
    large = np.array([True, True, False, True, False, False])
    pairs = [(a > b) + 0.5 * (a == b) for a in score[large] for b in score[~large]]

    result = scored(score, large, np.ones((1, 6)))

    assert result.auc == pytest.approx(np.mean(pairs))
    # One is alone at the top; of the three that tie next one is large, then one large below all.
    assert result.precision == pytest.approx((1 / 1 + 2 / 4 + 3 / 5) / 3)


def test_a_problem_is_drawn_whole_and_a_repeated_row_counts_again() -> None:
    problem = np.array([0, 0, 1, 2, 2, 2])
    weights = resamples(problem, 200, seed=0)
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, 3] == weights[:, 5]).all()
    assert (weights[:, [0, 2, 3]].sum(axis=1) == 3).all()

    score = np.array([0.3, 0.9, 0.5, 0.1, 0.7, 0.4])
    large = np.array([False, True, False, False, True, True])
    twice = np.array([[2.0, 2.0, 0.0, 1.0, 1.0, 1.0]])
    rows = [0, 0, 1, 1, 3, 4, 5]
    expected = scored(score[rows], large[rows], np.ones((1, 7))).auc
    assert scored(score, large, twice).resampled[0] == pytest.approx(expected)


@pytest.fixture(scope="module")
def policy() -> TransformersPolicy:
    return TransformersPolicy(load_model(ModelOptions("demo")))


def test_a_branch_reads_as_its_own_sequence_would(policy: TransformersPolicy) -> None:
    reader = BranchedReader(policy.loaded.model, [0, 2])
    trunk = policy.encode(Problem("1", "What is 17 + 5 - 9 ?", "13"))
    trunk += policy.encode_completion("First , 17 + 5 = 22 .")
    branches = [Branch(len(trunk), policy.encode_completion("Finally , 22")), Branch(len(trunk) - 3, (30, 31))]

    together = reader.read(trunk, branches, temperature=0.6)

    for place, branch in enumerate(branches):
        alone = trunk[: branch.start] + branch.ids
        own = reader.read(alone, []).trunk[branch.start :]
        assert torch.allclose(together.branches[place], own, atol=1e-4)
        with torch.inference_mode():
            logits = policy.loaded.model(torch.tensor([alone])).logits[0] / 0.6
        said = logits.log_softmax(-1)[range(branch.start, len(alone) - 1), branch.ids[1:]]
        assert torch.allclose(together.log_probs[place], said, atol=1e-4)
        assert torch.allclose(together.next_logits[place], logits[-1], atol=1e-3)


def test_branches_that_need_several_passes_come_in_their_order(
    policy: TransformersPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = BranchedReader(policy.loaded.model, [1])
    trunk = policy.encode_completion("17 + 5 = 22 . 22 - 9 = 13 .")
    branches = [Branch(at, (at + 20,)) for at in range(1, len(trunk))]
    at_once = reader.read(trunk, branches)
    monkeypatch.setattr("branched_pass.MOST_TOKENS", len(trunk) + 3)
    in_parts = reader.read(trunk, branches)
    assert len(in_parts.branches) == len(branches)
    assert torch.allclose(torch.cat(in_parts.branches), torch.cat(at_once.branches), atol=1e-4)


def test_the_probe_finds_the_layer_that_knows_and_holds_on_other_problems() -> None:
    rng = np.random.default_rng(0)
    problem = np.repeat(np.arange(60), 10)
    success = rng.random(600) < 0.5
    states = rng.normal(size=(600, 3, 8)).astype(np.float32)
    states[:, 1, 4] += np.where(success, 1.5, -1.5)
    readings = Readings(states, success, np.ones(600), problem)
    held = problem_folds(problem, 4, seed=1) == 0

    probe = fit_probe(readings.of(~held), seed=2)

    assert probe.place == 1
    # Two normal distributions three deviations apart: Φ(1.5) = 0.93 are on their own side of the middle.
    assert ((probe.value(states[held]) > 0.5) == success[held]).mean() > 0.88


def test_the_rows_of_a_problem_are_in_one_fold() -> None:
    problem = np.array([4, 4, 7, 9, 9, 9, 11, 12])
    folds = problem_folds(problem, 3, seed=0)
    assert folds[0] == folds[1]
    assert len(set(folds[3:6].tolist())) == 1
    assert set(folds.tolist()) == {0, 1, 2}


@pytest.mark.parametrize(
    ("token", "before", "expected"),
    [
        ("12", "=", "digit"),
        (" =", "7", "operator"),
        (" First", "", "first of sentence"),
        (" So", ".\n", "first of sentence"),
        (" so", " and", "word"),
        ("</think>", ".", "think tag"),
        (",", " word", "mark"),
        ("\n\n", ".", "mark"),
    ],
)
def test_token_classes(token: str, before: str, expected: str) -> None:
    assert token_class(token, before) == expected


def test_the_entropy_of_the_sampler_is_in_nats(policy: TransformersPolicy) -> None:
    prompt = policy.encode(Problem("1", "What is 17 + 5 - 9 ?", "13"))
    (only, *_) = policy.next_token_probs(prompt, (30, 31), Sampling(temperature=0))
    assert entropy(only) == 0.0
    assert entropy(TokenDistribution(np.arange(4), np.full(4, 0.25))) == pytest.approx(np.log(4))


def test_class_rates_are_of_other_folds_and_can_be_combined() -> None:
    rng = np.random.default_rng(2)
    folds = np.repeat(np.arange(4), 50)
    names = np.where(rng.random(200) < 0.3, "word", "digit").tolist()
    large = rng.random(200) < np.where(np.asarray(names) == "word", 0.7, 0.1)
    rates = class_rates(names, large, folds)
    assert (rates > 0).all()
    words = np.asarray(names) == "word"
    assert rates[words].min() > 1.0 > rates[~words].max()
    # The outcomes of a fold do not touch its own rates.
    other = large.copy()
    other[folds == 0] = ~other[folds == 0]
    assert (class_rates(names, other, folds)[folds == 0] == rates[folds == 0]).all()
    scores = combined([rates, rng.random(200)], large, folds)
    assert scored(scores, large, resamples(folds, 20, 0)).auc > 0.7
