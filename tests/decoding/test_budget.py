"""The think budget, token by token: what is forced, replaced, counted, and where it stops."""

import itertools
from dataclasses import replace

import pytest
import torch

from pts.decoding.budget import BudgetGuide
from pts.decoding.limits import TokenLimits
from pts.decoding.think_format import ThinkFormat
from pts.errors import ConfigError
from pts.policies.transformers.wishes import grant, wishes_of

WORD, EOS, OTHER_EOS = 0, 1, 2
START, END, WAIT, ALSO = 3, 4, 5, 6
START_2, END_2, GO_ON, STOP = 7, 8, 9, 10
VOCABULARY = 12
SINGLE = ThinkFormat((START,), (END,), (END,), ((WAIT,),), ((WAIT,), (ALSO,)))
PAIRS = ThinkFormat(
    (START, START_2), (END, END_2), (START, START_2, WORD, END, END_2), ((WAIT, GO_ON),), ((WAIT, GO_ON),)
)
FORMATS = pytest.mark.parametrize("think", [SINGLE, PAIRS], ids=["one token", "two tokens"])


def budget_of(limits, think=SINGLE, *, opened=True, ends=(EOS, OTHER_EOS), seed=0):
    return BudgetGuide(limits, think, opened=opened, end_token_ids=ends, seed=seed)


def granted(budget, logits):
    """The token that stands in the place of a banned one, after the logits were changed; -1 for none."""
    return int(grant(logits[None], wishes_of([budget]))[0])


def drawn(budget, wanted):
    """The likeliest token where the model wants one, and whether it stands in the place of a banned one."""
    logits = torch.zeros(VOCABULARY)
    logits[wanted] = 5.0
    moved = granted(budget, logits)
    token = int(logits.argmax())
    return token, token == moved


def written(budget, wanted):
    """What a model that wants these tokens writes under the budget, until something ends it.

    At each step the wanted token has the highest logit; where a token is put in, the model's own waits.
    """
    made = []
    wanted = list(wanted)
    while wanted and budget.stopped is None:
        token, moved = drawn(budget, wanted[0])
        made.append(token)
        put_in = len(budget.injected)
        budget.advance(token, moved)
        if len(budget.injected) == put_in or token == WAIT:
            wanted.pop(0)
        if token in (EOS, OTHER_EOS):
            break
    return made


@FORMATS
def test_the_limit_counts_the_end_sequence_and_forces_it(think):
    budget = budget_of(TokenLimits(thinking=6), think)
    made = written(budget, [WORD] * 8)
    size = len(think.end)
    assert made[:6] == [WORD] * (6 - size) + list(think.end)
    assert budget.thinking == 6
    assert budget.injected == tuple(range(6 - size, 6))
    assert budget.phase == "done"
    assert budget.answer == len(made) - 6 > 0


@FORMATS
def test_a_limit_of_just_the_end_sequence_leaves_no_room_for_a_thought(think):
    budget = budget_of(TokenLimits(thinking=len(think.end)), think)
    assert written(budget, [WORD] * 2)[: len(think.end)] == list(think.end)
    assert budget.thinking == len(think.end)


@FORMATS
def test_the_start_sequence_counts_where_the_prompt_does_not_hold_it(think):
    budget = budget_of(TokenLimits(thinking=7), think, opened=False)
    made = written(budget, [WORD, *think.start, *[WORD] * 9])
    assert budget.phase == "done"
    assert budget.thinking == 7
    assert budget.total == len(made)
    assert budget.answer == len(made) - 7, "the word before thinking is no part of it"


def test_an_end_that_is_partly_written_is_completed_not_repeated():
    budget = budget_of(TokenLimits(thinking=5), PAIRS)
    assert written(budget, [WORD, WORD, END, WORD, WORD])[:4] == [WORD, WORD, END, END_2]
    assert budget.thinking == 4
    assert budget.injected == (3,)
    half = budget_of(TokenLimits(), PAIRS)
    written(half, [WORD, END])
    closing = half.end_thinking()
    assert written(closing, [WORD]) == [END_2, WORD]
    assert closing.injected == (2,)


@FORMATS
def test_before_the_minimum_an_end_becomes_a_continuation(think):
    budget = budget_of(TokenLimits(least_thinking=8), think)
    made = written(budget, [WORD, WORD, *think.end, *[WORD] * 6, *think.end, WORD])
    first = made.index(think.continuations[0][0])
    assert made[first : first + len(think.continuations[0])] == list(think.continuations[0])
    assert budget.injected == tuple(range(first, first + len(think.continuations[0])))
    assert budget.thinking >= 8
    assert budget.phase == "done"
    assert made.count(think.end[-1]) == 1


@pytest.mark.parametrize("end", [EOS, OTHER_EOS])
def test_before_the_minimum_an_end_token_becomes_a_continuation_too(end):
    budget = budget_of(TokenLimits(least_thinking=4))
    assert written(budget, [WORD, end, WORD, WORD, END, end]) == [WORD, WAIT, WORD, WORD, END, end]
    assert budget.injected == (1,)


def test_a_continuation_that_the_model_writes_itself_is_not_injected():
    budget = budget_of(TokenLimits(least_thinking=4))
    assert written(budget, [WORD, WAIT, WORD, WORD, END]) == [WORD, WAIT, WORD, WORD, END]
    assert budget.injected == ()
    assert budget.switches == 1


def test_the_continuation_is_chosen_by_the_seed():
    think = ThinkFormat((START,), (END,), (END,), ((WAIT,), (ALSO,)), ())
    wanted = [WORD, *[END] * 6]

    def chosen(seed):
        return tuple(forced(budget_of(TokenLimits(least_thinking=7), think, seed=seed), wanted))

    def forced(budget, tokens):
        for token in tokens:
            token, moved = drawn(budget, token)
            budget.advance(token, moved)
            yield token

    assert chosen(3) == chosen(3)
    assert len({chosen(seed) for seed in range(20)}) > 3
    assert {token for seed in range(20) for token in chosen(seed)[1:]} == {WAIT, ALSO}


def test_the_continuation_is_as_likely_as_the_end_was():
    budget = budget_of(TokenLimits(least_thinking=4))
    logits = torch.zeros(VOCABULARY)
    logits[END] = 3.0
    assert granted(budget, logits) == WAIT
    assert logits[WAIT] == 3.0
    assert torch.isinf(logits[[END, EOS, OTHER_EOS]]).all()


def test_the_end_is_forced_at_one_switch_too_many():
    budget = budget_of(TokenLimits(switches=1))
    assert written(budget, [WORD, WAIT, WORD, ALSO, WORD]) == [WORD, WAIT, WORD, ALSO, END, WORD]
    assert budget.switches == 2
    assert budget.injected == (4,)


def test_no_switch_is_allowed_at_a_limit_of_0():
    budget = budget_of(TokenLimits(switches=0), PAIRS)
    assert written(budget, [WAIT, GO_ON, WORD])[:4] == [WAIT, GO_ON, END, END_2]


def test_the_answer_and_the_total_have_limits():
    budget = budget_of(TokenLimits(answer=3))
    assert written(budget, [WORD, END, *[WORD] * 9]) == [WORD, END, WORD, WORD, WORD]
    assert budget.stopped == "answer limit"
    budget = budget_of(TokenLimits(answer=3, total=4))
    assert written(budget, [WORD, END, *[WORD] * 9]) == [WORD, END, WORD, WORD]
    assert budget.stopped == "total limit"


@pytest.mark.parametrize("end", [EOS, OTHER_EOS])
def test_an_end_token_at_the_limit_is_the_end_not_the_limit(end):
    budget = budget_of(TokenLimits(total=3))
    assert written(budget, [WORD, END, end]) == [WORD, END, end]
    assert budget.stopped is None


def test_thinking_that_begins_again_counts_on():
    budget = budget_of(TokenLimits(thinking=6))
    made = written(budget, [WORD, END, WORD, START, WORD, WORD, WORD, WORD, WORD])
    assert made[:7] == [WORD, END, WORD, START, WORD, WORD, END]
    assert budget.thinking == 6
    assert budget.injected == (6,)


@FORMATS
def test_no_thinking_is_the_empty_form(think):
    budget = budget_of(TokenLimits(thinking=0), think)
    made = written(budget, [WORD, WORD])
    assert tuple(made) == (*think.empty, WORD, WORD)
    assert budget.injected == tuple(range(len(think.empty)))
    assert budget.thinking == len(think.empty)
    assert budget.answer == 2


def test_tokens_of_the_empty_form_after_the_end_are_put_in_too():
    """Qwen3's empty thinking has an empty line after its end."""
    think = ThinkFormat((START,), (END,), (START, WORD, END, WORD), (), ())
    budget = budget_of(TokenLimits(thinking=0), think, opened=False)
    assert written(budget, [ALSO]) == [START, WORD, END, WORD, ALSO]
    assert budget.injected == (0, 1, 2, 3)
    assert (budget.thinking, budget.answer) == (3, 2)


def test_a_fork_goes_its_own_way():
    budget = budget_of(TokenLimits(thinking=6), PAIRS)
    written(budget, [WORD, WORD])
    other = budget.fork()
    assert written(other, [WORD] * 4)[:4] == [WORD, WORD, END, END_2]
    assert budget.thinking == 2
    assert budget.injected == ()
    assert written(budget, [END, END_2]) == [END, END_2]
    assert budget.injected == ()


def test_it_goes_on_under_other_limits():
    budget = budget_of(TokenLimits(total=2))
    written(budget, [WORD] * 2)
    assert budget.stopped == "total limit"
    more = budget.continued(TokenLimits(thinking=4, total=6))
    assert written(more, [WORD] * 9) == [WORD, END, WORD, WORD]
    assert budget.stopped == "total limit"
    assert (more.thinking, more.answer, more.stopped) == (4, 2, "total limit")


def test_thinking_is_ended_by_force_only_where_it_is_open():
    budget = budget_of(TokenLimits())
    written(budget, [WORD, END, WORD])
    assert not budget.end_thinking().wish()
    assert budget_of(TokenLimits(), opened=False).end_thinking().phase == "idle"


def test_it_pauses_where_a_thought_turns():
    budget = budget_of(TokenLimits(pause=True), PAIRS)
    assert written(budget, [WORD, WAIT, WORD, WAIT, GO_ON, WORD]) == [WORD, WAIT, WORD, WAIT, GO_ON]
    assert budget.stopped == "pause"
    assert written(budget.continued(TokenLimits()), [WORD, END, END_2]) == [WORD, END, END_2]


def test_it_pauses_at_the_first_sentence_end_after_so_many_tokens():
    think = replace(SINGLE, sentence_ends=frozenset({STOP}))
    budget = budget_of(TokenLimits(pause=True, pause_after=3), think, ends=(EOS,))
    stop = STOP
    assert written(budget, [WORD, stop, WORD, WORD, stop, WORD]) == [WORD, stop, WORD, WORD, stop]
    assert budget.stopped == "pause"
    more = budget.continued(TokenLimits(pause=True, pause_after=3))
    assert written(more, [stop, WORD, stop, WORD]) == [stop, WORD, stop]
    assert more.stopped == "pause"
    answering = budget.continued(TokenLimits(pause=True, pause_after=3))
    assert written(answering, [END, *[stop] * 5]) == [END, *[stop] * 5], "an answer is not interrupted"


@FORMATS
def test_a_turn_is_taken_back_with_its_word(think):
    budget = budget_of(TokenLimits(pause=True), think)
    word = think.switches[0]
    written(budget, [ALSO + 4, *word])
    before, size = budget.before_turn()
    assert size == len(word)
    assert (before.total, before.switches, before.stopped) == (1, 0, None)
    assert budget.total == 1 + size, "it is a copy"
    closing = before.end_thinking((WORD, WORD))
    assert written(closing, [EOS]) == [*think.end, WORD, WORD, EOS]
    assert closing.injected == tuple(range(1, 3 + len(think.end)))
    same, none = before.before_turn()
    assert (same.total, none) == (1, 0)


def occurrences(made, sequence):
    return sum(tuple(made[at : at + len(sequence)]) == sequence for at in range(len(made)))


@FORMATS
@pytest.mark.parametrize("opened", [True, False])
@pytest.mark.parametrize(
    "limits", [TokenLimits(thinking=4), TokenLimits(thinking=5, total=6), TokenLimits(total=4, switches=0)]
)
def test_every_short_completion_keeps_its_counts(think, opened, limits):
    """All sequences that a model may want, over every token that means something."""
    tokens = (WORD, EOS, START, START_2, END, END_2, WAIT)
    for wanted in itertools.product(tokens, repeat=4):
        budget = budget_of(limits, think, opened=opened)
        made = written(budget, [*wanted, WORD, WORD])
        assert budget.total == len(made) == budget.thinking + budget.answer
        assert len(set(budget.injected)) == len(budget.injected)
        assert all(at < len(made) for at in budget.injected)
        thinking, _ = think.split(tuple(made), opened)
        starts, ends = occurrences(made, think.start), occurrences(made, think.end)
        if not starts and limits.thinking is not None:
            assert budget.thinking <= limits.thinking
        if opened and not starts and ends == 1:
            assert budget.thinking == len(thinking)
        if limits.total is not None:
            assert len(made) <= limits.total


def test_what_cannot_be_kept_is_refused():
    with pytest.raises(ConfigError, match="think tags"):
        BudgetGuide(TokenLimits(thinking=4))
    with pytest.raises(ConfigError, match="continuation"):
        BudgetGuide(TokenLimits(least_thinking=4), ThinkFormat((3,), (4,), (4,), (), ()))


def test_a_model_without_tags_has_an_answer_and_a_total():
    budget = BudgetGuide(TokenLimits(total=3), end_token_ids=(EOS,))
    assert written(budget, [WORD] * 5) == [WORD] * 3
    assert (budget.thinking, budget.answer, budget.stopped) == (0, 3, "total limit")
