"""Completions that are drawn in a server: what goes wrong with one ends it alone, and its client is told."""

from types import SimpleNamespace

import pytest
import torch

from pts.models.options import ModelOptions
from pts.models.tokenizer import load_tokenizer
from pts.policies.vllm.wire import DRAW, LABEL, READ, DrawSpec, content_name
from pts.serving.kept import LEASE
from pts.serving.service import Service

VOCAB, END = 40, 3
PROMPT = [5, 6]


def spec(**more):
    sampling = {"temperature": 0.0, "top_k": 20, "top_p": 0.95, "min_p": 0.0, "budget": 6, "stop": ()}
    given = {"prompt": 2, "prefix": 0, "avoid": None, "key": 7, "own_probs": True, "sampling": sampling}
    return DrawSpec(**{**given, "ends": (END,), "variants": None, "variant": 0, "guide": None, **more})


@pytest.fixture
def service():
    made = Service()
    made.completions.tokenizer = load_tokenizer(ModelOptions("demo"))
    return made


def begin(service, label, output, **more):
    params = SimpleNamespace(extra_args={LABEL: label, DRAW: spec(**more).text()})
    assert service.begin(params, PROMPT, output) == label


def step(service, outputs, likely):
    """One step of an engine: `likely` has each row's likeliest token; what is left is written."""
    logits = torch.zeros(len(outputs), VOCAB)
    for row, token in enumerate(likely):
        logits[row, token] = 5.0
    rows = list(enumerate(outputs))
    service.hear(list(outputs))
    service.draw(logits, rows)
    for row, label in rows:
        outputs[label].append(int(logits[row].argmax()))
    return logits


def test_each_row_has_the_token_that_was_drawn_and_its_probability(service):
    outputs = {"a": [], "b": []}
    begin(service, "a", outputs["a"])
    begin(service, "b", outputs["b"], avoid=8)
    logits = step(service, outputs, [9, 8])
    assert int((logits > -torch.inf).sum()) == 2
    assert outputs["a"] == [9]
    assert outputs["b"] != [8]
    step(service, outputs, [9, 8])
    assert outputs["b"][1] == 8
    told = service.take("a")
    probability = float(torch.softmax(torch.tensor([5.0] + [0.0] * (VOCAB - 1)), 0)[0])
    assert [entry[0] for entry in told["drawn"]] == [9, 9]
    assert told["drawn"][0][1] == pytest.approx(probability)
    assert (told["failed"], told["read"]) == (None, 0)
    assert "restarted" in service.take("a")["failed"]


def test_a_step_that_vllm_throws_away_is_drawn_again(service):
    outputs = {"a": []}
    begin(service, "a", outputs["a"])
    step(service, {"a": []}, [4])
    step(service, outputs, [9])
    step(service, outputs, [10])
    assert [entry[0] for entry in service.take("a")["drawn"]] == outputs["a"] == [9, 10]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"variants": "0" * 32, "variant": 1}, "no longer has what this client gave it"),
        ({"guide": {"think": "0" * 32, "contexts": None}}, "no longer has"),
        ({"guide": {"other": 1}}, "think"),
        ({"sampling": {"temperature": -1.0, "stop": ()}}, "temperature is -1"),
    ],
)
def test_what_cannot_be_drawn_ends_at_once_and_the_others_go_on(service, more, said):
    outputs = {"bad": [], "good": []}
    begin(service, "bad", outputs["bad"], **more)
    begin(service, "good", outputs["good"])
    step(service, outputs, [9, 9])
    assert outputs == {"bad": [END], "good": [9]}
    assert said in service.take("bad")["failed"]
    step(service, {"good": outputs["good"]}, [9])
    assert service.take("good")["failed"] is None


def test_a_token_that_was_not_drawn_is_told(service):
    outputs = {"a": []}
    begin(service, "a", outputs["a"])
    step(service, outputs, [9])
    outputs["a"][0] = 11
    step(service, outputs, [9])
    assert outputs["a"] == [11, END]
    assert "vLLM wrote token 11 where 9 was drawn" in service.take("a")["failed"]


def test_steering_is_refused_where_compiled_graphs_run(service):
    content = {"kind": "variants", "variants": []}
    with pytest.raises(Exception, match="compiled graphs"):
        service.put("client", content_name(content), content)


def test_completions_of_a_client_that_was_killed_are_forgotten():
    now = SimpleNamespace(at=0.0)
    service = Service(lambda: now.at)
    service.completions.tokenizer = load_tokenizer(ModelOptions("demo"))
    begin(service, "old", [])
    now.at = LEASE
    begin(service, "new", [])
    now.at += 1
    service.hear(["new"])
    assert len(service.completions) == 1
    assert service.completions.get("new") is not None


def test_a_request_of_another_version_is_no_request():
    for text in ("", "{}", "[1]", '{"position": 1}', spec().text().replace("key", "stream")):
        with pytest.raises(ValueError):
            DrawSpec.read(text)
    assert DrawSpec.read(spec().text()) == spec(sampling={**spec().sampling, "stop": []})
    assert READ != DRAW
