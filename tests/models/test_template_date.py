"""A chat template that writes the date has the run's day, and else writes what transformers would."""

import datetime

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

from pts.errors import ModelError
from pts.models.prompt import (
    PromptFormat,
    encode_messages,
    encode_prompt,
    prompt_digest,
    settled_format,
)
from pts.models.template_date import template_time, time_options

BODY = (
    "{% for m in messages %}\n  <{{ m.role }}>{{ m.content }}\n{% endfor %}\n"
    "{% if add_generation_prompt %}:{% endif %}"
)
TEMPLATES = {
    "plain": "Today is {{ strftime_now('%d %b %Y') }}." + BODY,
    "llama": "\n{%- if not date_string is defined %}{%- if strftime_now is defined %}"
    "{%- set date_string = strftime_now(\"%d %b %Y\") %}{%- else %}{%- set date_string = '26 Jul 2024' %}"
    "{%- endif %}{%- endif %}Today: {{ date_string }}" + BODY,
    "smollm": "{%- set today = strftime_now('%B %-d, %Y') -%}{{- 'Date: ' ~ today ~ '\\n' -}}" + BODY,
    "gpt-oss": "{%- macro build() %}{{- 'Current date: ' + strftime_now('%Y-%m-%d') + '\\n' }}{%- endmacro %}"
    "{{ build() }}" + BODY,
    "of a variable": "{%- set form = '%A, %d/%m 100%% %H:%M:%S ' -%}[{{ strftime_now(format=form) | upper }}]"
    + BODY,
    "leading break": "\n\n  {{ strftime_now('%y') }}" + BODY,
    "leading block": "  {% if true %}\n{{ strftime_now('%j %p %I') }}\n  {% endif %}\n" + BODY,
}


def tokenizer(template):
    letters = sorted({chr(code) for code in range(32, 127)} | {"\n"})
    core = Tokenizer(models.WordLevel({letter: at for at, letter in enumerate(letters)}, unk_token=" "))
    core.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    core.decoder = decoders.Fuse()
    made = PreTrainedTokenizerFast(tokenizer_object=core)
    made.chat_template = template
    return made


class Day(datetime.datetime):
    """The clock that transformers reads, for a test to set."""

    moment = datetime.datetime(2026, 3, 7, 9, 5, 3)

    @classmethod
    def now(cls, tz=None):
        return cls.moment


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setattr(chat_template_utils, "datetime", Day)
    monkeypatch.setattr(Day, "moment", Day.moment)
    return Day


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_a_settled_prompt_is_what_transformers_writes_that_day_and_stays_it(template, clock):
    made = tokenizer(template)
    messages = [{"role": "user", "content": "What is 2 + 5?"}]
    own = made.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    fmt = settled_format(made, PromptFormat())
    assert fmt.written_on == "2026-03-07T09:05:03"
    clock.moment = datetime.datetime(2027, 11, 28, 23, 59, 59)
    assert made.decode(encode_prompt(made, "What is 2 + 5?", fmt)) == own
    assert encode_messages(made, messages, fmt) == encode_prompt(made, "What is 2 + 5?", fmt)
    later = made.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert made.decode(encode_prompt(made, "What is 2 + 5?", PromptFormat())) == later != own


def test_a_template_without_a_date_is_left_alone(clock):
    made = tokenizer(BODY)
    fmt = settled_format(made, PromptFormat())
    assert fmt == PromptFormat()
    assert template_time(made) is None
    assert time_options(made, "2026-03-07") == {}


def test_templates_by_name_have_the_date_of_the_default_one(clock):
    made = tokenizer({"default": TEMPLATES["plain"], "tool_use": BODY})
    fmt = settled_format(made, PromptFormat())
    assert "07 Mar 2026" in made.decode(encode_prompt(made, "?", fmt))


def test_a_digest_tells_days_templates_and_formats_apart(clock):
    made = tokenizer(TEMPLATES["plain"])
    first = settled_format(made, PromptFormat())
    clock.moment = datetime.datetime(2026, 3, 8)
    second = settled_format(made, PromptFormat())
    digests = {
        prompt_digest(made, fmt)
        for fmt in (first, second, PromptFormat(suffix="!", written_on=first.written_on))
    }
    digests.add(prompt_digest(tokenizer(TEMPLATES["smollm"]), first))
    assert len(digests) == 4
    assert prompt_digest(made, first) == prompt_digest(made, PromptFormat(written_on=first.written_on))


@pytest.mark.parametrize("random", ["{{ ['a', 'b', 'c'] | random }}", "{{ lipsum(1) }}"])
def test_a_template_that_writes_something_else_each_time_is_refused(random):
    with pytest.raises(ModelError, match="a different prompt each time"):
        prompt_digest(tokenizer(random + BODY), PromptFormat())


def test_what_is_no_date_is_refused():
    with pytest.raises(ModelError, match="'yesterday' is not a date"):
        encode_prompt(tokenizer(TEMPLATES["plain"]), "?", PromptFormat(written_on="yesterday"))
