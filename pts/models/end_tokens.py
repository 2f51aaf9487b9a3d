"""Which tokens end a completion."""

from __future__ import annotations

from typing import Any

from jinja2 import TemplateError


def end_token_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """End tokens by the generation configuration (one or several), the tokenizer, and the chat template.

    The template's is the special token that it writes right after an assistant's turn: some models (and most
    GGUF files) name another one, or none, in their configuration.
    """
    ids: set[int] = set()
    for source in (
        getattr(model, "generation_config", None),
        model.config.get_text_config(decoder=True),
        tokenizer,
    ):
        named = getattr(source, "eos_token_id", None)
        ids.update(named if isinstance(named, (list, tuple)) else [] if named is None else [named])
    return frozenset(ids | _end_of_turn(tokenizer))


def _end_of_turn(tokenizer: Any) -> set[int]:
    """The special token after an assistant's turn in the chat template, if there is one."""
    if not getattr(tokenizer, "chat_template", None):
        return set()
    reply = "reply"
    messages = [{"role": "user", "content": "query"}, {"role": "assistant", "content": reply}]
    try:
        text: str = tokenizer.apply_chat_template(messages, tokenize=False)
    except TemplateError:
        # A template that takes no assistant turn says nothing about its end.
        return set()
    after = text[text.rfind(reply) + len(reply) :].lstrip()
    specials = {
        token.content: index for index, token in tokenizer.added_tokens_decoder.items() if token.special
    }
    return {index for content, index in specials.items() if after.startswith(content)}
