"""From a query to prompt ids: the chat template where there is one and it is wanted, plain text otherwise."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pts.data_files import text_fault
from pts.errors import DataError, ModelError
from pts.models.template_date import template_time, time_options, writes_date
from pts.records import TokenIds

_PROBE = "What is 27 + 8 - 9?"
_RENDERED = 8
"""How often the probe is rendered to see whether a template writes the same each time."""


@dataclass(frozen=True, slots=True)
class PromptFormat:
    """How a query becomes a prompt.

    `suffix` is an instruction put on a line of its own after the query. `thinking` asks a chat template that
    knows `enable_thinking` for that mode; None leaves the template its default. `written_on` is the local time,
    in ISO 8601, for a template that writes the date; None for the time of the call.
    """

    system_prompt: str | None = None
    chat_template: bool = True
    suffix: str | None = None
    thinking: bool | None = None
    written_on: str | None = None


def settled_format(tokenizer: Any, fmt: PromptFormat) -> PromptFormat:
    """The format with the time of now, where the model's chat template writes it and `fmt` names none.

    It has none where the template writes none. A run makes every prompt by one settled format: then all are of
    one day, those of a later session too.
    """
    if not fmt.chat_template or not writes_date(tokenizer):
        return replace(fmt, written_on=None)
    return fmt if fmt.written_on is not None else replace(fmt, written_on=template_time(tokenizer))


def prompt_digest(tokenizer: Any, fmt: PromptFormat) -> str:
    """A digest of what a fixed question becomes: it changes with template, tokenizer, format and date.

    Raises ModelError as `encode_prompt` does, and for a chat template that writes something else each time.
    """
    probes = {encode_prompt(tokenizer, _PROBE, fmt) for _ in range(_RENDERED)}
    if len(probes) > 1:
        raise ModelError(
            "the model's chat template writes another prompt each time for the same question: remove what is "
            "random in it, or use --no-chat-template."
        )
    return hashlib.sha256(repr(probes.pop()).encode()).hexdigest()[:16]


def encode_prompt(tokenizer: Any, query: str, fmt: PromptFormat) -> TokenIds:
    """Prompt ids for a query.

    Raises ModelError where a chat template is wanted and there is none, where it rejects the messages (a system
    prompt that it does not know), or where `thinking` is asked for and the template has no such mode; DataError
    for text that is no whole Unicode, which no tokenizer reads.
    """
    content = query if fmt.suffix is None else f"{query}\n{fmt.suffix}"
    if not fmt.chat_template:
        return _encode_plain(tokenizer, content, fmt)
    if not getattr(tokenizer, "chat_template", None):
        raise ModelError("the model's tokenizer has no chat template: use --no-chat-template.")
    options: dict[str, bool] = {}
    if fmt.thinking is not None:
        if not has_thinking_modes(tokenizer, content, fmt):
            asked = "thinking" if fmt.thinking else "no thinking"
            raise ModelError(
                f"{asked} was asked for, but the model's chat template does not know enable_thinking."
            )
        options["enable_thinking"] = fmt.thinking
    # The template writes the beginning-of-sequence token itself where the model wants one.
    text = _render(tokenizer, content, fmt, options)
    return tuple(tokenizer.encode(_readable(text), add_special_tokens=False))


def encode_messages(tokenizer: Any, messages: Sequence[Mapping[str, str]], fmt: PromptFormat) -> TokenIds:
    """Prompt ids for a conversation, each message with its role and content.

    The format's system prompt stands first where the conversation has none; its suffix follows the last
    message. Raises ModelError where the model has no chat template, or its template rejects the messages.
    """
    if not fmt.chat_template or not getattr(tokenizer, "chat_template", None):
        raise ModelError("messages need a chat template, and the model has none: give the prompt as text.")
    said = [dict(message) for message in messages]
    if not said:
        raise ModelError("a conversation without messages cannot be answered: give at least one.")
    if fmt.system_prompt is not None and said[0].get("role") != "system":
        said.insert(0, {"role": "system", "content": fmt.system_prompt})
    if fmt.suffix is not None:
        said[-1]["content"] = f"{said[-1]['content']}\n{fmt.suffix}"
    options = {} if fmt.thinking is None else {"enable_thinking": fmt.thinking}
    text = _render_messages(tokenizer, said, options, fmt.written_on)
    return tuple(tokenizer.encode(_readable(text), add_special_tokens=False))


def _encode_plain(tokenizer: Any, content: str, fmt: PromptFormat) -> TokenIds:
    """System prompt and query as plain text, with the special tokens that the tokenizer itself puts before it.

    Raises ModelError for `thinking`, which only a chat template can switch, and for a prompt without tokens.
    """
    if fmt.thinking is not None:
        raise ModelError("thinking is switched by the chat template: it cannot be set with --no-chat-template.")
    text = content if fmt.system_prompt is None else f"{fmt.system_prompt}\n\n{content}"
    ids = list(tokenizer.encode(_readable(text)))
    # Some tokenizers also close the sequence; a prompt must stay open.
    while ids and ids[-1] == tokenizer.eos_token_id and ids[-1] != tokenizer.bos_token_id:
        ids.pop()
    if not ids:
        raise ModelError("the prompt is empty: it needs at least one token.")
    return tuple(ids)


def _readable(text: str) -> str:
    fault = text_fault(text)
    if fault is not None:
        raise DataError(f"the prompt {fault}; give it as whole UTF-8 text.")
    return text


def has_thinking_modes(tokenizer: Any, content: str, fmt: PromptFormat) -> bool:
    """Whether the template writes something else when asked to think than when asked not to."""
    texts = [_render(tokenizer, content, fmt, {"enable_thinking": flag}) for flag in (True, False)]
    return texts[0] != texts[1]


def _render(tokenizer: Any, content: str, fmt: PromptFormat, options: dict[str, bool]) -> str:
    """The template's text up to where the completion begins."""
    messages = [{"role": "user", "content": content}]
    if fmt.system_prompt is not None:
        messages.insert(0, {"role": "system", "content": fmt.system_prompt})
    return _render_messages(tokenizer, messages, options, fmt.written_on)


def _render_messages(
    tokenizer: Any,
    messages: Sequence[Mapping[str, str]],
    options: Mapping[str, bool],
    written_on: str | None,
) -> str:
    # Jinja comes with transformers wherever a chat template can be rendered; imported here because it is slow.
    from jinja2 import TemplateError

    try:
        text: str = tokenizer.apply_chat_template(
            list(messages),
            tokenize=False,
            add_generation_prompt=True,
            **options,
            **time_options(tokenizer, written_on),
        )
    except TemplateError as error:
        raise ModelError(f"the model's chat template rejects the prompt: {error}") from error
    return text
