"""AutoThink's call and keys, with optillm's own code beside ours where it can run."""

import importlib.util
import logging
import sys
from dataclasses import asdict, replace

import pytest
import torch

from pts.decoding.autothink import autothink_answer, autothink_decode
from pts.decoding.autothink_config import autothink_config
from pts.errors import ConfigError, DataError, ModelError
from pts.models.load import ModelOptions, load_model
from pts.steering.formats.optillm import additions
from pts.steering.records import write_records_jsonl, write_records_parquet
from pts.steering.vector_files import load_records
from pts.steering.vector_set import VectorError

MESSAGES = [{"role": "user", "content": "What is 27 + 8 - 9 ?"}]
SHORT = {"low_complexity_min_tokens": 0, "low_complexity_max_tokens": 60}
PROMPT_END = "<|im_end|> <|im_start|> assistant <think>"
"""A context that the end of every prompt here matches."""


@pytest.fixture(scope="module")
def demo():
    return load_model(ModelOptions("demo"))


@pytest.fixture(scope="module")
def records():
    return load_records("demo")


def decoded(demo, seed=0, messages=MESSAGES, max_new_tokens=200, **config):
    return autothink_decode(
        demo.model, demo.tokenizer, messages, {**SHORT, **config}, seed=seed, max_new_tokens=max_new_tokens
    )


def thoughts(demo, text):
    """Tokens between the tags."""
    inside = text.removeprefix("<think>").split("</think>")[0]
    return demo.tokenizer.encode(inside, add_special_tokens=False)


def optillm_module(name):
    """A module of optillm's AutoThink alone (its package imports a server)."""
    package = importlib.util.find_spec("optillm")
    if package is None:
        pytest.skip("optillm is not installed")
    file = f"{package.submodule_search_locations[0]}/autothink/{name}.py"
    spec = importlib.util.spec_from_file_location(f"optillm_{name}_beside", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_returns_the_reply_from_the_start_tag_to_the_end_token(demo):
    text = decoded(demo)
    assert text.startswith("<think>\n")
    assert text.count("</think>") == 1
    assert text.endswith("<|im_end|>")
    assert decoded(demo) == text
    assert len({decoded(demo, seed) for seed in range(4)}) > 1


def test_the_least_and_the_most_tokens_of_thinking_are_kept(demo):
    for seed in range(3):
        few = decoded(demo, seed, low_complexity_max_tokens=7)
        assert len(thoughts(demo, few)) == 7
        many = decoded(demo, seed, low_complexity_min_tokens=60, low_complexity_max_tokens=90)
        assert 60 <= len(thoughts(demo, many)) <= 90
        assert "Wait" in many


def test_a_long_prompt_has_the_high_limits_and_a_warning_says_why(demo, caplog):
    long = [{"role": "user", "content": "What is " + "1 + " * 80 + "2 ?"}]
    limits = {"high_complexity_min_tokens": 0, "high_complexity_max_tokens": 3}
    with caplog.at_level(logging.WARNING):
        assert len(thoughts(demo, decoded(demo, messages=long, **limits))) == 3
    assert "no classifier_model is named" in caplog.text
    assert len(thoughts(demo, decoded(demo, **limits))) > 3


def answered(demo, query, **config):
    limits = {**SHORT, "high_complexity_min_tokens": 0, "high_complexity_max_tokens": 3}
    messages = [{"role": "user", "content": query}]
    return autothink_answer(demo.model, demo.tokenizer, messages, {**limits, **config}, max_new_tokens=100)


def test_the_classifiers_label_decides_the_limits(demo, classifier):
    easy = answered(demo, "What is 3 + 4 ?", classifier_model=str(classifier))
    assert easy.route == "LOW"
    assert easy.usage.thinking > 3 + 1
    hard = answered(demo, "What is 31 + 8 - 9 + 17 - 6 ?", classifier_model=str(classifier))
    assert hard.route == "HIGH"
    assert hard.usage.thinking == 3 + 1  # the end tag is counted
    for answer in (easy, hard):
        assert 0.5 < answer.confidence <= 1
        assert 0 < answer.usage.router_seconds < answer.usage.seconds


def test_the_last_message_of_the_user_is_classified(demo, classifier):
    said = ["What is 31 + 8 - 9 + 17 - 6 ?", "41", "What is 3 + 4 ?"]
    roles = ["user", "assistant", "user"]
    messages = [{"role": role, "content": text} for role, text in zip(roles, said, strict=True)]
    config = {**SHORT, "classifier_model": str(classifier)}
    answer = autothink_answer(demo.model, demo.tokenizer, messages, config, max_new_tokens=9)
    assert answer.route == "LOW"


def test_the_threshold_is_the_least_probability_of_high_as_in_optillm(demo, classifier):
    package = pytest.importorskip("adaptive_classifier")
    theirs = object.__new__(optillm_module("classifier").ComplexityClassifier)
    theirs.classifier = package.AdaptiveClassifier.load(str(classifier), device="cpu", use_onnx=False)
    for query in ("What is 3 + 4 ?", "What is 31 + 8 - 9 + 17 - 6 ?"):
        label, score = theirs.get_complexity_with_confidence(query)
        plain = answered(demo, query, classifier_model=str(classifier))
        assert (plain.route, plain.confidence) == (label, pytest.approx(score, abs=1e-4))
        high = dict(theirs.predict(query))["HIGH"]
        for threshold in (0, high - 0.01, high + 0.01, 1):
            config = {"classifier_model": str(classifier), "complexity_threshold": threshold}
            answer = answered(demo, query, **config)
            assert answer.route == ("HIGH" if theirs.is_high_complexity(query, threshold) else "LOW")
            expected = high if answer.route == "HIGH" else 1 - high
            assert answer.confidence == pytest.approx(expected, abs=1e-4)


def test_a_classifier_with_other_labels_is_refused(demo, encoder, classifier, tmp_path):
    package = pytest.importorskip("adaptive_classifier")
    taught = package.AdaptiveClassifier.load(str(classifier), device="cpu", use_onnx=False)
    taught.add_examples(["What is 6 x 8 ?", "What is 7 x 8 ?"], ["MIDDLE"] * 2)
    taught.save(str(tmp_path / "three"), include_onnx=False)
    with pytest.raises(ConfigError, match="has the label MIDDLE without a budget"):
        answered(demo, "?", classifier_model=str(tmp_path / "three"))
    one = package.AdaptiveClassifier(str(encoder), device="cpu", use_onnx=False)
    one.add_examples(["What is 6 x 8 ?", "What is 7 x 8 ?"], ["LOW"] * 2)
    one.save(str(tmp_path / "one"), include_onnx=False)
    with pytest.raises(ConfigError, match="has no label HIGH; AutoThink needs HIGH and LOW"):
        answered(demo, "?", classifier_model=str(tmp_path / "one"))
    with pytest.raises(ModelError, match="cannot be loaded"):
        answered(demo, "?", classifier_model=str(tmp_path))


def test_a_missing_package_is_said(demo, monkeypatch):
    monkeypatch.setitem(sys.modules, "adaptive_classifier", None)
    with pytest.raises(ConfigError, match="pip install adaptive-classifier"):
        answered(demo, "?", classifier_model="adaptive-classifier/llm-router")


def test_the_ledger_counts_what_the_reply_took(demo):
    answer = answered(demo, "What is 27 + 8 - 9 ?")
    assert answer.usage.total == len(answer.completion)
    assert (answer.route, answer.confidence, answer.usage.router_seconds) == ("LOW", 1.0, 0.0)
    tags = {"start_think_token": "system", "end_think_token": "user"}
    reopened = answered(demo, "What is 27 + 8 - 9 ?", **tags, low_complexity_max_tokens=100)
    assert reopened.usage.rejected == 1  # the end token, in whose place the thinking ends
    assert reopened.usage.total == len(reopened.completion) + 1


def test_turns_of_thought_are_limited(demo):
    # A minimum makes every early end a turn, which the limit on turns then stops.
    text = decoded(demo, low_complexity_min_tokens=50, max_thoughts=1, thought_switch_tokens=["Wait"])
    before, _, after = text.partition("</think>")
    assert before.count("Wait") == 1
    assert before.rstrip().endswith("Wait")
    assert after


def test_a_prefill_begins_the_thinking(demo):
    assert decoded(demo, prefill="27 + 8 = 35 .").startswith("<think>\n27 + 8 = 35 .")


def test_a_reply_that_ends_while_it_thinks_gets_an_end_and_an_answer(demo):
    """With tags that the model does not know, it never closes them itself."""
    tags = {"start_think_token": "system", "end_think_token": "user"}
    text = decoded(demo, **tags, low_complexity_max_tokens=100)
    assert text.startswith("system\n")
    assert text.count("user") == 1
    assert text.endswith("<|im_end|>")
    assert text.count("<|im_end|>") == 1


def read_by_block_3(demo, **config):
    """The hidden states in which block 3 reads the prompt's last token and three new ones, and the reply."""
    seen = []
    handle = demo.model.model.layers[3].register_forward_pre_hook(lambda _m, args: seen.append(args[0]))
    text = decoded(demo, max_new_tokens=4, **config)
    handle.remove()
    return torch.cat(seen[-4:])[:, 0], text


def assert_added(demo, record, size, **config):
    """Steering adds the record's direction at this size to each token behind the prompt, and leaves no hook.

    It is added at block 2's output: what earlier tokens got does not reach what block 3 reads.
    """
    plain, text = read_by_block_3(demo)
    hooks = sum(len(m._forward_hooks) for m in demo.model.modules())
    steered, steered_text = read_by_block_3(demo, target_layer=2, **config)
    assert sum(len(m._forward_hooks) for m in demo.model.modules()) == hooks
    assert text == steered_text == read_by_block_3(demo)[1]
    added = torch.zeros_like(plain)
    added[1:] = size * torch.nn.functional.normalize(torch.tensor(record.steering_vector), dim=0)
    torch.testing.assert_close(steered - plain, added, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_records_of_optillms_schema_steer(demo, records, tmp_path, suffix):
    path = tmp_path / f"records.{suffix}"
    chosen = replace(records[0], pivot_context=PROMPT_END, reasoning_pattern="organization", prob_delta=0.5)
    written = [*(replace(record, pivot_context="Then , 9 9 9") for record in records[1:40]), chosen]
    (write_records_jsonl if suffix == "jsonl" else write_records_parquet)(path, written)
    assert_added(demo, chosen, 1.5 * 0.5, steering_dataset=str(path))


def test_a_matched_context_adds_its_vector_from_there_on(demo, records, monkeypatch):
    """The prompt's end matches the second record, whose vector is on when the first new token is read."""
    other = replace(records[0], pivot_context="Then , 9 9 9", reasoning_pattern="exploration")
    chosen = replace(records[1], pivot_context=PROMPT_END, reasoning_pattern="self_correction", prob_delta=-0.5)
    monkeypatch.setattr("pts.decoding.autothink._rows", lambda _: [asdict(other), asdict(chosen)])
    assert_added(demo, chosen, 2.0 * 0.5, steering_dataset="x")


def test_what_is_added_is_what_optillms_hook_adds(demo, records):
    module = optillm_module("steering")
    manager = module.SteeringVectorManager("", target_layer=2)
    strengths = {"self_correction": 0.01, "organization": 1.2, "numerical_accuracy": 9.0}
    for pattern, strength in strengths.items():
        manager.set_steering_strength(pattern, strength)
    rows = [asdict(record) for record in records[:60]]
    hook = module.SteeringHook(manager, 2, demo.tokenizer)
    hidden = torch.randn(1, 3, 128, generator=torch.Generator().manual_seed(0))
    for row, addition in zip(rows, additions(rows, "x", 2, strengths), strict=True):
        listed = {**row, "steering_vector": list(row["steering_vector"])}
        hook.current_vector = manager._process_dataset_item(listed)
        hook.active_pattern = row["reasoning_pattern"]
        added = hook(None, (), hidden)[0, -1] - hidden[0, -1]
        torch.testing.assert_close(added, addition.intervention.vector, rtol=1e-4, atol=1e-5)
        assert addition.intervention.layer == 2


def test_our_vector_sets_are_read_by_their_records(demo):
    text = decoded(demo, steering_dataset="demo", pattern_strengths={"organization": 2.0})
    assert text.endswith("<|im_end|>")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"steering_datset": "x"}, "did you mean steering_dataset"),
        ({"max_thoughts": 0}, "at least 1"),
        ({"max_thoughts": "many"}, "a whole number"),
        ({"pattern_strengths": {"a": "b"}}, "pattern_strengths.a: wanted a number"),
        ({"pattern_strengths": {"a": None}}, "a finite number for each pattern"),
        ({"thought_switch_tokens": []}, "a list of words"),
        ({"complexity_threshold": 2}, "from 0 to 1"),
        ({"low_complexity_min_tokens": 9, "low_complexity_max_tokens": 3}, "9 to 3"),
        ({"start_think_token": 3}, "start_think_token: wanted a text"),
    ],
)
def test_a_bad_setting_is_refused(config, message):
    with pytest.raises(ConfigError, match=message):
        autothink_config(config)


def test_what_nothing_reads_is_said(caplog):
    with caplog.at_level(logging.WARNING):
        autothink_config({"min_thinking_tokens": 5})
    assert "has no effect" in caplog.text


def test_what_does_not_fit_the_model_is_refused(demo, tmp_path):
    with pytest.raises(VectorError, match="layer 19 is out of range"):
        decoded(demo, steering_dataset="demo", target_layer=19)
    with pytest.raises(ModelError, match="cannot be written"):
        decoded(demo, end_think_token="</thoughts>")
    with pytest.raises(ConfigError, match="cannot be written"):
        decoded(demo, thought_switch_tokens=["Hmm"])
    with pytest.raises(ConfigError, match="at least one"):
        decoded(demo, messages=[])
    path = tmp_path / "bad.jsonl"
    path.write_text('{"pivot_context": "x", "steering_vector": [1.0]}\n')
    with pytest.raises(DataError, match="no reasoning_pattern"):
        decoded(demo, steering_dataset=str(path))


def test_optillms_empty_strings_mean_none():
    config = autothink_config({"steering_dataset": "", "classifier_model": ""})
    assert config.steering_dataset is None
    assert config.classifier_model is None
