"""A tokenizer, with its model or without: for what only turns ids into text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import AutoTokenizer

from pts.models.options import ModelOptions
from pts.models.source import find_source, one_line_errors, quiet
from pts.records import TokenIds


def load_tokenizer(options: ModelOptions) -> Any:
    """The tokenizer that `options` name.

    Raises ModelError, one line that says what to do, where it is not there, cannot be reached or read, or needs
    remote code.
    """
    source = find_source(options)
    with quiet(source), one_line_errors(options, source):
        return AutoTokenizer.from_pretrained(source.name, **source.named)


def load_detokenizer(options: ModelOptions) -> Callable[[TokenIds], str]:
    """From token ids to their text, special tokens included. Raises ModelError, as `load_tokenizer` does."""
    tokenizer = load_tokenizer(options)

    def decode(ids: TokenIds) -> str:
        text: str = tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)
        return text

    return decode
