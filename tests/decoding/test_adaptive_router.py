"""The router by adaptive-classifier, with the package itself where it is installed."""

from dataclasses import replace

import pytest

from pts.decoding import Question, SteeredDecoder, ThinkingBudget
from pts.decoding.routers import AdaptiveRouter
from pts.decoding.strategy_options import StrategyOptions
from pts.errors import ConfigError, ModelError
from pts.models.load import load_model
from pts.models.options import ModelOptions
from pts.records import Sampling
from pts.stages.decode.strategies import strategy_options
from pts.stages.decode.strategy_inputs import StrategyInputs

BUDGETS = {"LOW": ThinkingBudget(thinking=0), "MIDDLE": ThinkingBudget(thinking=24), "HIGH": ThinkingBudget()}


def test_it_routes_by_the_labels_budgets(classifier):
    router = AdaptiveRouter(classifier, BUDGETS, device="cpu")
    assert set(router.labels) == {"LOW", "HIGH"}
    decoder = SteeredDecoder(
        load_model(ModelOptions(spec="demo")),
        strategy="auto",
        sampling=Sampling(budget=96),
        options=StrategyOptions(router=router),
    )
    answers = decoder.generate(["What is 3 + 4 ?", "What is 31 + 8 - 9 + 17 - 6 ?"])
    assert [answer.route for answer in answers] == ["LOW", "HIGH"]
    assert answers[0].usage.thinking == 1
    for answer in answers:
        assert answer.confidence > 0.5
        assert answer.usage.router_seconds > 0


def test_examples_of_another_class_are_added_later(classifier, tmp_path):
    router = AdaptiveRouter(classifier, BUDGETS, device="cpu")
    middle = [f"What is {number} x 8 ?" for number in range(20, 40)]
    router.add_examples(middle, ["MIDDLE"] * len(middle))
    assert set(router.labels) == {"LOW", "MIDDLE", "HIGH"}
    router.save(tmp_path / "taught")
    again = AdaptiveRouter(tmp_path / "taught", BUDGETS, device="cpu")
    routes = again.route(None, [Question("0", "What is 25 x 8 ?")], [(1,)])
    assert set(routes[0].probabilities) == {"LOW", "MIDDLE", "HIGH"}
    with pytest.raises(ConfigError, match="label EXTREME without a budget"):
        router.add_examples(["?"], ["EXTREME"])
    with pytest.raises(ConfigError, match="2 questions and 1 labels"):
        router.add_examples(["?", "!"], ["LOW"])


def test_what_cannot_be_loaded_or_has_no_budget_is_said(classifier, tmp_path):
    with pytest.raises(ConfigError, match="has the label HIGH without a budget; budgets are given for LOW"):
        AdaptiveRouter(classifier, {"LOW": ThinkingBudget()}, device="cpu")
    with pytest.raises(ModelError, match=r"cannot be loaded.*FileNotFoundError"):
        AdaptiveRouter(tmp_path)


def test_named_with_budgets_for_its_own_classes(classifier):
    inputs = StrategyInputs(router=f"adaptive-classifier:{classifier}", class_budget=("LOW=0", "HIGH=0.3-0.6"))
    options = strategy_options(inputs, ("auto",), None)
    assert options.budgets == {"LOW": ThinkingBudget(thinking=0), "HIGH": ThinkingBudget(0.6, 0.3)}
    with pytest.raises(
        ConfigError, match=r"class MIDDLE, which the router .* does not have; it has (LOW, HIGH|HIGH, LOW)"
    ):
        strategy_options(replace(inputs, class_budget=("MIDDLE=9",)), ("auto",), None)
