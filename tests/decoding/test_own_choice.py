"""The strategy `model`: what the model chooses is what is recorded, with its exact probability."""

import math

import pytest

from pts.decoding import SteeredDecoder
from pts.decoding.limits import ThinkingBudget
from pts.decoding.own_choice import no_thinking_probability
from pts.decoding.session import Question
from pts.decoding.strategy_options import StrategyOptions
from pts.demo.problems import demo_problems
from pts.errors import ConfigError
from pts.models.prompt import PromptFormat
from pts.records import Sampling

PROMPTS = [problem.query for problem in demo_problems("train", 6, 5)]
USUAL = Sampling(budget=96)
HOT = Sampling(temperature=4.0, top_k=0, top_p=1.0, budget=6)
"""So hot that the demo model, which is sure that it thinks, chooses both."""


def decoder(demo, spec="model", sampling=USUAL, **more):
    return SteeredDecoder(demo, None, spec, sampling=sampling, **more)


def test_it_writes_what_full_writes(demo):
    chosen, full = (decoder(demo, spec).generate(PROMPTS) for spec in ("model", "full"))
    assert [answer.completion for answer in chosen] == [answer.completion for answer in full]
    assert {answer.route for answer in chosen} == {"think"}
    assert all(answer.thought and answer.usage.injected == 0 for answer in chosen)


def test_the_share_of_no_thinking_is_its_exact_probability(demo):
    n = 600
    made = decoder(demo, sampling=HOT)
    with made.session([]) as session:
        (end,) = session.think.end
        probability = no_thinking_probability(session, session.encode(PROMPTS[0]))
        questions = [Question(str(seed), PROMPTS[0], seed) for seed in range(n)]
        answers = [answer for _, answer in made.strategy.answers(session, questions)]
    assert [answer.route == "none" for answer in answers] == [answer.completion[0] == end for answer in answers]
    assert 0.01 < probability < 0.99
    share = sum(answer.route == "none" for answer in answers) / n
    # Four standard errors: a false alarm in 16,000, and the seeds are fixed.
    assert abs(share - probability) < 4 * math.sqrt(probability * (1 - probability) / n)
    for answer in answers:
        assert answer.confidence == pytest.approx(probability if answer.route == "none" else 1 - probability)
        assert answer.thought is (answer.route == "think")


def test_an_answer_without_thinking_is_known_by_any_strategy(demo):
    assert not any(answer.thought for answer in decoder(demo, "nothink").generate(PROMPTS))


def test_no_choice_is_refused_in_one_line(demo):
    def check(**more):
        made = decoder(demo, **more)
        with made.session([]) as session:
            made.strategy.check(session)

    with pytest.raises(ConfigError, match="thinking_budget=0 takes the choice from it"):
        check(options=StrategyOptions(budget=ThinkingBudget(thinking=0)))
    with pytest.raises(ConfigError, match="the prompt has closed thinking already"):
        check(prompt_format=PromptFormat(thinking=False))
