"""Where nothing is steered the model runs as it was loaded: no further hook on any module, in any pass."""

from contextlib import contextmanager

import pytest
from torch.nn.modules.module import register_module_forward_pre_hook

from pts.cli import run
from pts.decoding import SteeredDecoder, autothink_decode
from pts.demo.problems import demo_problems
from pts.evaluation.decoder import Decoder
from pts.evaluation.outcomes import run_variants
from pts.graders import make_grader
from pts.models.frozen import with_contiguous_states
from pts.models.prompt import PromptFormat
from pts.records import Sampling
from pts.stages.evaluate.inputs import EvaluateInputs
from pts.stages.evaluate.run import run_evaluation
from pts.steering.hooks import steer
from pts.steering.vector_files import load_vectors

SAMPLING = Sampling(budget=48)
PROMPTS = ["What is 27 + 8 - 9 ?", "What is 3 + 4 ?"]


@contextmanager
def watched():
    """Hooks met on the modules that run, one number for each call of a module, whichever model it is of.

    Not counted is what a model is loaded with, which changes no value.
    """
    met = []

    def count(module, _args):
        hooks = [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
        met.append(sum(hook is not with_contiguous_states for hook in hooks))

    handle = register_module_forward_pre_hook(count)
    try:
        yield met
    finally:
        handle.remove()


def test_the_watch_sees_hooks_of_steering(demo):
    vectors = load_vectors("demo")
    with watched() as met:
        SteeredDecoder(demo, vectors, "full", sampling=SAMPLING).generate(PROMPTS)
    assert any(met)


@pytest.mark.parametrize("spec", ["full", "nothink", "budget:9", "early-exit", "reject:3", "best-of:3", "auto"])
def test_a_decoder_without_vectors_has_none(demo, spec):
    decoder = SteeredDecoder(demo, None, spec, sampling=SAMPLING)
    with watched() as met:
        decoder.generate(PROMPTS)
    assert met
    assert not any(met)


def test_a_decoder_whose_prompts_ask_for_no_pattern_has_none(demo):
    decoder = SteeredDecoder(demo, load_vectors("demo"), "full", sampling=SAMPLING)
    with watched() as met:
        decoder.generate(PROMPTS, patterns=[{}, {}])
    assert met
    assert not any(met)


def test_generate_has_none_once_steering_ended(demo):
    ids = demo.tokenizer(PROMPTS[0], return_tensors="pt").input_ids
    with steer(demo.model, load_vectors("demo")):
        pass
    with watched() as met:
        demo.model.generate(ids, max_new_tokens=3)
    assert met
    assert not any(met)


def test_autothink_without_records_has_none(demo):
    messages = [{"role": "user", "content": PROMPTS[0]}]
    with watched() as met:
        autothink_decode(demo.model, demo.tokenizer, messages, max_new_tokens=9)
    assert met
    assert not any(met)


def test_a_measurement_of_the_model_as_it_is_has_none(demo):
    decoder = Decoder(demo, SAMPLING, PromptFormat(), make_grader("demo", think_end="</think>"))
    with watched() as met, decoder.steered([]) as policy:
        run_variants(policy, SAMPLING, demo_problems("test", 2, 3, (1,)), decoder.grade, [0], 2, seed=1)
    assert met
    assert not any(met)


def test_the_command_decode_without_vectors_has_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with watched() as met:
        assert run(("decode", "--quiet", PROMPTS[0])) == 0
    assert met
    assert not any(met)


def test_an_evaluation_without_vectors_has_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with watched() as met:
        run_evaluation(EvaluateInputs(problems=2, levels=(1,), seeds=1, device="cpu", budget=48))
    assert met
    assert not any(met)


def test_the_unsteered_lines_of_an_evaluation_with_vectors_have_none(tmp_path):
    hooked = {}
    with watched() as met:
        run_evaluation(
            EvaluateInputs(
                strategies=("nothink",),
                vectors="demo",
                problems=2,
                levels=(1,),
                seeds=1,
                device="cpu",
                budget=48,
                baselines=False,
                output=tmp_path / "run",
            ),
            lambda progress: hooked.update({progress.line: any(met)}),
        )
    # None: while prompts are read.
    assert hooked == {None: False, "nothink": False, "nothink + vectors": True}
