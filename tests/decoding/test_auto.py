"""The strategy auto: each question gets its class's budget, and the router is in the token usage."""

import logging

import pytest
import torch

from pts.decoding import Question, SteeredDecoder, ThinkingBudget
from pts.decoding.auto import Auto
from pts.decoding.routers import (
    AUTO_BUDGETS,
    FittedRouter,
    LengthRouter,
    ProbeRouter,
    RandomRouter,
    auto_budgets,
)
from pts.decoding.routers.fitted import ClassQuality, Probe, RouterClass
from pts.decoding.strategy_options import StrategyOptions
from pts.errors import ConfigError, ModelError
from pts.models.load import load_model
from pts.models.options import ModelOptions
from pts.records import Sampling
from pts.steering.vector_set import SteeredModel

PROMPTS = [f"What is {number} + 8 - 9 ?" for number in range(11, 23)] + ["What is 2 + 3 ?"]
PLAIN = {"none": ThinkingBudget(thinking=0), "easy": ThinkingBudget(thinking=24), "hard": ThinkingBudget()}


@pytest.fixture(scope="module")
def model():
    return load_model(ModelOptions(spec="demo"))


def decoder(model, router=None, budgets=None, strategy="auto"):
    options = StrategyOptions(router=router, budgets=budgets)
    return SteeredDecoder(model, strategy=strategy, sampling=Sampling(budget=96), options=options)


def fitted(model, weight=None, layer=2, price=0.0, revision=None):
    """A router of two classes: it thinks where weight · h is above 0."""
    hidden = model.model.config.hidden_size
    weight = torch.zeros(hidden) if weight is None else weight
    quality = ClassQuality(0.5, 10.0, 0.25, 0.69, 0.69, None)
    zeros = torch.zeros(hidden)
    classes = (
        RouterClass("none", ThinkingBudget(thinking=0), zeros, 0.0, zeros, 7.0, quality),
        RouterClass("hard", ThinkingBudget(), weight, 0.0, zeros, 40.0, quality),
    )
    known = SteeredModel("demo", revision or model.revision, hidden, 5)
    return FittedRouter(known, 96, Probe(layer, classes, price, {}))


def test_each_question_gets_the_budget_of_its_class(model):
    router = RandomRouter({"none": 0.4, "easy": 0.3, "hard": 0.3}, budgets=PLAIN)
    answers = decoder(model, router).generate(PROMPTS)
    assert {answer.route for answer in answers} == {"none", "easy", "hard"}
    for answer in answers:
        assert answer.usage.budget_kept
        if answer.route == "none":
            assert answer.usage.thinking == 1
        if answer.route == "easy":
            assert answer.usage.thinking <= 24


@pytest.mark.parametrize("route", ["none", "hard"])
def test_it_answers_as_the_plain_strategy_with_that_budget_does(model, route):
    auto = decoder(model, RandomRouter({route: 1.0}, budgets=PLAIN)).generate(PROMPTS)
    plain = decoder(model, strategy={"none": "nothink", "hard": "full"}[route]).generate(PROMPTS)
    assert [answer.completion for answer in auto] == [answer.completion for answer in plain]


def test_the_probe_reads_no_prompt_twice(model):
    weight = torch.randn(model.model.config.hidden_size, generator=torch.Generator().manual_seed(0))
    strategy = decoder(model, ProbeRouter(fitted(model, weight))).strategy
    work = {}
    for name, chosen in {"auto": strategy, "full": decoder(model, strategy="full").strategy}.items():
        with decoder(model, strategy="full").session([]) as session:
            before = session.policy.work
            questions = [Question(str(at), prompt, seed=at) for at, prompt in enumerate(PROMPTS * 2)]
            answers = list(chosen.answers(session, questions))
            after = session.policy.work
        work[name] = after.tokens_prefilled - before.tokens_prefilled
        assert len(answers) == len(questions)
    assert work["auto"] == work["full"]


def test_the_router_is_in_the_ledger_and_the_answer(model):
    answers = decoder(model, ProbeRouter(fitted(model, price=0.001))).generate(PROMPTS[:3])
    for answer in answers:
        assert answer.route == "none"  # as likely right, and cheaper
        assert answer.confidence == pytest.approx(0.5)
        assert answer.usage.router == 0
        assert 0 < answer.usage.router_seconds < answer.usage.seconds
        assert answer.to_json()["route"] == "none"


def test_an_answer_does_not_depend_on_the_batch(model):
    weight = torch.randn(model.model.config.hidden_size, generator=torch.Generator().manual_seed(1))
    auto = decoder(model, ProbeRouter(fitted(model, weight))).strategy
    questions = [Question(str(at), prompt, seed=at) for at, prompt in enumerate(PROMPTS)]
    with decoder(model, strategy="full").session([]) as session:
        together = dict(auto.answers(session, questions))
    assert len({answer.route for answer in together.values()}) == 2
    for at in (0, 5, 12):
        with decoder(model, strategy="full").session([]) as session:
            ((_, alone),) = auto.answers(session, [questions[at]])
        assert (alone.completion, alone.route) == (together[at].completion, together[at].route)


def test_without_a_router_it_says_so_and_names_the_one_used(model, caplog):
    with caplog.at_level(logging.WARNING):
        made = decoder(model)
    assert isinstance(made.strategy.router, LengthRouter)
    (record,) = caplog.records
    assert "no fitted router" in record.message
    assert "length" in record.message


def test_a_router_of_another_model_is_refused(model):
    with pytest.raises(ModelError, match=r"fitted on demo \(revision other, .*fit-router"):
        decoder(model, ProbeRouter(fitted(model, revision="other")))
    decoder(model, ProbeRouter(fitted(model, revision="other"), same_shape=True))


def test_a_class_without_a_budget_is_refused(model):
    with pytest.raises(ConfigError, match="class easy has no budget; there are none, hard"):
        Auto("auto", LengthRouter(), {"none": ThinkingBudget(thinking=0), "hard": ThinkingBudget()})


def test_budgets_given_replace_the_routers_own(model):
    made = decoder(model, RandomRouter({"hard": 1.0}), budgets=PLAIN)
    assert made.strategy.budgets == PLAIN
    assert auto_budgets(hard=(0.5, 64), switches=2)["hard"] == ThinkingBudget(64, 0.5, None, 2)
    assert AUTO_BUDGETS["easy"] == ThinkingBudget(0.4, 0.2)
