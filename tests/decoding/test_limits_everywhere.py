"""A user's limits hold in every strategy that does not set them itself."""

from dataclasses import replace

import pytest

from pts.decoding import SteeredDecoder, ThinkingBudget, make_strategy
from pts.decoding.escalate import second_model
from pts.decoding.registry import STRATEGIES, uses
from pts.decoding.routers import RandomRouter
from pts.decoding.strategy_options import StrategyOptions
from pts.demo.problems import demo_problems
from pts.errors import ConfigError
from pts.records import Sampling

PROMPTS = [problem.query for problem in demo_problems("train", 4, 5)]
SAMPLING = Sampling(budget=96)
SPECS = {name: name if entry.argument is None else f"{name}:4" for name, entry in STRATEGIES.items()}
SPECS |= {"budget": "budget:70", "min": "min:5"}
SOMETIMES = {"exit_threshold": 0.9999, "escalate_threshold": 0.9}


def decoder_of(demo, spec, budget, **options):
    chosen = {"router": RandomRouter({"easy": 0.5, "hard": 0.5}), **SOMETIMES, **options}
    second = second_model(demo, Sampling(temperature=0.3, budget=96))
    return SteeredDecoder(
        demo, None, spec, sampling=SAMPLING, options=StrategyOptions(budget, second=second, **chosen)
    )


def strategies_with(limit):
    return [spec for name, spec in SPECS.items() if uses(name, limit)]


def split_of(answer):
    """Words of the thinking and of the answer with its end token: the demo model's tokens."""
    ended = answer.usage.finish == "end"
    return answer.thinking.split(), len(answer.answer.split()) + ended


@pytest.mark.parametrize("spec", strategies_with("thinking"))
def test_the_most_thinking(demo, spec):
    for answer in decoder_of(demo, spec, ThinkingBudget(thinking=16)).generate(PROMPTS):
        assert len(split_of(answer)[0]) <= 16
        assert answer.usage.budget_kept


@pytest.mark.parametrize("spec", strategies_with("least_thinking"))
def test_the_least_thinking(demo, spec):
    answers = decoder_of(demo, spec, ThinkingBudget(least_thinking=50)).generate(PROMPTS)
    assert all(len(split_of(answer)[0]) >= 50 for answer in answers)


@pytest.mark.parametrize("spec", strategies_with("answer"))
def test_the_longest_answer(demo, spec):
    most = 5 if spec == "early-exit" else 3  # a trial begins with three tokens
    answers = decoder_of(demo, spec, ThinkingBudget(answer=most)).generate(PROMPTS)
    assert max(split_of(answer)[1] for answer in answers) == most
    assert "answer limit" in {answer.usage.finish for answer in answers}
    for answer in answers:
        assert answer.usage.budget_kept
        assert len(answer.completion) == len(split_of(answer)[0]) + split_of(answer)[1]


@pytest.mark.parametrize("spec", strategies_with("switches"))
def test_the_turns_of_a_thought(demo, spec):
    """A minimum that only turns can reach, where the strategy has none of its own: one turn, then the end."""
    least = 60 if uses(spec, "least_thinking") else 0
    answers = decoder_of(demo, spec, ThinkingBudget(least_thinking=least, switches=0)).generate(PROMPTS)
    assert all(answer.thinking.split().count("Wait") <= 1 for answer in answers)
    assert any("Wait </think>" in answer.text for answer in answers)


def test_a_limit_on_turns_of_0_is_a_limit():
    assert ThinkingBudget(switches=0).within(ThinkingBudget(switches=3)).switches == 0
    assert ThinkingBudget(thinking=0).within(ThinkingBudget(20, 10, 5, 2)) == ThinkingBudget(
        thinking=0, answer=5
    )
    assert ThinkingBudget(least_thinking=4).within(ThinkingBudget(20, 10, 5, 2)) == ThinkingBudget(20, 4, 5, 2)


def test_each_class_of_auto_keeps_its_own_thinking(demo):
    auto = decoder_of(demo, "auto", ThinkingBudget(7, 3, 5, 2)).strategy
    assert auto.budgets["easy"] == ThinkingBudget(0.4, 0.2, 5, 2)
    assert auto.budgets["none"] == ThinkingBudget(thinking=0, answer=5)


def test_no_trial_is_made_before_the_least_thinking(demo):
    for answer in decoder_of(
        demo, "early-exit", ThinkingBudget(least_thinking=40), exit_threshold=0.01
    ).generate(PROMPTS):
        assert answer.route == "early"
        assert len(answer.thinking.split()) > 40
        assert answer.usage.probe == 0


@pytest.mark.parametrize("spec", strategies_with("least_thinking"))
def test_limits_that_contradict_each_other_or_the_end_are_refused(demo, spec):
    if uses(spec, "thinking"):
        with pytest.raises(ConfigError, match="more than the maximum"):
            decoder_of(demo, spec, ThinkingBudget(thinking=10, least_thinking=20))
    with pytest.raises(ConfigError, match="must be at least 0"):
        decoder_of(demo, spec, ThinkingBudget(least_thinking=-1))


def test_an_answer_too_short_for_a_trial_is_refused(demo):
    with pytest.raises(ConfigError, match="at most 3 tokens is no longer than the 3 that begin a trial"):
        decoder_of(demo, "early-exit", ThinkingBudget(answer=3))


def test_the_second_model_keeps_the_limits_too(demo):
    answers = decoder_of(demo, "escalate", ThinkingBudget(thinking=12), escalate_threshold=1.0).generate(
        PROMPTS
    )
    second = [answer for answer in answers if answer.route == "second"]
    assert second
    assert all(len(answer.thinking.split()) <= 12 for answer in second)


@pytest.mark.parametrize("spec", SPECS.values())
def test_what_is_written_once_can_be_read_along(demo, spec):
    decoder = decoder_of(demo, spec, ThinkingBudget())
    heard = [[] for _ in PROMPTS]
    answers = decoder.generate(PROMPTS, listen=lambda index, token: heard[index].append(token))
    several = spec.partition(":")[0] in ("early-exit", "best-of", "reject", "escalate")
    assert decoder.streams is not several
    if decoder.streams:
        assert [tuple(tokens) for tokens in heard] == [answer.completion for answer in answers]


def test_every_part_is_used_by_some_strategy():
    used = frozenset().union(*(entry.uses for entry in STRATEGIES.values()))
    own = set(ThinkingBudget.__dataclass_fields__) | set(StrategyOptions.__dataclass_fields__) - {"budget"}
    assert used == own
    assert make_strategy("full", StrategyOptions(ThinkingBudget(answer=3))).budget == ThinkingBudget(answer=3)


def test_a_thinking_budget_below_the_end_sequence_is_refused(demo):
    think = SteeredDecoder(demo, None, "full").think
    long = replace(think, end=(*think.sentence_ends, *think.end)[:2])
    with pytest.raises(ConfigError, match="1 tokens is below the 2 that end thinking"):
        SteeredDecoder(demo, None, "budget:1", sampling=SAMPLING, think=long)
    SteeredDecoder(demo, None, "budget:2", sampling=SAMPLING, think=long)
