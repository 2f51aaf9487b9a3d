"""The router by adaptive-classifier, with the package itself where it is installed."""

import pytest

from pts.decoding import Budget, Question, SteeredDecoder
from pts.decoding.parts import Parts
from pts.decoding.routers import AdaptiveRouter
from pts.errors import ConfigError, ModelError
from pts.models.load import load_model
from pts.models.options import ModelOptions
from pts.records import Sampling

adaptive_classifier = pytest.importorskip("adaptive_classifier")

BUDGETS = {"LOW": Budget(thinking=0), "MIDDLE": Budget(thinking=24), "HIGH": Budget()}
SHORT = [f"What is {first} + {second} ?" for first in range(2, 6) for second in range(2, 6)]
LONG = [f"What is {number} + 8 - 9 + 17 - 6 ?" for number in range(20, 36)]


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A classifier of two labels, its encoder the demo model in float32, saved by its own API."""
    encoder = tmp_path_factory.mktemp("encoder")
    demo = load_model(ModelOptions(spec="demo"))
    demo.model.save_pretrained(encoder)
    demo.tokenizer.save_pretrained(encoder)
    classifier = adaptive_classifier.AdaptiveClassifier(str(encoder), device="cpu", use_onnx=False)
    classifier.add_examples(SHORT + LONG, ["LOW"] * len(SHORT) + ["HIGH"] * len(LONG))
    folder = tmp_path_factory.mktemp("classifier") / "saved"
    classifier.save(str(folder), include_onnx=False)
    return folder


def test_it_routes_by_the_labels_budgets(stored):
    router = AdaptiveRouter(stored, BUDGETS, device="cpu")
    assert set(router.labels) == {"LOW", "HIGH"}
    decoder = SteeredDecoder(
        load_model(ModelOptions(spec="demo")),
        strategy="auto",
        sampling=Sampling(budget=96),
        parts=Parts(router=router),
    )
    answers = decoder.generate(["What is 3 + 4 ?", "What is 31 + 8 - 9 + 17 - 6 ?"])
    assert [answer.route for answer in answers] == ["LOW", "HIGH"]
    assert answers[0].ledger.thinking == 1
    for answer in answers:
        assert answer.confidence > 0.5
        assert answer.ledger.router_seconds > 0


def test_examples_of_another_class_are_added_later(stored, tmp_path):
    router = AdaptiveRouter(stored, BUDGETS, device="cpu")
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


def test_what_cannot_be_loaded_or_has_no_budget_is_said(stored, tmp_path):
    with pytest.raises(ConfigError, match="has the label HIGH without a budget; budgets are given for LOW"):
        AdaptiveRouter(stored, {"LOW": Budget()}, device="cpu")
    with pytest.raises(ModelError, match=r"cannot be loaded.*FileNotFoundError"):
        AdaptiveRouter(tmp_path)
