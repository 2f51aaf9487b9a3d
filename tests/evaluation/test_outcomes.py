"""Variants measured on problems: right sums, common random numbers, and a KL of zero only without steering."""

import numpy as np
import pytest
import torch

from pts.calibration.divergence import kl_per_token
from pts.demo.problems import demo_problems
from pts.evaluation.outcomes import run_variants
from pts.graders import make_grader
from pts.models.load import ModelOptions, load_model
from pts.models.prompt import PromptFormat
from pts.policies.transformers import TransformersPolicy
from pts.records import RolloutRequest, Sampling
from pts.seeds import derive_seed
from pts.steering.hooks import Intervention, steer

SAMPLING = Sampling(budget=96)


@pytest.fixture(scope="module")
def loaded():
    return load_model(ModelOptions("demo"))


@pytest.fixture(scope="module")
def vector():
    return 60 * torch.nn.functional.normalize(
        torch.randn(128, generator=torch.Generator().manual_seed(1)), dim=0
    )


@pytest.fixture(scope="module")
def measured(loaded, vector):
    problems = demo_problems("test", 5, 3, (1, 2))
    grade = make_grader("demo", think_end="</think>")
    variants = [[Intervention(2, 0 * vector)], [Intervention(2, vector)]]
    thinking = TransformersPolicy(loaded, PromptFormat(thinking=True))
    with steer(loaded.model, variants, engine_driven=True) as on, thinking.steered(on) as policy:
        outcomes = run_variants(policy, SAMPLING, problems, grade, [0, 1, 2], 6, seed=9)
        requests = [
            RolloutRequest(policy.encode(p), n=6, seed=derive_seed(9, "evaluate", p.id), sampling=SAMPLING)
            for p in problems
        ]
        by_hand = np.zeros(len(problems), dtype=int)
        for rollout in policy.rollouts(requests):
            place = [r.prompt for r in requests].index(rollout.request.prompt)
            solved = rollout.finish == "end" and grade(
                policy.decode(rollout.completion), problems[place].answer
            )
            by_hand[place] += rollout.count * solved
    return outcomes, by_hand


def test_sums_are_those_of_the_rollouts(measured):
    outcomes, by_hand = measured
    assert outcomes[0].successes.tolist() == by_hand.tolist()
    assert 0 < outcomes[0].success < 1
    assert outcomes[0].success == pytest.approx(by_hand.sum() / 30)
    assert (outcomes[0].tokens >= 6).all()


def test_variants_share_their_random_numbers(measured):
    outcomes, _ = measured
    for name in ("successes", "tokens", "cut"):
        assert getattr(outcomes[1], name).tolist() == getattr(outcomes[0], name).tolist()
    assert outcomes[2].tokens.tolist() != outcomes[0].tokens.tolist()


def test_kl_is_zero_without_steering_and_that_of_two_plain_passes_with_it(loaded, vector):
    policy = TransformersPolicy(loaded, PromptFormat(thinking=True))
    (problem,) = demo_problems("test", 1, 4, (2,))
    (rollout,) = policy.rollouts([RolloutRequest(policy.encode(problem), seed=1, sampling=SAMPLING)])
    assert kl_per_token(loaded.model, [Intervention(2, 0 * vector)], [rollout]) == pytest.approx(0, abs=1e-6)
    ids = torch.tensor([rollout.request.prompt + rollout.completion[:-1]])
    first = len(rollout.request.prompt)
    plain = torch.log_softmax(loaded.model(ids).logits[0], -1)
    with steer(loaded.model, [[Intervention(2, vector)]], engine_driven=True) as steering:
        steering.begin_pass(torch.tensor([1]), ids, torch.arange(ids.shape[1])[None] >= first)
        steered = torch.log_softmax(loaded.model(ids).logits[0], -1)
    by_hand = (steered.exp() * (steered - plain)).sum(-1)[first - 1 :].mean()
    got = kl_per_token(loaded.model, [Intervention(2, vector)], [rollout, rollout])
    assert got == pytest.approx(float(by_hand), rel=1e-4)
    assert got > 1e-3
