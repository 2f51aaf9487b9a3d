"""The divergence: the plain formula's number, whatever the chunks; bounded memory; no set is lost with it."""

from math import prod

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM, CohereConfig, Gemma2Config, GraniteConfig, Qwen3Config

from pts.calibration import effect
from pts.calibration.divergence import kl_per_token
from pts.calibration.effect import NOT_ASKED, measure_effects
from pts.calibration.evaluator import Evaluator
from pts.calibration.settings import Setting
from pts.demo.problems import demo_problems
from pts.evaluation.decoder import Decoder
from pts.graders import make_grader
from pts.models.load import ModelOptions, load_model
from pts.models.prompt import PromptFormat
from pts.publishing.card import vector_set_card
from pts.records import Rollout, RolloutRequest, Sampling
from pts.report.vector_tables import vector_report
from pts.steering.hooks import Intervention, steer
from pts.steering.vector_files import load_vectors, save_vectors
from pts.steering.vector_set import VectorSet

SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}


def model_of(kind, vocabulary=4096, **more):
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_config(kind(vocab_size=vocabulary, **SHAPE, **more))
    for parameter in model.parameters():
        parameter.data.mul_(4)
    return model.eval()


def rollout_of(model, prompt, completion, seed=0):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, model.config.vocab_size, (prompt + completion,), generator=generator).tolist()
    return Rollout(RolloutRequest(tuple(ids[:prompt]), variant=1), tuple(ids[prompt:]), 1, "budget")


@torch.no_grad()
def plain_formula(model, variant, rollouts):
    total, tokens = 0.0, 0
    for rollout in rollouts:
        ids = torch.tensor([rollout.request.prompt + rollout.completion[:-1]])
        first = len(rollout.request.prompt)
        plain = torch.log_softmax(model(ids).logits[0].double(), -1)
        with steer(model, [variant], engine_driven=True) as steering:
            steering.begin_pass(torch.tensor([1]), ids, torch.arange(ids.shape[1])[None] >= first)
            steered = torch.log_softmax(model(ids).logits[0].double(), -1)
        total += float((steered.exp() * (steered - plain)).sum(-1)[first - 1 :].sum())
        tokens += len(rollout.completion)
    return total / tokens


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        (Qwen3Config, {"head_dim": 8}),
        # Models that cap or scale their logits: what is read is what they would draw from.
        (Gemma2Config, {"head_dim": 8, "final_logit_softcapping": 3.0, "sliding_window": 16}),
        (CohereConfig, {"logit_scale": 0.25}),
        (GraniteConfig, {"logits_scaling": 5.0}),
    ],
)
def test_it_is_the_plain_formula_whatever_the_chunks(kind, more):
    model = model_of(kind, **more)
    variant = [Intervention(0, 3 * torch.randn(32, generator=torch.Generator().manual_seed(1)))]
    rollouts = [rollout_of(model, 9, 40), rollout_of(model, 1, 23, 1), rollout_of(model, 9, 2, 2)]
    wanted = plain_formula(model, variant, rollouts)
    assert wanted > 1e-3
    for granted in (1 << 30, 16 * 7 * 4 * 4096, 1):
        got = kl_per_token(model, variant, rollouts, memory_bytes=granted)
        assert got == pytest.approx(wanted, rel=2e-4), granted


class Largest(TorchDispatchMode):
    """Elements of the largest tensor that any operation gives, parameters left out."""

    def __init__(self, known):
        super().__init__()
        self.known = {parameter.data_ptr() for parameter in known}
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for value in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(value, torch.Tensor) and value.data_ptr() not in self.known:
                self.elements = max(self.elements, prod(value.shape))
        return out


def test_no_tensor_is_larger_than_the_memory_granted_allows():
    model = model_of(Qwen3Config, 50_000, head_dim=8, tie_word_embeddings=True)
    variant = [Intervention(0, torch.ones(32))]
    granted = 16 << 20
    with Largest(model.parameters()) as largest:
        kl_per_token(model, variant, [rollout_of(model, 5, 300)], memory_bytes=granted)
    # Of eight such tensors at most: [length, vocabulary] would be 60 MB each.
    assert 50_000 < largest.elements <= granted // 16 // 4


@pytest.fixture(scope="module")
def evaluator():
    class Directions:
        def interventions(self, setting):
            return (Intervention(setting.layer, setting.strength * torch.ones(128)),)

        def digest(self, _setting):
            return "ones"

        key = digest

    decoder = Decoder(
        load_model(ModelOptions("demo")),
        Sampling(budget=64),
        PromptFormat(thinking=True),
        make_grader("demo", think_end="</think>"),
    )
    return Evaluator(decoder, Directions(), demo_problems("test", 4, 3, (1,)), 2, 0)


SETTING = Setting("all", "contrast", 2, 0.5, "always")


def test_an_effect_stands_where_its_divergence_fails_and_says_why(evaluator, monkeypatch, caplog, tmp_path):
    def out_of_memory(*_args, **_named):
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate much.")

    monkeypatch.setattr(effect, "kl_per_token", out_of_memory)
    found = measure_effects(evaluator, {"all": SETTING}, [])
    assert found["all"].kl_per_token is None
    assert "OutOfMemoryError: CUDA out of memory." in found["all"].kl_left_out
    assert "CUDA out of memory" in caplog.text
    assert found["all"].steered == found["all"].unsteered + found["all"].difference
    # The reason goes where the number would have been.
    demo = load_vectors("demo")
    vectors = VectorSet(demo.model, demo.residual_norms, {"all": demo.vector("all")}, found)
    save_vectors(vectors, tmp_path)
    assert load_vectors(tmp_path).effects["all"].kl_left_out == found["all"].kl_left_out
    assert "OutOfMemoryError" in vector_set_card(vectors, "set", None, 0)
    assert any("OutOfMemoryError" in str(part) for part in vector_report(vectors).renderables)


def test_a_divergence_that_is_no_number_is_left_out(evaluator, monkeypatch):
    monkeypatch.setattr(effect, "kl_per_token", lambda *_args, **_named: float("nan"))
    (found,) = measure_effects(evaluator, {"all": SETTING}, []).values()
    assert (found.kl_per_token, found.kl_left_out) == (None, "it came out as nan")


def test_it_is_left_out_where_it_is_not_asked_for(evaluator):
    (found,) = measure_effects(evaluator, {"all": SETTING}, [], divergence=False).values()
    assert (found.kl_per_token, found.kl_left_out) == (None, NOT_ASKED)
    (found,) = measure_effects(evaluator, {"all": SETTING}, []).values()
    assert found.kl_per_token > 0
    assert found.kl_left_out is None
