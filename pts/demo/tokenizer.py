"""The demo model's tokenizer, one token a word, and its chat template with both modes."""

from __future__ import annotations

from tokenizers import AddedToken, Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from transformers import PreTrainedTokenizerFast

from pts.demo.vocabulary import (
    PAD,
    THINK_END,
    THINK_START,
    TURN_END,
    TURN_START,
    UNKNOWN,
    vocabulary,
)

CHAT_TEMPLATE = (
    "{%- for message in messages %}"
    "{{- '<|im_start|> ' + message['role'] + ' ' + message['content'] + ' <|im_end|> ' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}"
    "{{- '<|im_start|> assistant <think>' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}{{- ' </think>' }}{%- endif %}"
    "{%- endif %}"
)

_WORDS = r"\d+|[A-Za-z]+|[^\sA-Za-z\d]"


def build_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer over `vocabulary()`: numbers, words and single marks; anything else is unknown.

    The think tags are ordinary added tokens, so that they stay in the text when special tokens are skipped.
    """
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(vocabulary())}, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = Split(Regex(_WORDS), behavior="removed", invert=True)
    tokenizer.add_special_tokens([PAD, UNKNOWN, TURN_START, TURN_END])
    tokenizer.add_tokens([AddedToken(tag, special=False) for tag in (THINK_START, THINK_END)])
    wrapped = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        unk_token=UNKNOWN,
        pad_token=PAD,
        eos_token=TURN_END,
        clean_up_tokenization_spaces=False,
        model_max_length=512,
        padding_side="left",
    )
    wrapped.chat_template = CHAT_TEMPLATE
    return wrapped


def prompt_words(query: str, thinking: bool, system: str | None = None) -> list[str]:
    """The words of a prompt, as the chat template and the tokenizer make them of a query in known words."""
    turns = [] if system is None else [TURN_START, "system", *system.split(), TURN_END]
    opening = [THINK_START] if thinking else [THINK_START, THINK_END]
    return [*turns, TURN_START, "user", *query.split(), TURN_END, TURN_START, "assistant", *opening]
