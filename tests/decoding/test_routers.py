"""Routers: what they decide, and how they are stored."""

import json
from collections import Counter

import pytest
import torch
from safetensors.torch import load_file, save_file

from pts.decoding import Question, ThinkingBudget
from pts.decoding.routers import (
    AdaptiveRouter,
    FittedRouter,
    LengthRouter,
    RandomRouter,
    find_router,
    load_router,
    save_router,
)
from pts.decoding.routers.fitted import ClassQuality, Probe, RouterClass
from pts.errors import ConfigError
from pts.steering.vector_set import SteeredModel, VectorError

HIDDEN = 4


def questions(count, seed=0):
    return [Question(str(at), "?", seed=seed + at) for at in range(count)]


def fitted(steered=True):
    quality = ClassQuality(0.5, 10.0, 0.25, 0.69, 0.69, None)
    classes = (
        RouterClass(
            "none",
            ThinkingBudget(thinking=0),
            torch.tensor([1.0, 0, 0, 0]),
            0.5,
            torch.zeros(HIDDEN),
            7.0,
            quality,
        ),
        RouterClass("hard", ThinkingBudget(), torch.zeros(HIDDEN), 0.25, torch.ones(HIDDEN), 40.0, quality),
    )
    probe = Probe(1, classes, 0.005, {"success": 0.5})
    model = SteeredModel("demo", "sha256:1", HIDDEN, 3)
    return FittedRouter(
        model, 96, probe, Probe(2, classes, 0.01, {}, {"all": 1.0}) if steered else None, {"a": 1}
    )


def test_random_draws_each_class_with_its_share_whatever_the_batch():
    router = RandomRouter({"none": 0.5, "easy": 0.2, "hard": 0.3})
    asked = questions(4000)
    routes = router.route(None, asked, [(1,)] * len(asked))
    counts = Counter(route.name for route in routes)
    for name, share in router.shares.items():
        # Four standard errors: a false alarm in 16,000 runs.
        assert counts[name] / len(asked) == pytest.approx(share, abs=4 * (share * (1 - share) / 4000) ** 0.5)
    assert [route.name for route in router.route(None, asked[7:9], [(1,)] * 2)] == [
        route.name for route in routes[7:9]
    ]
    other = RandomRouter(router.shares, seed=1).route(None, asked, [(1,)] * len(asked))
    assert [route.name for route in other] != [route.name for route in routes]


def test_length_takes_long_prompts_for_hard():
    router = LengthRouter(short=2, long=4)
    prompts = [(0,) * size for size in (1, 2, 3, 4, 5)]
    routes = router.route(None, questions(5), prompts)
    assert [route.name for route in routes] == ["none", "none", "easy", "easy", "hard"]
    assert all(route.confidence == 1.0 for route in routes)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LengthRouter(5, 4), "bounds are 5 and 4"),
        (lambda: LengthRouter(budgets={"none": ThinkingBudget()}), "class easy has no budget"),
        (lambda: RandomRouter({"none": 0.5, "hard": 0.4}), "add up to 1"),
        (lambda: RandomRouter({"none": 1.5, "hard": -0.5}), "0 or more"),
        (lambda: RandomRouter({"medium": 1.0}), "class medium has no budget; there are none, easy, hard"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_a_router_is_stored_whole(tmp_path):
    save_router(fitted(), tmp_path)
    loaded = load_router(tmp_path)
    assert loaded.model == fitted().model
    assert loaded.budgets == {"none": ThinkingBudget(thinking=0), "hard": ThinkingBudget()}
    assert loaded.steered.patterns == {"all": 1.0}
    assert (loaded.unsteered.price, loaded.unsteered.layer, loaded.steered.layer) == (0.005, 1, 2)
    state = torch.tensor([1.0, 2.0, 3.0, 4.0])
    success, tokens = loaded.unsteered.predict(state, 96)
    assert success == pytest.approx([1 / (1 + 2.718281828**-1.5), 1 / (1 + 2.718281828**-0.25)])
    assert tokens == [7.0, 50.0]
    assert loaded.unsteered.predict(state, 45)[1] == [7.0, 45.0]


def test_a_router_without_a_steered_probe_is_stored_too(tmp_path):
    save_router(fitted(steered=False), tmp_path)
    assert load_router(tmp_path).steered is None


def test_a_directory_without_a_router_has_none(tmp_path):
    assert find_router(tmp_path) is None
    with pytest.raises(ConfigError, match=r"has no router.*fit-router"):
        load_router(tmp_path)
    with pytest.raises(VectorError, match="does not exist"):
        load_router(tmp_path / "nowhere")


def _edit(path, change):
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.update(schema_version=9), "newer pts"),
        (lambda data: data.pop("total"), "does not hold what it should"),
        (lambda data: data["unsteered"].update(layer=7), "reads layer 7 of a model with 3 layers"),
        (lambda data: data["model"].update(hidden_size=5), r"shape \[4\], not \[5\]"),
        (lambda data: data["steered"]["arms"][1]["budget"].update(thinking=9), "other classes or budgets"),
        (
            lambda data: data.update(steered=None),
            "disagree: steered/hard/success is in router.safetensors alone",
        ),
    ],
)
def test_a_router_that_does_not_hold_together_is_refused(tmp_path, change, message):
    save_router(fitted(), tmp_path)
    _edit(tmp_path / "router.json", change)
    with pytest.raises(ConfigError, match=message):
        load_router(tmp_path)


def test_tensors_that_are_cut_short_or_not_finite_are_refused(tmp_path):
    save_router(fitted(), tmp_path)
    path = tmp_path / "router.safetensors"
    tensors = load_file(path)
    save_file({**tensors, "unsteered/hard/success": torch.full((HIDDEN,), float("nan"))}, path)
    with pytest.raises(ConfigError, match="not finite"):
        load_router(tmp_path)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ConfigError, match="cut short"):
        load_router(tmp_path)


def test_a_broken_router_is_not_written(tmp_path):
    broken = fitted()
    object.__setattr__(broken.unsteered.classes[0], "success_bias", float("nan"))
    with pytest.raises(ConfigError, match="not finite"):
        save_router(broken, tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "adaptive_classifier", None)
    with pytest.raises(ConfigError, match=r"pip install adaptive-classifier"):
        AdaptiveRouter("adaptive-classifier/llm-router")
