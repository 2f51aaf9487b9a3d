"""From a query to prompt ids: the chat template where there is one and it is wanted, plain text otherwise."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pts.data_files import text_fault
from pts.errors import DataError, ModelError
from pts.models.template_date import template_time, time_options, writes_date
from pts.records import TokenIds
from pts.setting_names import setting

_PROBE = "What is 27 + 8 - 9?"
_MARK = "(the question stands here)"
_SWITCHES: Mapping[str, tuple[Any, Any]] = {
    "enable_thinking": (True, False),
    "thinking": (True, False),
    "reasoning_effort": ("high", "none"),
    "reasoning": (True, False),
}
"""Variables by which chat templates switch thinking (Qwen3, GLM, SmolLM3; DeepSeek V3.1, Granite; Mistral;
Cohere), with their values for on and off."""
_RENDERED = 8
"""How often the probe is rendered to see whether a template writes the same each time."""


@dataclass(frozen=True, slots=True)
class PromptFormat:
    """How a query becomes a prompt.

    `suffix` is an instruction put on a line of its own after the query. `thinking` asks a chat template with a
    switch for that mode; None leaves the template its default. `thinking_switch` names the template's variable,
    or the variable with its values for on and off (`reasoning_effort=high,low`); None finds it.
    `template_options` are further variables of the template, each as `NAME=VALUE`. `written_on` is the local
    time, in ISO 8601, for a template that writes the date; None for the time of the call.
    """

    system_prompt: str | None = None
    chat_template: bool = True
    suffix: str | None = None
    thinking: bool | None = None
    written_on: str | None = None
    thinking_switch: str | None = None
    template_options: tuple[str, ...] = ()


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
            "the model's chat template writes a different prompt each time for the same "
            "question: remove what is random in it, or use "
            f"{setting('chat_template', False)}."
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
        raise ModelError(f"the model's tokenizer has no chat template: use {setting('chat_template', False)}.")
    options = template_variables(tokenizer, content, fmt)
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
    conversation = [dict(message) for message in messages]
    if not conversation:
        raise ModelError("a conversation without messages cannot be answered: give at least one.")
    if fmt.system_prompt is not None and conversation[0].get("role") != "system":
        conversation.insert(0, {"role": "system", "content": fmt.system_prompt})
    if fmt.suffix is not None:
        conversation[-1]["content"] = f"{conversation[-1]['content']}\n{fmt.suffix}"
    options = template_variables(tokenizer, str(conversation[-1].get("content", "")), fmt)
    text = _render_messages(tokenizer, conversation, options, fmt.written_on)
    return tuple(tokenizer.encode(_readable(text), add_special_tokens=False))


def _encode_plain(tokenizer: Any, content: str, fmt: PromptFormat) -> TokenIds:
    """System prompt and query as plain text, with the special tokens that the tokenizer itself puts before it.

    Raises ModelError for `thinking`, which only a chat template can switch, and for a prompt without tokens.
    """
    if fmt.thinking is not None:
        raise ModelError(
            "thinking is switched by the chat template: it cannot be set with "
            f"{setting('chat_template', False)}."
        )
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


def thinking_modes(tokenizer: Any, content: str, fmt: PromptFormat) -> tuple[bool, ...]:
    """The modes that the template can be asked for: both, or none where it has no switch."""
    return (True, False) if _switch(tokenizer, content, fmt) is not None else ()


def template_variables(tokenizer: Any, content: str, fmt: PromptFormat) -> dict[str, Any]:
    """What the format asks of the chat template beside messages and date.

    Raises ModelError for a variable that the template does not have, and for `thinking` without a switch.
    """
    variables = _options(tokenizer, fmt)
    if fmt.thinking is None:
        if fmt.thinking_switch is not None:
            _switch(tokenizer, content, fmt)
        return variables
    switch = _switch(tokenizer, content, fmt)
    if switch is None:
        asked = "thinking" if fmt.thinking else "no thinking"
        known = ", ".join(_SWITCHES)
        raise ModelError(
            f"{asked} was requested, but the model's chat template has none of the switches {known}: name its "
            f"own with {setting('thinking_switch')}, or leave {setting('thinking')} and "
            f"{setting('thinking', False)} out."
        )
    name, on, off = switch
    if name in variables:
        raise ModelError(
            f"the template option {name} is the thinking switch as well: give only one of the two."
        )
    return {**variables, name: on if fmt.thinking else off}


def assistant_text(tokenizer: Any, fmt: PromptFormat) -> str:
    """What the chat template writes after the conversation for the assistant's turn to begin.

    Of a template that always writes it, whether asked to or not, all that follows the question.
    """
    variables = template_variables(tokenizer, _MARK, fmt)
    whole, without = (
        _render(tokenizer, _MARK, fmt, variables, add_generation_prompt=asked) for asked in (True, False)
    )
    if whole.startswith(without) and len(whole) > len(without):
        return whole[len(without) :]
    return whole[whole.rfind(_MARK) + len(_MARK) :] if _MARK in whole else ""


def _switch(tokenizer: Any, content: str, fmt: PromptFormat) -> tuple[str, Any, Any] | None:
    """The variable that switches thinking, with its values for on and off; None where the template has none.

    Raises ModelError for a named one that changes nothing.
    """
    text = _template_text(tokenizer)
    if fmt.thinking_switch is not None:
        name, _, values = fmt.thinking_switch.partition("=")
        on, off = _SWITCHES.get(name, (True, False))
        if values:
            parts = [_value(part) for part in values.split(",")]
            if len(parts) != 2:
                raise ModelError(
                    f"thinking switch {fmt.thinking_switch!r} needs two values, on and off: NAME=ON,OFF."
                )
            on, off = parts
        if name not in text or not _differs(tokenizer, content, fmt, name, on, off):
            raise ModelError(
                f"thinking switch {fmt.thinking_switch!r} changes nothing in the model's chat template: check "
                "its name and values (NAME, or NAME=ON,OFF)."
            )
        return name, on, off
    for name, (on, off) in _SWITCHES.items():
        # A value that the template does not name would be written out, and mean nothing to the model.
        known = isinstance(off, bool) or f"'{off}'" in text or f'"{off}"' in text
        try:
            if name in text and known and _differs(tokenizer, content, fmt, name, on, off):
                return name, on, off
        except ModelError:  # the template takes other values of that name
            continue
    return None


def _differs(tokenizer: Any, content: str, fmt: PromptFormat, name: str, on: object, off: object) -> bool:
    """Whether the template writes something else for the one value than for the other."""
    others = {key: value for key, value in _options(tokenizer, fmt).items() if key != name}
    texts = [_render(tokenizer, content, fmt, {**others, name: value}) for value in (on, off)]
    return texts[0] != texts[1]


def _options(tokenizer: Any, fmt: PromptFormat) -> dict[str, Any]:
    """The further variables of the template. Raises ModelError for one that it does not have."""
    variables: dict[str, Any] = {}
    for option in fmt.template_options:
        name, given, value = option.partition("=")
        if not given or not name.isidentifier():
            raise ModelError(f"template option {option!r} is not NAME=VALUE.")
        if re.search(rf"\b{name}\b", _template_text(tokenizer)) is None:
            raise ModelError(
                f"the model's chat template has no variable {name}: leave the template option out."
            )
        variables[name] = _value(value)
    return variables


def _value(text: str) -> Any:
    """true, false, a number or other JSON as what it means; anything else as text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _template_text(tokenizer: Any) -> str:
    template = getattr(tokenizer, "chat_template", None) or ""
    return "\n".join(template.values()) if isinstance(template, dict) else str(template)


def _render(
    tokenizer: Any,
    content: str,
    fmt: PromptFormat,
    variables: Mapping[str, Any],
    *,
    add_generation_prompt: bool = True,
) -> str:
    """The template's text up to where the completion begins."""
    messages = [{"role": "user", "content": content}]
    if fmt.system_prompt is not None:
        messages.insert(0, {"role": "system", "content": fmt.system_prompt})
    return _render_messages(tokenizer, messages, variables, fmt.written_on, add_generation_prompt)


def _render_messages(
    tokenizer: Any,
    messages: Sequence[Mapping[str, str]],
    variables: Mapping[str, Any],
    written_on: str | None,
    add_generation_prompt: bool = True,
) -> str:
    # Jinja comes with transformers wherever a chat template can be rendered; imported here because it is slow.
    from jinja2 import TemplateError

    try:
        text: str = tokenizer.apply_chat_template(
            list(messages),
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            **variables,
            **time_options(tokenizer, written_on),
        )
    except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
        raise ModelError(f"the model's chat template rejects the prompt: {error}") from error
    return text
