"""From inputs to the options of strategies: each arrives, and what does not belong is told in one line."""

from dataclasses import fields, replace

import pytest

from pts.decoding import ThinkingBudget
from pts.decoding.registry import STRATEGIES
from pts.decoding.reject import Score, Written, likelihood
from pts.decoding.routers import AUTO_BUDGETS, LengthRouter, ProbeRouter
from pts.decoding.strategy_options import StrategyOptions
from pts.errors import ConfigError, PtsError
from pts.stages.decode.decoder import DecodeInputs
from pts.stages.decode.strategies import class_budgets, strategy_options
from pts.stages.decode.strategy_inputs import StrategyInputs
from pts.stages.evaluate.inputs import EvaluateInputs
from pts.steering import load_vectors

EVERY = ("full", "auto", "early-exit", "reject:4", "escalate")
GIVEN = StrategyInputs(
    thinking_budget="0.5",
    min_thinking=8,
    answer_budget="12",
    max_switches=3,
    router="length:2-40",
    class_budget=("easy=8-0.25", "hard=0.5-", "none=0"),
    exit_threshold=0.8,
    exit_step="6",
    trial_tokens=9,
    trial_opening="The answer is",
    scorer="likelihood",
    reject_step=0.25,
    reject_share=0.3,
    second_model="demo",
    escalate_threshold=0.7,
    escalate_over="answer",
)


def test_every_part_arrives():
    options = strategy_options(GIVEN, EVERY, None)
    assert options == StrategyOptions(
        budget=ThinkingBudget(0.5, 8, 12, 3),
        router=LengthRouter(2, 40),
        budgets={
            "none": ThinkingBudget(thinking=0),
            "easy": ThinkingBudget(0.25, 8),
            "hard": ThinkingBudget(least_thinking=0.5),
        },
        exit_threshold=0.8,
        exit_step=6,
        trial_tokens=9,
        trial_opening="The answer is",
        scorer=likelihood,
        reject_step=0.25,
        reject_share=0.3,
        escalate_threshold=0.7,
        escalate_over="answer",
    )


def test_decode_and_eval_take_them_by_the_same_names():
    shared = {entry.name: entry.default for entry in fields(StrategyInputs)}
    for kind in (DecodeInputs, EvaluateInputs):
        assert shared.items() <= {entry.name: entry.default for entry in fields(kind)}.items()
    used = {part for entry in STRATEGIES.values() for part in entry.uses}
    full = replace(GIVEN, token_price=0.1, second_revision="main", second_dtype="float32")
    assert set(full.given_parts().values()) == used


def test_the_router_is_the_sets_own_or_length(caplog):
    vectors = load_vectors("demo")
    own = strategy_options(StrategyInputs(token_price=0.02), ("auto",), vectors)
    assert isinstance(own.router, ProbeRouter)
    assert (own.router.price, own.budgets) == (0.02, None)
    assert caplog.text == ""
    assert strategy_options(StrategyInputs(), ("full",), vectors).router is None
    assert strategy_options(StrategyInputs(), ("auto",), None).router == LengthRouter(budgets=AUTO_BUDGETS)
    assert "no fitted router" in caplog.text


@pytest.mark.parametrize(
    ("given", "asked", "said"),
    [
        (
            {"exit_threshold": 0.5},
            ("full",),
            "exit_threshold= has no effect on the strategy full: leave it out, or choose one of early-exit",
        ),
        (
            {"scorer": "likelihood"},
            ("full", "best-of:2"),
            "scorer= has no effect on the strategies full, best-of:2: leave it out, or choose one of reject",
        ),
        ({"router": "random"}, ("full",), "router= has no effect .* choose one of auto"),
        ({"thinking_budget": 9}, ("budget:64",), "thinking_budget= has no effect .* choose one of full, min"),
        (
            {"max_switches": 1},
            ("nothink",),
            "max_switches= has no effect .* choose one of full, budget, min, model, auto",
        ),
        ({"second_model": "demo"}, ("full",), "second_model= has no effect .* choose one of escalate"),
        ({"token_price": 0.1}, ("auto",), "there is none: give router="),
        ({"class_budget": ("easy",)}, ("auto",), "easy=64"),
        ({"class_budget": ("easy=few",)}, ("auto",), "class-budget easy is 'few'"),
        ({"class_budget": ("easy=9", "easy=8")}, ("auto",), "easy twice"),
        (
            {"class_budget": ("deep=9",)},
            ("auto",),
            "the class deep, which the router length does not have; it has none, easy, hard",
        ),
        ({"class_budget": ("easy=2.5",)}, ("auto",), "2.5 of the total"),
        ({"exit_threshold": 2.0}, ("early-exit",), "2; it must be above 0"),
        ({"reject_share": 1.0}, ("reject:3",), "must be between 0 and 1"),
        ({"escalate_threshold": -1.0}, ("escalate",), "-1; it must be from 0"),
        ({"answer_budget": "nan"}, ("full",), "answer-budget is 'nan'"),
        ({"scorer": "mine"}, ("reject:3",), "FILE.py:FUNCTION"),
        ({"scorer": "nowhere.py:score"}, ("reject:3",), "nowhere.py does not exist"),
        ({"second_dtype": "float32"}, ("escalate",), "second_dtype= needs a second model"),
        ({}, ("ful",), "did you mean full"),
    ],
)
def test_what_does_not_belong_or_fit_is_one_line(given, asked, said):
    with pytest.raises(PtsError, match=said) as raised:
        strategy_options(StrategyInputs(**given), asked, None)
    assert "\n" not in str(raised.value)


def test_a_part_is_welcome_where_one_of_several_strategies_uses_it():
    assert (
        strategy_options(StrategyInputs(exit_threshold=0.5), ("full", "early-exit"), None).exit_threshold == 0.5
    )


def test_a_scorer_of_the_users_own(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "def short(written):\n    return -len(written.completion)\n\nword = 'x'\n\ndef no(_): pass\n"
    )
    written = Written("?", "1 2", (1, 2), (0.5, 0.5), True)
    scored = strategy_options(StrategyInputs(scorer=f"{path}:short"), ("reject:2",), None).scorer
    assert scored(written) == Score(-2.0)
    with pytest.raises(ConfigError, match="no function word"):
        strategy_options(StrategyInputs(scorer=f"{path}:word"), ("reject:2",), None)
    with pytest.raises(ConfigError, match="gave None; it must give a number"):
        strategy_options(StrategyInputs(scorer=f"{path}:no"), ("reject:2",), None).scorer(written)


def test_a_class_budget_is_least_and_most():
    assert class_budgets(("a=0.2-0.4", "b=64", "c=8-")) == {
        "a": ThinkingBudget(0.4, 0.2),
        "b": ThinkingBudget(64),
        "c": ThinkingBudget(least_thinking=8),
    }
