"""How answers with and without thinking begin, for chat templates of different kinds."""

import pytest

from pts.errors import ConfigError, ModelError
from pts.models.options import ModelOptions
from pts.models.prompt import PromptFormat
from pts.models.tokenizer import load_tokenizer
from pts.training.modes import find_modes

THINK, END, FIRST = 4, 5, "First"
TURN = (
    "{%- for message in messages %}{{- '<|im_start|> ' + message['role'] + ' ' + message['content'] + ' ' }}"
    "{%- endfor %}"
)


@pytest.fixture
def tokenizer():
    return load_tokenizer(ModelOptions("demo"))


def with_turn(tokenizer, turn):
    tokenizer.chat_template = (
        TURN + "{%- if add_generation_prompt %}{{- '<|im_start|> assistant " + turn + "' }}{%- endif %}"
    )
    return tokenizer


def test_a_prompt_that_opens_thinking_leaves_the_choice_to_the_first_token(tokenizer):
    modes = find_modes(tokenizer, PromptFormat())
    assert (modes.lead, modes.no_thinking, modes.opener, modes.opened) == ((), (END,), (), True)
    assert modes.thinks((17, END))
    assert not modes.thinks((END, 17))
    assert modes.split((17, 18, END, 19)) == ((17, 18, END), (19,))
    # Thinking that never ends has no answer.
    assert modes.split((17, 18)) == ((17, 18), ())


def test_a_prompt_that_opens_nothing_is_led_up_to_the_choice(tokenizer):
    modes = find_modes(with_turn(tokenizer, ""), PromptFormat())
    assert (modes.lead, modes.no_thinking, modes.opened) == ((THINK,), (END,), True)
    assert modes.split((17, END, 19)) == ((17, END), (19,))


def test_a_template_whose_modes_cannot_be_told_apart_is_refused(tokenizer):
    with pytest.raises(ModelError, match="begin alike"):
        find_modes(with_turn(tokenizer, "<think> </think>"), PromptFormat())


def test_a_model_without_a_way_to_think_is_refused():
    plain = load_tokenizer(ModelOptions("demo"))
    plain.chat_template = TURN
    plain.get_added_vocab = dict
    with pytest.raises(ModelError, match="AdaptThink needs a model that thinks: no think tags"):
        find_modes(plain, PromptFormat(), required_by="AdaptThink")


def test_an_opener_is_written_with_the_vocabulary_and_begins_otherwise(tokenizer):
    assert find_modes(tokenizer, PromptFormat(), opener=FIRST).opener == tuple(tokenizer.encode(FIRST))
    with pytest.raises(ConfigError, match="cannot be written"):
        find_modes(tokenizer, PromptFormat(), opener="Alright")
    with pytest.raises(ConfigError, match="begins as an answer without thinking does"):
        find_modes(tokenizer, PromptFormat(), opener="</think>")
