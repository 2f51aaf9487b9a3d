"""Routers by name: what each text makes, and one line for what it cannot."""

from pathlib import Path

import pytest

from pts.decoding import ThinkingBudget
from pts.decoding.routers import AUTO_BUDGETS, LengthRouter, ProbeRouter, RandomRouter
from pts.decoding.routers.files import router_digest
from pts.decoding.routers.named import named_router, stored_router, with_classes
from pts.errors import ConfigError, PtsError
from pts.steering import load_vectors

SET = load_vectors("demo").directory


def test_names_make_their_routers():
    assert named_router("length") == LengthRouter()
    assert named_router("length:4-64") == LengthRouter(4, 64)
    assert named_router("random").shares == pytest.approx({"none": 1 / 3, "easy": 1 / 3, "hard": 1 / 3})
    drawn = named_router("random:none=0.25,far=0.75", budgets={"far": ThinkingBudget(60)})
    assert drawn == RandomRouter({"none": 0.25, "far": 0.75}, budgets=drawn.budgets)
    assert drawn.budgets == {"none": ThinkingBudget(thinking=0), "far": ThinkingBudget(60)}
    probe = named_router("probe", SET, price=0.01, same_shape=True)
    assert isinstance(probe, ProbeRouter)
    assert (probe.price, probe.same_shape) == (0.01, True)
    for spec in (str(SET), "demo"):
        assert router_digest(named_router(spec).fitted) == router_digest(probe.fitted)
    assert stored_router(None) is None


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("lenght", "no router 'lenght': did you mean length?"),
        ("oracle", r"there are probe, length\[:SHORT-LONG\]"),
        ("probe", "no vector set"),
        ("length:many", "length:0-128"),
        ("length:9-3", "bounds are 9 and 3"),
        ("random:none", "random:none=0.2"),
        ("random:none=0.2,easy=0.2", "add up to 1"),
        ("random:none=0.2,far=0.8", "class far has no budget: give"),
        ("adaptive-classifier", "directory or Hub id"),
        (str(Path(__file__).parent), "has no router"),
        ("./nowhere", "nowhere"),
    ],
)
def test_what_cannot_be_had_is_said(spec, said):
    with pytest.raises(PtsError, match=said) as raised:
        named_router(spec)
    assert "\n" not in str(raised.value)


def test_the_price_of_a_token_is_of_fitted_routers():
    with pytest.raises(ConfigError, match="token_price= needs a fitted router, and the router is length"):
        named_router("length:0-9", price=0.1)
    with pytest.raises(ConfigError, match="price of a token is -1"):
        named_router("probe", SET, price=-1)


def test_some_classes_have_other_budgets():
    assert with_classes(LengthRouter(), {"easy": ThinkingBudget(9)}) == {
        **AUTO_BUDGETS,
        "easy": ThinkingBudget(9),
    }
    with pytest.raises(
        ConfigError, match=r"class LOW, which the router length does not have; it has none, easy, hard"
    ):
        with_classes(LengthRouter(), {"LOW": ThinkingBudget(9)})
