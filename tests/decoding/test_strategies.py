"""Every strategy on the demo model: what it answers, and its token usage."""

import math
from dataclasses import replace

import pytest
import torch

from pts.decoding import SteeredDecoder, make_strategy
from pts.decoding.confidence import geometric_mean, mean_log_prob
from pts.decoding.escalate import second_model
from pts.decoding.reject import Score
from pts.decoding.session import Question, Session, branch_seed
from pts.decoding.strategy_options import StrategyOptions
from pts.decoding.votes import answer_key
from pts.demo.problems import demo_problems
from pts.errors import ConfigError
from pts.models.prompt import PromptFormat
from pts.policies.transformers import TransformersPolicy
from pts.records import Sampling
from pts.steering.hooks import Intervention
from tests.policies.tiny import tiny_model

SAMPLING = Sampling(budget=96)
PROMPTS = [problem.query for problem in demo_problems("train", 8, 5)]
SPECS = (
    "full",
    "nothink",
    "budget:12",
    "min:40",
    "draft",
    "concise:20",
    "early-exit",
    "best-of:3",
    "reject:5",
    "escalate",
)
EXITS_SOMETIMES = 0.9999


def decoder_of(demo, spec, sampling=SAMPLING, second=None, **options):
    return SteeredDecoder(
        demo, None, spec, sampling=sampling, options=StrategyOptions(second=second, **options)
    )


def answered(decoder, prompts=PROMPTS, *, variants=(), variant=0, seeds=None, heard=None):
    """The answers, and the tokens that the policies delivered for them."""
    listen = None if heard is None else lambda index, token: heard[index].append(token)
    with decoder.session(variants, listen) as session:
        questions = [
            Question(str(index), prompt, index if seeds is None else seeds[index], variant)
            for index, prompt in enumerate(prompts)
        ]
        found = dict(decoder.strategy.answers(session, questions))
        return [found[index] for index in range(len(prompts))], session.policy.work.tokens_delivered


@pytest.fixture
def second(demo):
    return second_model(demo, Sampling(temperature=0.3, budget=96))


@pytest.fixture(scope="module")
def vector(demo):
    return 3 * torch.randn(demo.model.config.hidden_size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("variant", [0, 1], ids=["plain", "steered"])
def test_the_ledger_holds_every_token_that_was_generated(demo, second, vector, spec, variant):
    options = {"exit_threshold": EXITS_SOMETIMES, "escalate_threshold": EXITS_SOMETIMES}
    decoder = decoder_of(demo, spec, second=second, **options)
    before = second().policy.work.tokens_delivered
    variants = [[Intervention(1, vector)]] if variant else []
    heard = [[] for _ in PROMPTS]
    answers, delivered = answered(decoder, variants=variants, variant=variant, heard=heard)
    delivered += second().policy.work.tokens_delivered - before
    assert sum(answer.usage.total for answer in answers) == delivered
    for answer, tokens in zip(answers, heard, strict=True):
        if answer.route == "second":
            assert answer.usage.second_model == len(answer.completion)
        else:
            assert answer.usage.thinking + answer.usage.answer == len(answer.completion)
            assert tuple(tokens) == answer.completion
        assert answer.strategy == spec
        assert answer.usage.injected <= len(answer.completion) <= SAMPLING.budget


@pytest.mark.parametrize("spec", ["early-exit", "best-of:3", "reject:5", "escalate"])
def test_the_same_seed_gives_the_same_answers_whatever_the_batch(demo, second, spec):
    decoder = decoder_of(demo, spec, second=second, exit_threshold=EXITS_SOMETIMES)
    together, _ = answered(decoder)
    alone = [answered(decoder, [prompt], seeds=[index])[0][0] for index, prompt in enumerate(PROMPTS)]
    few = SteeredDecoder(demo, None, decoder.strategy, sampling=SAMPLING, batch_rows=2)
    for other in (alone, answered(few)[0]):
        assert [answer.completion for answer in together] == [answer.completion for answer in other]
        assert [answer.usage.total for answer in together] == [answer.usage.total for answer in other]


def test_early_exit_goes_on_from_the_trial_that_passes(demo):
    eager, _ = answered(decoder_of(demo, "early-exit", exit_threshold=0.01))
    end, opening = "</think>", "The answer is"
    for answer in eager:
        assert answer.route == "early"
        assert answer.usage.probe == 0
        assert answer.usage.injected == 4
        assert f"{end} {opening}" in answer.text
        assert answer.confidence > 0.01
    cautious, _ = answered(
        decoder_of(demo, "early-exit", exit_threshold=1.0, sampling=Sampling(1.0, 0, 1.0, 0, 96))
    )
    assert {answer.route for answer in cautious} >= {"full"}
    for answer in cautious:
        assert answer.route != "full" or (answer.usage.rejected == answer.usage.injected == 0)
    assert any(answer.usage.probe > 0 for answer in cautious)


def test_early_exit_makes_no_trial_that_the_total_cannot_hold(demo):
    answers, delivered = answered(
        decoder_of(demo, "early-exit", sampling=Sampling(budget=20), exit_step=4, exit_threshold=0.01)
    )
    assert all(len(answer.completion) <= 20 and answer.usage.budget_kept for answer in answers)
    assert all(answer.usage.probe == 0 for answer in answers)
    assert sum(answer.usage.total for answer in answers) == delivered


def own_likelihood(demo, prompt, completion):
    """The mean log-probability of a completion's tokens under the model, whatever the sampler."""
    ids = torch.tensor([prompt + completion])
    with torch.no_grad():
        logs = demo.model(ids).logits[0, len(prompt) - 1 : -1].float().log_softmax(-1)
    return float(logs[torch.arange(len(completion)), ids[0, len(prompt) :]].mean())


def encoded(decoder, prompt):
    with decoder.session([]) as session:
        return session.encode(prompt)


def test_best_of_counts_the_votes_and_returns_the_likeliest(demo):
    n = 5
    decoder = decoder_of(demo, f"best-of:{n}")
    answers, _ = answered(decoder)
    drafts = []
    for k in range(n):
        seeds = [branch_seed(index, k) for index in range(len(PROMPTS))]
        drafts.append(answered(decoder_of(demo, "full"), seeds=seeds)[0])
    for index, answer in enumerate(answers):
        keys = [answer_key(branch[index].answer) for branch in drafts]
        votes = {key: keys.count(key) for key in keys}
        assert votes[answer_key(answer.answer)] == max(votes.values())
        assert answer.confidence == max(votes.values()) / n
        prompt = encoded(decoder, PROMPTS[index])
        likely = {
            branch[index].completion: own_likelihood(demo, prompt, branch[index].completion)
            for branch in drafts
        }
        same = [branch[index].completion for branch, key in zip(drafts, keys, strict=True)
                if key == answer_key(answer.answer)]  # fmt: skip
        assert answer.completion == max(same, key=likely.get)
        spent = sum(branch[index].usage.total for branch in drafts)
        assert answer.usage.rejected == spent - len(answer.completion)
    assert {answer.confidence for answer in answers} != {1.0}, "the problems are too easy to test a vote"


def test_best_of_without_any_answer_has_no_vote(demo):
    answers, _ = answered(decoder_of(demo, "best-of:3", sampling=Sampling(budget=6)))
    assert all(answer.confidence == 0 and answer.answer == "" for answer in answers)


def test_one_of_one_is_full(demo):
    full, _ = answered(decoder_of(demo, "full"))
    one, _ = answered(decoder_of(demo, "best-of:1"))
    assert [answer.completion for answer in full] == [answer.completion for answer in one]


@pytest.mark.parametrize(
    ("answers", "same"),
    [
        (("The answer is 26 .", "so 26", r"\boxed{26.0}"), True),
        (("1,234", "it is 1234."), True),
        (("Paris", " paris. "), True),
        ((r"\boxed{\frac{1}{2}}", r"\boxed{\frac{1}{3}}"), False),
        (("3.5", "3.25"), False),
        (("-3", "3"), False),
    ],
)
def test_answers_that_say_the_same_have_one_key(answers, same):
    assert (len({answer_key(answer) for answer in answers}) == 1) is same


def test_reject_returns_what_the_scorer_prefers_and_counts_what_it_took(demo):
    """A scorer that likes short branches: what is left must be the shortest in sight of what it saw."""
    seen = []

    def shortest(written):
        seen.append(written)
        return Score(-len(written.completion) if written.ended else -100.0, tokens=7)

    decoder = decoder_of(demo, "reject:6", scorer=shortest, reject_step=96)
    answers, delivered = answered(decoder)
    assert len(seen) == 6 * len(PROMPTS)
    assert all(len(written.probs) == len(written.completion) for written in seen)
    for answer in answers:
        assert answer.usage.scorer == 42
        mine = [written for written in seen if written.question == PROMPTS[int(answer.question)]]
        assert len(answer.completion) == min(len(written.completion) for written in mine if written.ended)
    assert sum(answer.usage.total - answer.usage.scorer for answer in answers) == delivered


def test_reject_drops_a_share_in_each_round(demo):
    sizes = []

    def count(written):
        sizes.append((written.question, len(written.completion)))
        return Score(mean_log_prob(written.probs))

    answered(decoder_of(demo, "reject:8", scorer=count, reject_step=4), PROMPTS[-1:])
    lengths = [size for _, size in sizes]
    assert [lengths.count(4), lengths.count(8), lengths.count(12), lengths.count(16)] == [8, 4, 2, 0]


def test_an_early_exit_that_never_comes_is_the_completion_of_full(demo):
    plain, _ = answered(decoder_of(demo, "full"))
    tried, _ = answered(decoder_of(demo, "early-exit", exit_threshold=1.0))
    for one, other in zip(plain, tried, strict=True):
        assert (other.route, other.completion) == ("full", one.completion)
    assert any(answer.usage.probe for answer in tried)


def test_a_score_that_is_no_number_is_refused(demo):
    decoder = decoder_of(demo, "reject:2", scorer=lambda written: Score(float("nan")))
    with pytest.raises(ConfigError, match="no number"):
        answered(decoder)


def test_escalate_asks_the_second_model_only_where_the_first_is_unsure(demo, second):
    sure, _ = answered(decoder_of(demo, "escalate", second=second, escalate_threshold=0.0))
    assert {answer.route for answer in sure} == {"first"}
    assert all(answer.usage.second_model == 0 for answer in sure)
    plain, _ = answered(decoder_of(demo, "full"))
    unsure, _ = answered(decoder_of(demo, "escalate", second=second, escalate_threshold=1.0))
    for answer, first in zip(unsure, plain, strict=True):
        if answer.confidence < 1:
            assert answer.route == "second"
            assert answer.usage.rejected == first.usage.total
            assert answer.usage.prompt == 2 * first.usage.prompt
    answer_alone, _ = answered(decoder_of(demo, "escalate", second=second, escalate_over="answer"))
    assert all(
        alone.confidence >= whole.confidence for alone, whole in zip(answer_alone, unsure, strict=True)
    ), "the demo model is sure of what it copies from its thinking"
    cut, _ = answered(decoder_of(demo, "escalate", sampling=Sampling(budget=5), second=second))
    assert {(answer.route, answer.confidence) for answer in cut} == {("second", 0.0)}


@pytest.mark.parametrize("spec", ["best-of:3", "reject:5"])
def test_a_greedy_sampler_is_refused_where_branches_would_agree(demo, spec):
    with pytest.raises(ConfigError, match=f"{spec} needs a temperature"):
        decoder_of(demo, spec, sampling=Sampling(temperature=0))


@pytest.mark.parametrize("sampling", [Sampling(temperature=0, budget=96), SAMPLING])
def test_a_confidence_is_of_the_models_own_probabilities(demo, second, sampling):
    """Whatever the sampler, which gives most tokens a probability of 1."""
    asked = decoder_of(demo, "escalate", sampling=sampling, second=second, escalate_threshold=0.0)
    answer = asked.generate(["What is 27 + 8 - 9 ?"])[0]
    own = own_likelihood(demo, encoded(asked, "What is 27 + 8 - 9 ?"), answer.completion)
    assert answer.confidence == pytest.approx(math.exp(own), abs=1e-4)
    assert answer.confidence < 0.999


def test_what_a_strategy_needs_is_asked_for_by_name(demo):
    with pytest.raises(ConfigError, match="escalate needs a second model"):
        decoder_of(demo, "escalate")
    with pytest.raises(ConfigError, match=r"'Boxed'.*cannot write"):
        decoder_of(demo, "early-exit", trial_opening="Boxed")
    for options in ({"exit_threshold": 0.0}, {"exit_step": 0}, {"exit_step": 1.5}, {"trial_tokens": 0}):
        with pytest.raises(ConfigError):
            decoder_of(demo, "early-exit", **options)
    for options in ({"reject_step": 0}, {"reject_share": 1.0}, {"reject_share": 0.0}):
        with pytest.raises(ConfigError):
            decoder_of(demo, "reject:2", **options)
    with pytest.raises(ConfigError):
        decoder_of(demo, "escalate", escalate_threshold=1.5)
    with pytest.raises(ConfigError, match="'prompt'"):
        decoder_of(demo, "escalate", escalate_over="prompt")


@pytest.mark.parametrize(
    ("spec", "said"), [("bestof:3", "best-of"), ("best-of", "whole number"), ("reject:x", "whole")]
)
def test_a_strategy_that_is_misspelt_or_lacks_its_number(spec, said):
    with pytest.raises(ConfigError, match=said):
        make_strategy(spec, StrategyOptions())


def test_an_instruction_that_the_vocabulary_cannot_write_is_told_in_the_log(demo, caplog):
    decoder_of(demo, "concise:20")
    assert "concise:20" in caplog.text


def test_means_leave_out_what_was_put_in():
    assert geometric_mean([float("nan"), 0.5, 0.125]) == pytest.approx(0.25)
    assert geometric_mean([float("nan")]) == 0.0
    assert geometric_mean([]) == 0.0


def test_models_that_do_not_think(demo):
    """Best-of, reject and escalate take completions as answers; early exit says what it lacks."""
    tokenizer = demo.tokenizer
    loaded = replace(tiny_model("qwen3", vocab=len(tokenizer)), tokenizer=tokenizer)
    fmt = PromptFormat(chat_template=False)
    sampling = Sampling(budget=12)
    session = Session(TransformersPolicy(loaded, fmt), sampling, None)
    other = second_model(demo, SAMPLING)
    for spec in ("full", "best-of:3", "reject:3", "escalate", "concise:9"):
        strategy = make_strategy(spec, StrategyOptions(second=other))
        strategy.check(session)
        before = session.policy.work.tokens_delivered + other().policy.work.tokens_delivered
        found = list(strategy.answers(session, [Question("a", "1 + 1 ?"), Question("b", "2 + 2 ?", seed=1)]))
        after = session.policy.work.tokens_delivered + other().policy.work.tokens_delivered
        assert sum(answer.usage.total for _, answer in found) == after - before
        assert all(answer.thinking == "" for _, answer in found if answer.route != "second")
    with pytest.raises(ConfigError, match="early-exit needs a model that thinks"):
        make_strategy("early-exit", StrategyOptions()).check(session)
