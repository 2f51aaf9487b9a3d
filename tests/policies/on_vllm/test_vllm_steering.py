"""Steering, guides and residual streams inside vLLM, held against the engine transformers on the demo model."""

import os
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from pts.decoding.budget import BudgetGuide
from pts.decoding.limits import TokenLimits
from pts.decoding.think_format import find_think_format
from pts.errors import ConfigError, ModelError
from pts.models.load import ModelOptions, load_model
from pts.models.prompt import PromptFormat
from pts.policies import open_policy, policy_of
from pts.policies.vllm.installed import installed_version
from pts.records import Problem, RolloutRequest, Sampling
from pts.steering.hooks import Intervention, steer
from pts.steering.vector_set import Gate, VectorError
from pts.steering.vllm_steering import VllmSteering, steer_vllm
from pts.verification import INSIDE, checks_inside, subject_of

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(installed_version() is None, reason="vLLM is not installed in this environment"),
]
FORMAT = PromptFormat(thinking=True)
V2 = os.environ.get("VLLM_USE_V2_MODEL_RUNNER") == "1"
BUDGET = 40
QUESTIONS = ["What is 17 + 5 - 4 ?", "What is 8 + 9 ?", "What is 28 - 13 + 7 ?", "What is 3 + 30 ?"]
if V2:
    # Triton's interpreter (see interpreted.py) takes some 10 ms for each row of a step.
    BUDGET, QUESTIONS = 16, QUESTIONS[:2]
GREEDY = Sampling(temperature=0.0, budget=BUDGET)
SAMPLED = Sampling(budget=BUDGET)


@pytest.fixture(scope="module")
def policy(one_engine):
    return open_policy("demo", engine="vllm", prompt_format=FORMAT, batch_rows=32, steerable=True)


@pytest.fixture(scope="module")
def loaded():
    return load_model(ModelOptions("demo", dtype="float32"))


@pytest.fixture(scope="module")
def reference(loaded):
    return policy_of(loaded, FORMAT)


@pytest.fixture(scope="module")
def prompts(policy):
    return [policy.encode(Problem(str(k), text, "")) for k, text in enumerate(QUESTIONS)]


@pytest.fixture(scope="module")
def variants(loaded, reference, prompts):
    """Variants of several strengths, layers and gates, each strong enough to change what is written."""
    layers = int(loaded.model.config.num_hidden_layers)
    width, vocabulary = int(loaded.model.config.hidden_size), int(loaded.model.config.vocab_size)
    generator = torch.Generator().manual_seed(4)
    norms = reference.residuals(prompts[:1], list(range(layers)))[0].norm(dim=-1)

    def vector(layer, strength):
        random = torch.randn(width, generator=generator)
        return random * (strength * norms[layer] / random.norm())

    middle, last = layers // 2, layers - 1
    probe = torch.randn(width, generator=generator)
    even = tuple(range(0, vocabulary, 2))
    return [
        (Intervention(middle, vector(middle, 0.5)),),
        (Intervention(middle, vector(middle, 2.0)), Intervention(0, vector(0, 1.0))),
        (Intervention(middle, vector(middle, 2.0), Gate("probe", threshold=0.0, weight=probe)),),
        (Intervention(last, vector(last, 3.0), Gate("tokens", token_ids=even)),),
        (Intervention(middle, vector(middle, 2.0), Gate("entropy", threshold=0.3)),),
        (Intervention(middle, vector(middle, 1.0)), Intervention(middle, vector(middle, 1.0))),
    ]


@contextmanager
def own_engine(loaded, reference, variants):
    with steer(loaded.model, variants, engine_driven=True) as steering, reference.steered(steering):
        yield reference


def completions(policy, asked):
    return {found.rollout.request.key: found for found in policy.finished(asked, own_probs=True)}


def of_every_variant(prompts, variants, sampling, **more):
    return [
        RolloutRequest(prompt, seed=k, variant=variant, key=f"{k} {variant}", sampling=sampling, **more)
        for k, prompt in enumerate(prompts)
        for variant in range(len(variants) + 1)
    ]


def test_the_model_runner_is_the_one_that_the_environment_names(policy):
    assert policy.identity.attention == ("vllm V2" if V2 else "vllm V1")
    assert policy.inside._call("pts_is_v2") is V2
    module = type(policy.inside._call("pts_batch")._runner).__module__
    assert module == ("vllm.v1.worker.cpu.model_runner" if V2 else "vllm.v1.worker.cpu_model_runner")


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED])
def test_steered_and_unsteered_rows_are_those_of_the_own_engine(
    policy, loaded, reference, prompts, variants, sampling
):
    asked = of_every_variant(prompts, variants, sampling)
    with own_engine(loaded, reference, variants) as own:
        right = completions(own, asked)
    with steer_vllm(policy, variants) as steered:
        found = completions(steered, asked)
    for key, one in right.items():
        assert found[key].rollout.completion == one.rollout.completion, key
        assert found[key].rollout.finish == one.rollout.finish
        assert np.allclose(found[key].new_probs, one.new_probs, atol=1e-3)
    for variant in range(1, len(variants) + 1):
        moved = [found[f"{k} {variant}"].new_probs != found[f"{k} 0"].new_probs for k in range(len(prompts))]
        assert any(moved), variant


def test_unsteered_rows_are_untouched_and_afterwards_nothing_is_left(policy, prompts, variants):
    plain = of_every_variant(prompts, [], GREEDY)
    before = completions(policy, plain)
    with steer_vllm(policy, variants) as steered:
        beside = completions(steered, of_every_variant(prompts, variants, GREEDY))
    after = completions(policy, plain)
    for key, one in before.items():
        assert beside[key].rollout.completion == one.rollout.completion == after[key].rollout.completion
        assert np.allclose(beside[key].new_probs, one.new_probs, atol=1e-4)
    passes = policy.inside.passes
    assert not passes.model._forward_hooks
    assert not passes.model._forward_pre_hooks
    assert not any(block._forward_hooks for block in passes.blocks)
    assert not passes.followed
    with pytest.raises(ValueError, match="variant"):
        completions(policy, of_every_variant(prompts[:1], variants, GREEDY))


def test_what_was_read_steered_is_never_read_unsteered(policy, prompts, variants):
    sampling = Sampling(temperature=0.0, budget=96)
    with steer_vllm(policy, variants) as steered:
        strong = completions(steered, [RolloutRequest(prompts[0], variant=2, key="s", sampling=sampling)])["s"]
    written = strong.rollout.completion[:-1]
    # Long enough to fill a block of the cache beyond the prompt.
    assert len(prompts[0]) + len(written) > 2 * 32
    again = RolloutRequest(prompts[0], written, key="again", sampling=sampling)
    warm = completions(policy, [again])["again"]
    policy._started.engine.reset_prefix_cache()
    cold = completions(policy, [again])["again"]
    assert warm.rollout.completion == cold.rollout.completion
    assert np.allclose(warm.new_probs, cold.new_probs, atol=1e-4)


def test_steered_completions_go_on_from_a_prefix_as_they_would_have(policy, prompts, variants):
    with steer_vllm(policy, variants) as steered:
        whole = completions(steered, of_every_variant(prompts, variants, GREEDY))
        asked = [
            RolloutRequest(
                found.rollout.request.prompt,
                found.rollout.completion[:5],
                variant=found.rollout.request.variant,
                key=key,
                sampling=GREEDY,
            )
            for key, found in whole.items()
        ]
        continued = completions(steered, asked)
    for key, found in whole.items():
        assert continued[key].rollout.completion == found.rollout.completion, key


@pytest.mark.parametrize(
    ("broken", "said"), [("layer", "0 of 1 steered layers ran"), ("begin", "steering heard of 0")]
)
def test_a_hook_that_is_gone_is_found(policy, prompts, variants, broken, said):
    asked = of_every_variant(prompts[:1], variants[:1], GREEDY)
    passes = policy.inside.passes
    with steer_vllm(policy, variants[:1]) as steered:
        hooks = passes.blocks[variants[0][0].layer]._forward_hooks
        (hooks if broken == "layer" else passes.model._forward_pre_hooks).clear()
        with pytest.raises(ModelError, match=said):
            completions(steered, asked)
    passes.model._forward_hooks.clear()
    assert completions(policy, of_every_variant(prompts[:1], [], GREEDY))


def test_an_engine_that_does_not_steer_is_refused_at_the_start(policy, variants, monkeypatch):
    monkeypatch.setattr(VllmSteering, "_hook", lambda self, layer: lambda *_: self._ran.add(layer))
    monkeypatch.setattr(policy.inside, "proved", False)
    with pytest.raises(ModelError, match="moved 0 of"), steer_vllm(policy, variants):
        pass


def test_vectors_that_do_not_fit_are_refused(policy):
    width = policy.identity.hidden_size
    for wrong in (Intervention(0, torch.ones(width + 1)), Intervention(99, torch.ones(width))):
        with pytest.raises(VectorError), steer_vllm(policy, [(wrong,)]):
            pass


def test_guides_are_kept_as_in_the_own_engine(policy, loaded, reference, prompts):
    think = find_think_format(loaded.tokenizer, FORMAT)
    limits = [
        TokenLimits(thinking=8, total=40),
        TokenLimits(thinking=0, total=40),
        TokenLimits(least_thinking=20, total=40),
        TokenLimits(thinking=12, least_thinking=12, total=40),
        TokenLimits(answer=2, total=40),
        TokenLimits(total=5),
    ]

    def guided(limit, prompt):
        return lambda: BudgetGuide(
            limit, think, opened=think.is_open(prompt), end_token_ids=policy.end_token_ids
        )

    asked = [
        RolloutRequest(prompt, seed=k, guide=guided(limit, prompt), key=f"{k} {n}", sampling=sampling)
        for k, prompt in enumerate(prompts)
        for n, (limit, sampling) in enumerate((each, way) for each in limits for way in (GREEDY, SAMPLED))
    ]
    right, found = completions(reference, asked), completions(policy, asked)
    for key, one in right.items():
        assert found[key].rollout.completion == one.rollout.completion, key
        assert found[key].rollout.finish == one.rollout.finish
        assert found[key].guide.injected == one.guide.injected
        assert found[key].guide.stopped == one.guide.stopped
        assert np.allclose(found[key].new_probs, one.new_probs, atol=1e-3, equal_nan=True)
    assert any(one.guide.injected for one in right.values())


def test_a_stream_goes_on_where_it_stopped(policy, prompts):
    whole = RolloutRequest(prompts[0], seed=3, key="whole", sampling=SAMPLED)
    written = completions(policy, [whole])["whole"].rollout.completion
    rest = RolloutRequest(prompts[0], written[:4], seed=3, resumed=True, key="rest", sampling=SAMPLED)
    assert completions(policy, [rest])["rest"].rollout.completion == written


def test_avoided_forced_and_several_completions(policy, reference, prompts):
    first = reference.next_token_probs(prompts[0], (0,), SAMPLED)[0]
    likely, other = (int(token) for token in first.ids[:2])
    asked = [
        RolloutRequest(prompts[0], avoid=likely, seed=2, key="avoided", sampling=GREEDY),
        RolloutRequest(prompts[0], force=other, seed=2, key="forced", sampling=GREEDY),
    ]
    right, found = completions(reference, asked), completions(policy, asked)
    for key, one in right.items():
        assert found[key].rollout == one.rollout
    several = RolloutRequest(prompts[0], n=12, seed=5, sampling=SAMPLED)
    made = [finished.rollout.completion for finished in policy.finished([several])]
    assert len(made) == 12
    assert len(set(made)) > 1


def test_residual_streams_are_those_of_the_own_engine(policy, reference, prompts):
    layers = list(range(policy.identity.layers))
    right, found = (
        reference.residuals([*prompts, prompts[0]], layers),
        policy.residuals([*prompts, prompts[0]], layers),
    )
    assert right.shape == found.shape
    assert float(((found - right).norm(dim=-1) / right.norm(dim=-1)).max()) < 1e-4
    with pytest.raises(ConfigError, match="out of range"):
        policy.residuals(prompts, [99])


def test_the_checks_of_what_acts_inside_pass(policy):
    subject = subject_of(policy, steerable=policy, tokenizer=policy.tokenizer, prompt_format=FORMAT)
    found = {result.name: result for result in checks_inside(subject)}
    assert set(found) == set(INSIDE)
    assert {result.status for result in found.values()} == {"passed"}, [one.line() for one in found.values()]
    assert "0 hooks are left" in found["steering"].figures
