"""The tags between which a model thinks, as token ids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pts.errors import ModelError
from pts.records import TokenIds
from pts.setting_names import setting

_KNOWN = (
    ("<think>", "</think>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("[THINK]", "[/THINK]"),
    ("<thinking>", "</thinking>"),
    ("<reasoning>", "</reasoning>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<thought>", "</thought>"),
    ("<longcat_think>", "</longcat_think>"),
    ("◁think▷", "◁/think▷"),
    ("<seed:think>", "</seed:think>"),
    ("<|channel>thought", "<channel|>"),
    ("<|channel|>analysis<|message|>", "<|end|>"),
)
"""Pairs in use: Qwen, DeepSeek and most others; OpenThinker; Mistral; ...; Cohere; EXAONE; LongCat;
Kimi; Seed; Gemma 4; gpt-oss."""


@dataclass(frozen=True, slots=True)
class ThinkTags:
    """The text that opens and closes thinking, and its token ids; a tag of several tokens is normal."""

    start: str
    end: str
    start_ids: TokenIds
    end_ids: TokenIds


def find_think_tags(tokenizer: Any, start: str | None = None, end: str | None = None) -> ThinkTags | None:
    """The think tags given, or else the first known pair that the chat template or the vocabulary has.

    None where neither was given and none is known. Raises ModelError where only one is given, or where the
    vocabulary cannot express one.
    """
    if (start is None) != (end is None):
        raise ModelError("only one think tag was given: give both the one that opens and the one that closes.")
    if start is not None and end is not None:
        return _encoded(tokenizer, start, end)
    template = _template(tokenizer)
    added = set(tokenizer.get_added_vocab())
    for opening, closing in _KNOWN:
        if closing in template and opening in template:
            return _encoded(tokenizer, opening, closing)
        if {opening, closing} <= added:
            return _encoded(tokenizer, opening, closing)
    return None


def require_think_tags(tokenizer: Any, start: str | None = None, end: str | None = None) -> ThinkTags:
    """The think tags, where thinking is needed.

    Raises ModelError where none is found, or where the tags given are in neither the chat template nor the
    vocabulary: a model that does not know a tag never writes it.
    """
    tags = find_think_tags(tokenizer, start, end)
    if tags is None:
        raise ModelError(
            "no think tags of this model are known, neither in the chat template nor in the "
            f"vocabulary: give {setting('think_start')} and {setting('think_end')}, or use a "
            "model that thinks."
        )
    template, added = _template(tokenizer), set(tokenizer.get_added_vocab())
    for tag in (tags.start, tags.end):
        if tag not in template and tag not in added:
            raise ModelError(
                f"think tag {tag!r} is in neither the chat template nor the vocabulary of the model."
            )
    return tags


def _template(tokenizer: Any) -> str:
    """The text of the chat template or templates; empty where there is none."""
    template = getattr(tokenizer, "chat_template", None) or ""
    return "\n".join(template.values()) if isinstance(template, dict) else template


def _encoded(tokenizer: Any, start: str, end: str) -> ThinkTags:
    """The tags with their ids. Raises ModelError for a tag that does not survive encoding and decoding."""
    ids: list[TokenIds] = []
    for tag in (start, end):
        encoded = tuple(tokenizer.encode(tag, add_special_tokens=False))
        decoded = tokenizer.decode(list(encoded), clean_up_tokenization_spaces=False)
        if not tag.strip() or decoded.strip() != tag.strip():
            raise ModelError(f"think tag {tag!r} cannot be written with the model's vocabulary.")
        ids.append(encoded)
    return ThinkTags(start, end, ids[0], ids[1])
