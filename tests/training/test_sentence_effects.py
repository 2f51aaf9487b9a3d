"""Which sentences of a search's completions go, and which of short and long ones a step learns."""

import pytest

from pts.graders import make_grader
from pts.models.load import load_model
from pts.models.options import ModelOptions
from pts.models.prompt import PromptFormat
from pts.pivot_search.results import Candidate, ProblemResult, SearchedTrace, TokenDetails
from pts.policies import policy_of
from pts.records import Problem, Sampling
from pts.training.fit import Order
from pts.training.mixing import Progressive
from pts.training.modes import find_modes
from pts.training.samples import Asker
from pts.training.sentence_effects import (
    searched_solution,
    sentence_effects,
    shorten_thoughts,
    thoughts_of,
    without,
)

PROBLEM = Problem("p", "What is 17 + 7 + 2 ?", "26")
STEPS = ("First , 17 + 7 = 24 .", "Alternatively , 17 + 10 - 3 = 24 .", "Finally , 24 + 2 = 26 .")
ANSWER = "The answer is 26 . <|im_end|>"


@pytest.fixture(scope="module")
def demo():
    loaded = load_model(ModelOptions("demo", dtype="float32"))
    modes = find_modes(loaded.tokenizer, PromptFormat())
    policy = policy_of(loaded, PromptFormat())
    return loaded.tokenizer, modes, policy, Asker(modes, Sampling(budget=96), 24, make_grader("demo"))


def searched(tokenizer, sentences, after, prompt_value=0.5, success=True, candidates=()):
    """A result with one trace; `after` are the values after its sentences, the tag and the answer."""
    parts = [tokenizer.encode(part, add_special_tokens=False) for part in (*sentences, "</think>", ANSWER)]
    ids = tuple(token for part in parts for token in part)
    values = tuple(value for part, value in zip(parts, after, strict=True) for _ in part)
    details = TokenDetails("e" * len(ids), (0,) * len(ids), values, values, values)
    tokens = tuple(tokenizer.decode([token]) for token in ids)
    trace = SearchedTrace(ids, tokens, (1.0,) * len(ids), "end", success, 0, len(ids), 0, 0, 0, 0, 0, details)
    result = ProblemResult(
        "p", PROBLEM.query, "26", 0, "searched", (1,), prompt_value, 12, (trace,), tuple(candidates)
    )
    return result, [len(part) for part in parts]


def test_an_effect_is_the_change_of_the_value_or_what_was_confirmed(demo):
    tokenizer, _, policy, _ = demo
    result, lengths = searched(tokenizer, STEPS, (0.6, 0.55, 1.0, 1.0, 1.0))
    first, second = lengths[0], lengths[0] + lengths[1]
    effects = sentence_effects(result, 0, result.traces[0], policy.decode)
    assert list(effects)[:3] == [(0, first), (first, second), (second, second + lengths[2])]
    assert list(effects.values())[:3] == pytest.approx([0.1, -0.05, 0.45])
    fields = (0, first, 1, "x", 0.1, 0.9, 9, 10, 0.6, 6, 10, 0.27, 0.01, 1)
    confirmed = Candidate(*fields, end=second)
    result, _ = searched(tokenizer, STEPS, (0.6, 0.55, 1.0, 1.0, 1.0), candidates=[confirmed])
    effects = sentence_effects(result, 0, result.traces[0], policy.decode)
    assert list(effects.values())[:3] == pytest.approx([0.1, 0.27, 0.45])


def test_sentences_of_thinking_with_a_small_effect_may_go_the_smallest_first(demo):
    tokenizer, modes, policy, _ = demo
    result, lengths = searched(tokenizer, STEPS, (0.58, 0.6, 1.0, 1.0, 1.0))
    (thought,) = thoughts_of(PROBLEM, result, modes, policy.decode, 0.1)
    first, second = lengths[0], lengths[0] + lengths[1]
    assert thought.spare == ((first, second), (0, first))
    assert (thought.sentences, thought.thinking) == (3, sum(lengths[:4]))
    wrong, _ = searched(tokenizer, STEPS, (0.58, 0.6, 1.0, 1.0, 1.0), success=False)
    assert thoughts_of(PROBLEM, wrong, modes, policy.decode, 0.1) == []


def test_a_sentence_goes_where_the_model_still_answers_right_and_ids_stay_as_drawn(demo):
    tokenizer, modes, policy, asker = demo
    result, lengths = searched(tokenizer, STEPS, (0.5, 0.5, 1.0, 1.0, 1.0))
    thoughts = thoughts_of(PROBLEM, result, modes, policy.decode, 0.1)
    (shorter,) = shorten_thoughts(thoughts, policy, asker, 0)
    assert shorter.dropped >= 1
    whole = result.traces[0].completion
    assert shorter.completion[-len(whole[sum(lengths[:2]) :]) :] == whole[sum(lengths[:2]) :]
    assert shorter.completion in [
        without(whole, spans)
        for spans in ([(0, lengths[0])], [(lengths[0], sum(lengths[:2]))], [(0, sum(lengths[:2]))])
    ]
    found = searched_solution("p", "digest", result, thoughts, [shorter])
    assert (found.shortest, found.longest, found.dropped) == (shorter.completion, whole, shorter.dropped)
    assert (found.n, found.successes, found.right_tokens) == (1, 1, len(whole))


def test_a_sentence_that_the_answer_rests_on_stays_whatever_its_value_says(demo):
    tokenizer, modes, policy, asker = demo
    # Without its last sentence the thinking ends on a sum that is not the one asked for.
    wrong = ("First , 17 + 7 = 14 .", "Finally , 24 + 2 = 26 .")
    result, lengths = searched(tokenizer, wrong, (0.58, 0.6, 0.6, 1.0))
    (thought,) = thoughts_of(PROBLEM, result, modes, policy.decode, 0.1)
    assert thought.spare == ((lengths[0], sum(lengths[:2])), (0, lengths[0]))
    (shorter,) = shorten_thoughts([thought], policy, asker, 0)
    assert shorter.completion == without(thought.completion, [(0, lengths[0])])


def test_one_sentence_of_thinking_stays(demo):
    tokenizer, modes, policy, asker = demo
    problem = Problem("q", "What is 17 + 7 + 2 ?", "26")
    result, _ = searched(tokenizer, STEPS[2:], (0.5, 1.0, 1.0))
    (thought,) = thoughts_of(problem, result, modes, policy.decode, 1.0)
    assert len(thought.spare) == 1
    (shorter,) = shorten_thoughts([thought], policy, asker, 0)
    assert (shorter.completion, shorter.dropped) == (thought.completion, 0)


def test_the_share_of_short_completions_rises_to_all_of_them():
    order = Order(10, 4, 0)
    mixed = Progressive(order, 8)
    steps = [mixed(step) for step in range(8)]
    assert [sum(place < 10 for place in places) for places in steps] == [0, 1, 2, 2, 2, 3, 4, 4]
    assert [[place % 10 for place in places] for places in steps] == [order(step) for step in range(8)]
    assert steps == [mixed(step) for step in range(8)]
    assert len({tuple(place < 10 for place in places) for places in steps[2:5]}) > 1
