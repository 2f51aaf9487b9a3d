"""Chat templates that write today's date: the day of a prompt is a setting, and not the day of the call."""

from __future__ import annotations

import string
from datetime import datetime
from functools import lru_cache
from typing import Any

from pts.errors import ModelError

_CALL = "strftime_now"
"""The function by which chat templates ask for the time (transformers, "Writing a chat template")."""
_DATA = "written_on_"
_FORMAT = "%Y-%m-%dT%H:%M:%S"
_FLAGS = ("", "-", "_", "0", "^", "#")
_FIXED_CALL = """{%- macro strftime_now(format) -%}
{%- set at = namespace(code='') -%}
{%- for character in format -%}
{%- if at.code and character in '-_0^#' -%}
{%- set at.code = at.code ~ character -%}
{%- elif at.code -%}
{{- written_on_[at.code ~ character] -}}
{%- set at.code = '' -%}
{%- elif character == '%' -%}
{%- set at.code = '%' -%}
{%- else -%}
{{- character -}}
{%- endif -%}
{%- endfor -%}
{%- endmacro %}
"""
"""`strftime_now` by a table of the codes' texts, for the beginning of a template.

transformers lets no function into a template, only data. The last line break belongs to the block before it, as
its `trim_blocks` has it, so that what follows is rendered as it would be alone.
"""


def writes_date(tokenizer: Any) -> bool:
    """Whether the tokenizer's chat template asks for the time."""
    template = getattr(tokenizer, "chat_template", None) or ""
    texts = template.values() if isinstance(template, dict) else [template]
    return any(_CALL in text for text in texts)


def template_time(tokenizer: Any) -> str | None:
    """The local time, in ISO 8601, that a chat template would be given now; None where it does not ask."""
    if not writes_date(tokenizer):
        return None
    messages = [{"role": "user", "content": ""}]
    asked = f"{{{{ {_CALL}('{_FORMAT}') }}}}"
    text: str = tokenizer.apply_chat_template(messages, tokenize=False, chat_template=asked)
    return text


def time_options(tokenizer: Any, written_on: str | None) -> dict[str, Any]:
    """What `apply_chat_template` is given, too, so that the template has `written_on` for the time.

    Nothing where that is None or the template does not ask. Raises ModelError for what is no time.
    """
    if written_on is None or not writes_date(tokenizer):
        return {}
    return {"chat_template": _FIXED_CALL + tokenizer.get_chat_template(), _DATA: _codes(written_on)}


@lru_cache(maxsize=4)
def _codes(written_on: str) -> dict[str, str]:
    """The text of every code of `strftime`, with its flags, at a time."""
    try:
        moment = datetime.fromisoformat(written_on)
    except ValueError as error:
        raise ModelError(f"the prompts' date {written_on!r} is not a date: write it as 2026-03-01.") from error
    codes = [f"%{flag}{letter}" for flag in _FLAGS for letter in (*string.ascii_letters, "%")]
    return {code: moment.strftime(code) for code in codes}
