"""Where thinking begins and ends, on the demo tokenizer and on templates of other kinds."""

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from pts.decoding.think_format import find_think_format
from pts.errors import ConfigError, ModelError
from pts.models.prompt import PromptFormat, encode_prompt

PLAIN = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QWEN3 = (
    PLAIN + "{% if add_generation_prompt and enable_thinking is defined and enable_thinking is false %}"
    "<think>\n\n</think>\n\n{% endif %}"
)
SPECIAL = ["<|im_start|>", "<|im_end|>"]


def byte_tokenizer(template, added=()):
    """One token a byte, as GPT-2's vocabulary writes it, and what is added whole."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={piece: i for i, piece in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|im_end|>")
    tokenizer.add_tokens([*SPECIAL, *added], special_tokens=True)
    tokenizer.chat_template = template
    return tokenizer


def ids(tokenizer, text):
    return tuple(tokenizer.encode(text, add_special_tokens=False))


def test_the_demo_model_thinks_from_its_prompt_on(demo):
    found = find_think_format(demo.tokenizer, PromptFormat())
    names = demo.tokenizer.get_vocab()
    assert (found.start, found.end, found.empty) == (
        (names["<think>"],),
        (names["</think>"],),
        (names["</think>"],),
    )
    assert found.continuations == ((names["Wait"],),)
    assert found.switches == ((names["Wait"],), (names["Alternatively"],))
    assert found.sentence_ends == {names["."], names["?"]}
    assert found.is_open(encode_prompt(demo.tokenizer, "What is 1 + 1 ?", PromptFormat()))
    assert not found.is_open(encode_prompt(demo.tokenizer, "?", PromptFormat(thinking=False)))


def test_a_template_with_an_empty_form_of_its_own():
    tokenizer = byte_tokenizer(QWEN3, ("<think>", "</think>"))
    found = find_think_format(tokenizer, PromptFormat())
    assert found.empty == ids(tokenizer, "<think>\n\n</think>\n\n")
    assert not found.is_open(encode_prompt(tokenizer, "a", PromptFormat()))
    texts = {tokenizer.decode([index]) for index in found.sentence_ends}
    assert texts == {".", "?", "!", "\n"}


def test_split_puts_what_follows_the_last_end_into_the_answer():
    tokenizer = byte_tokenizer(QWEN3)
    found = find_think_format(tokenizer, PromptFormat())
    assert len(found.end) == len("</think>")
    text = "<think>a</think> b"
    assert found.split(ids(tokenizer, text), False) == (
        ids(tokenizer, "<think>a</think>"),
        ids(tokenizer, " b"),
    )
    assert found.split(ids(tokenizer, "a"), False) == ((), ids(tokenizer, "a"))
    assert found.split(ids(tokenizer, "a"), True) == (ids(tokenizer, "a"), ())
    assert found.split(ids(tokenizer, "<think>a"), False) == (ids(tokenizer, "<think>a"), ())


def test_words_given_must_be_writable(demo):
    found = find_think_format(demo.tokenizer, PromptFormat(), continuations=["Check"], switches=["Check"])
    assert found.continuations == found.switches == ((demo.tokenizer.get_vocab()["Check"],),)
    with pytest.raises(ConfigError, match="'Hmm' cannot be written"):
        find_think_format(demo.tokenizer, PromptFormat(), continuations=["Hmm"])
    with pytest.raises(ConfigError, match="'Hmm' cannot be written"):
        find_think_format(demo.tokenizer, PromptFormat(), switches=["Hmm"])


def test_a_model_that_does_not_think():
    tokenizer = byte_tokenizer(PLAIN)
    assert find_think_format(tokenizer, PromptFormat()) is None
    with pytest.raises(ModelError, match="early-exit needs a model that thinks"):
        find_think_format(tokenizer, PromptFormat(), required_by="early-exit")
    with pytest.raises(ModelError, match="neither the chat template nor the vocabulary"):
        find_think_format(tokenizer, PromptFormat(), "<think>", "</think>", required_by="min:8")
