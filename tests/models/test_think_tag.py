"""Think tags that are no token of their own, and what of a prompt opens thinking."""

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from pts.decoding.budget import BudgetGuide
from pts.decoding.limits import TokenLimits
from pts.decoding.think_format import find_think_format
from pts.errors import ModelError
from pts.graders import make_grader
from pts.models.prompt import PromptFormat, encode_messages, encode_prompt
from pts.models.think_tag import TextTag, last_end, make_tag

TURNS = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
PLAIN = TURNS + "{% if add_generation_prompt %}<|assistant|>{% endif %}"
OPENING = "{# up to </think> #}" + TURNS + "{% if add_generation_prompt %}<|assistant|><think>\n{% endif %}"
ALWAYS = "{# up to </think> #}" + TURNS + "<|assistant|><think>\n"
# As DeepSeek V3.1: the switch is named thinking, and without it the prompt itself closes the thinking.
DEEPSEEK = (
    TURNS + "{% if add_generation_prompt %}<|assistant|>"
    "{% if thinking is defined and thinking %}<think>{% else %}</think>{% endif %}{% endif %}"
)
EFFORT = (
    "{# [THINK] [/THINK] #}"
    + TURNS
    + "{% if reasoning_effort is defined and reasoning_effort == 'none' %}[NONE]"
    "{% else %}[HIGH]{% endif %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
GPT_OSS = (
    "<|system|>Reasoning: {{ reasoning_effort or 'medium' }}<|end|>{# <|channel|>analysis<|message|> #}" + PLAIN
)
TEXTS = [
    "<think>\nWait, let me add. 2 + 5 = 7.\n</think>\n\nThe answer is 7.",
    "What is 2 + 5 ? ◁think▷ it is ◁/think▷",
] * 100


def bpe(template=PLAIN, added=(), vocabulary=420):
    """Byte-level BPE that splits as Qwen's does: a mark and the line break after it become one token."""
    core = Tokenizer(models.BPE())
    pattern = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<|end|>", "<|user|>", "<|assistant|>", "<|system|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(TEXTS, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|end|>", pad_token="<|end|>")
    if added:
        tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in added])
    tokenizer.chat_template = template
    return tokenizer


def ids(tokenizer, text):
    return tuple(tokenizer.encode(text, add_special_tokens=False))


@pytest.mark.parametrize("vocabulary", [270, 300, 420, 600])
@pytest.mark.parametrize("after", ["\n\nSo 7.", "So 7.", " So 7.", "\n", ""])
@pytest.mark.parametrize("end", ["</think>", "◁/think▷"])
def test_a_tag_ends_where_its_text_does_however_it_is_written(vocabulary, after, end):
    tokenizer = bpe(vocabulary=vocabulary)
    tag = make_tag(tokenizer, end, ids(tokenizer, end))
    assert isinstance(tag, TextTag)
    written = ids(tokenizer, f"It is 2 < 5 > 1 and </ think.{end}{after}")
    cut = last_end(tag, written)
    assert end in tokenizer.decode(list(written[:cut]))
    assert end not in tokenizer.decode(list(written[: cut - 1]))
    ended = [at for at in range(1, len(written) + 1) if tag.completed_by(written[:at])]
    assert ended == [cut]
    assert end in tokenizer.decode(list(written[cut - tag.completed_by(written[:cut]) : cut]))


def test_every_token_that_would_complete_a_tag_is_known():
    tokenizer = bpe(vocabulary=600)
    tag = make_tag(tokenizer, "</think>", ids(tokenizer, "</think>"))
    vocabulary = range(len(tokenizer))
    for text in ("7.\n</think", "7.\n</", "7.\n", "a < b", "</think> </thin"):
        tail = ids(tokenizer, text)
        completing = {token for token in vocabulary if tag.completed_by((*tail, token))}
        assert set(tag.completing(tail)) == completing, text
    assert len(tag.completing(ids(tokenizer, "7.\n</think"))) > 1


def test_an_added_tag_is_its_token_and_no_text():
    tokenizer = bpe(added=("<think>", "</think>"))
    tag = make_tag(tokenizer, "</think>", ids(tokenizer, "</think>"))
    assert last_end(tag, ids(tokenizer, "a</think>b")) == 1 + len(ids(tokenizer, "a"))
    assert tag.completing(()) == ids(tokenizer, "</think>")


def test_budgets_see_a_tag_that_merges_with_what_follows():
    tokenizer = bpe(OPENING)
    think = find_think_format(tokenizer, PromptFormat())
    prompt = encode_prompt(tokenizer, "What is 2 + 5?", PromptFormat())
    assert think.is_open(prompt)
    budget = BudgetGuide(TokenLimits(thinking=60), think, opened=True, end_token_ids=(0,))
    written = ids(tokenizer, "2 + 5 = 7.\n</think>\n\nThe answer is 7.")
    for token in written:
        budget.advance(token)
    thinking, answer = think.split(written, True)
    assert (budget.phase, budget.thinking, budget.answer) == ("done", len(thinking), len(answer))
    assert tokenizer.decode(list(answer)).strip() == "The answer is 7."


def test_a_model_that_opens_thinking_itself_is_counted_from_its_tag_on():
    tokenizer = bpe("{# <think> </think> #}" + PLAIN)
    think = find_think_format(tokenizer, PromptFormat())
    budget = BudgetGuide(TokenLimits(thinking=60), think, end_token_ids=(0,))
    written = ids(tokenizer, "<think>\n2 + 5 = 7.\n</think>\n\nThe answer is 7.")
    for token in written:
        budget.advance(token)
    thinking, answer = think.split(written, False)
    assert (budget.phase, budget.thinking, budget.answer) == ("done", len(thinking), len(answer))
    assert think.split(ids(tokenizer, "<think>\n2 + 5"), False)[1] == ()


@pytest.mark.parametrize("template", [PLAIN, OPENING, ALWAYS])
@pytest.mark.parametrize("added", [(), ("<think>", "</think>")])
@pytest.mark.parametrize(
    "question",
    ["2 + 5?", "What does <think> mean?", "Begin with <think>", "<think>", "Write </think> twice.", "</think>"],
)
def test_only_the_assistants_turn_opens_thinking(template, added, question):
    tokenizer = bpe("{# <think> </think> #}" + template, added)
    think = find_think_format(tokenizer, PromptFormat())
    opens = template != PLAIN
    assert think.is_open(encode_prompt(tokenizer, question, PromptFormat())) is opens
    assert think.is_open(encode_prompt(tokenizer, question, PromptFormat(suffix="Use <think>."))) is opens
    turns = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "<think>"},
        {"role": "user", "content": question},
    ]
    assert think.is_open(encode_messages(tokenizer, turns, PromptFormat())) is opens


def test_a_plain_prompt_opens_thinking_by_a_tag_at_its_very_end():
    tokenizer = bpe("{# <think> </think> #}" + PLAIN)
    plain = PromptFormat(chat_template=False)
    think = find_think_format(tokenizer, plain)
    assert think.is_open(encode_prompt(tokenizer, "2 + 5? <think>\n", plain))
    assert not think.is_open(encode_prompt(tokenizer, "Begin with <think>. 2 + 5?", plain))


def test_a_template_that_closes_the_thinking_itself_needs_nothing_for_none():
    tokenizer = bpe(DEEPSEEK, ("<think>", "</think>"))
    think = find_think_format(tokenizer, PromptFormat())
    assert think.empty == ()
    assert not think.is_open(encode_prompt(tokenizer, "?", PromptFormat()))
    assert think.is_open(encode_prompt(tokenizer, "?", PromptFormat(thinking=True)))
    assert BudgetGuide(TokenLimits(thinking=0), think).phase == "done"


@pytest.mark.parametrize(
    ("template", "switch", "on", "off"),
    [
        (DEEPSEEK, None, "<think>", "</think>"),
        (EFFORT, None, "[HIGH]<|assistant|>", "[NONE]<|assistant|>"),
        (EFFORT, "reasoning_effort", "[HIGH]<|assistant|>", "[NONE]<|assistant|>"),
        (GPT_OSS, "reasoning_effort=high,low", "Reasoning: high", "Reasoning: low"),
        (PLAIN + "{% if deep %}[DEEP]{% endif %}", "deep", "[DEEP]", "<|assistant|>"),
    ],
)
def test_templates_name_their_switch_as_they_like(template, switch, on, off):
    tokenizer = bpe(template, ("<think>", "</think>"))
    for thinking, said in ((True, on), (False, off)):
        fmt = PromptFormat(thinking=thinking, thinking_switch=switch)
        assert said in tokenizer.decode(list(encode_prompt(tokenizer, "2 + 5?", fmt)))
        messages = [{"role": "user", "content": "2 + 5?"}]
        assert encode_messages(tokenizer, messages, fmt) == encode_prompt(tokenizer, "2 + 5?", fmt)


@pytest.mark.parametrize(
    ("template", "fmt", "said"),
    [
        (
            PLAIN,
            PromptFormat(thinking=False),
            "none of the switches enable_thinking, thinking,",
        ),
        # gpt-oss writes any effort out; it was never taught "none".
        (GPT_OSS, PromptFormat(thinking=False), "thinking_switch="),
        (PLAIN, PromptFormat(thinking=True, thinking_switch="deep"), "changes nothing"),
        (PLAIN, PromptFormat(thinking_switch="deep"), "changes nothing"),
        (EFFORT, PromptFormat(thinking=True, thinking_switch="reasoning_effort=high"), "two values"),
        (PLAIN, PromptFormat(template_options=("reasoning_effort=low",)), "has no variable reasoning_effort"),
        (GPT_OSS, PromptFormat(template_options=("low",)), "not NAME=VALUE"),
    ],
)
def test_what_a_template_does_not_know_is_refused(template, fmt, said):
    tokenizer = bpe(template)
    for encode in (
        lambda: encode_prompt(tokenizer, "2 + 5?", fmt),
        lambda: encode_messages(tokenizer, [{"role": "user", "content": "2 + 5?"}], fmt),
    ):
        with pytest.raises(ModelError, match=said):
            encode()


def test_other_variables_of_a_template_are_set():
    tokenizer = bpe(GPT_OSS)
    fmt = PromptFormat(template_options=("reasoning_effort=low",))
    assert "Reasoning: low" in tokenizer.decode(list(encode_prompt(tokenizer, "2 + 5?", fmt)))


def test_the_channels_of_gpt_oss():
    marks = ("<|start|>", "<|channel|>", "<|message|>", "<|return|>")
    tokenizer = bpe(GPT_OSS, marks)
    think = find_think_format(tokenizer, PromptFormat())
    said = (
        "<|channel|>analysis<|message|>2 + 5 = 8? No.<|end|><|start|>assistant<|channel|>analysis<|message|>"
        "It is 7.<|end|><|start|>assistant<|channel|>final<|message|>seven<|return|>"
    )
    written = ids(tokenizer, said)
    thinking, answer = think.split(written, think.is_open(encode_prompt(tokenizer, "?", PromptFormat())))
    assert tokenizer.decode(list(thinking)).endswith("It is 7.<|end|>")
    assert tokenizer.decode(list(answer)).startswith("<|start|>assistant<|channel|>final")
    budget = BudgetGuide(TokenLimits(thinking=99), think, end_token_ids=ids(tokenizer, "<|return|>"))
    for token in written:
        budget.advance(token)
    assert budget.phase == "done"
    grader = make_grader("exact", think_end="<|end|>", think_required=True)
    assert grader(said.removesuffix("<|return|>"), "seven")
    assert not grader("<|channel|>analysis<|message|>seven", "seven")


@pytest.mark.parametrize(
    "tags", [("◁think▷", "◁/think▷"), ("<thought>", "</thought>"), ("<longcat_think>", "</longcat_think>")]
)
def test_tags_in_use_are_known_by_the_template(tags):
    found = find_think_format(bpe("{# %s %s #}" % tags + PLAIN), PromptFormat())  # noqa: UP031
    assert found is not None
    assert (found.start_tag.text, found.end_tag.text) == tags


def test_a_template_that_rejects_a_value_has_no_such_switch():
    picky = (
        "{% if reasoning_effort is defined and reasoning_effort not in ['low', 'high'] %}"
        "{{ raise_exception('bad effort') }}{% endif %}{# <think> </think> 'none' #}" + PLAIN
    )
    assert find_think_format(bpe(picky), PromptFormat()) is not None
    with pytest.raises(ModelError, match="none of the switches"):
        encode_prompt(bpe(picky), "q", PromptFormat(thinking=False))


def test_a_template_that_fails_is_one_line():
    with pytest.raises(ModelError, match="template rejects the prompt"):
        encode_prompt(bpe(PLAIN + "{{ 'a' + 1 }}"), "q", PromptFormat())


def test_the_switch_of_cohere():
    template = PLAIN + "{% if reasoning is defined and not reasoning %}<think></think>{% endif %}"
    tokenizer = bpe(template)
    assert tokenizer.decode(encode_prompt(tokenizer, "q", PromptFormat(thinking=False))).endswith("</think>")
