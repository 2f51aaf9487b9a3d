"""The decoder: rows steered differently share a batch, seeds decide, and nothing stays on the model."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pts.decoding import SteeredDecoder
from pts.decoding.session import Ask, Question, Session
from pts.demo.problems import demo_problems
from pts.errors import ConfigError
from pts.policies.transformers import TransformersPolicy
from pts.records import RolloutRequest, Sampling
from pts.steering import load_vectors
from pts.steering.hooks import Intervention, steer
from pts.steering.vector_set import Gate
from tests.policies.tiny import tiny_model

PROMPTS = [problem.query for problem in demo_problems("train", 6, 9)]
SAMPLING = Sampling(budget=96)
GREEDY = replace(SAMPLING, temperature=0.0)
GATES = ("always", "probe", "tokens", "entropy")


@pytest.fixture(scope="module")
def vectors():
    return load_vectors("demo")


def hooks_left(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def completions(answers):
    return [answer.completion for answer in answers]


def test_rows_steered_differently_give_greedily_what_each_gives_alone(demo, vectors):
    decoder = SteeredDecoder(demo, vectors, "full", sampling=GREEDY)
    name = next(iter(vectors.vectors))
    patterns = [None, {}, {name: 2.0}, {name: -3.0}, {name: 5.0}, {}]
    together = decoder.generate(PROMPTS, patterns=patterns)
    for prompt, pattern, answer in zip(PROMPTS, patterns, together, strict=True):
        (alone,) = decoder.generate([prompt], patterns=[pattern])
        assert alone.completion == answer.completion
    plain = SteeredDecoder(demo, None, "full", sampling=GREEDY).generate(PROMPTS)
    assert [plain[1].completion, plain[5].completion] == [together[1].completion, together[5].completion]
    assert completions(plain) != completions(together)


def test_answers_come_in_order_and_depend_on_the_seed_alone(demo, vectors):
    wide = SteeredDecoder(demo, vectors, "budget:24", sampling=SAMPLING)
    narrow = SteeredDecoder(demo, vectors, "budget:24", sampling=SAMPLING, batch_rows=1)
    first = wide.generate(PROMPTS, seed=4)
    assert [answer.question for answer in first] == [str(index) for index in range(len(PROMPTS))]
    assert completions(first) == completions(narrow.generate(PROMPTS, seed=4))
    assert completions(first) == completions(wide.generate(PROMPTS, seed=4))
    assert completions(first) != completions(wide.generate(PROMPTS, seed=5))
    assert completions(first)[:2] == completions(wide.generate(PROMPTS[:2], seed=4))


@pytest.mark.parametrize("steered", [True, False])
def test_the_bound_on_rows_holds(demo, vectors, steered):
    decoder = SteeredDecoder(demo, vectors, "nothink", sampling=SAMPLING, batch_rows=2)
    with decoder.session(
        [[Intervention(0, torch.zeros(demo.model.config.hidden_size))]] if steered else []
    ) as session:
        questions = [Question(str(index), prompt) for index, prompt in enumerate(PROMPTS)]
        list(decoder.strategy.answers(session, questions))
        work = session.policy.work
        assert work.rows_forwarded / work.forward_passes <= 2


@pytest.mark.parametrize("spec", ["full", "early-exit", "reject:3"])
def test_no_hook_is_left_whatever_happens(demo, vectors, spec):
    before = hooks_left(demo.model)
    decoder = SteeredDecoder(demo, vectors, spec, sampling=SAMPLING)
    assert hooks_left(demo.model) == before
    decoder.generate(PROMPTS)
    assert hooks_left(demo.model) == before
    stream = decoder.stream(PROMPTS)
    next(stream)
    assert hooks_left(demo.model) > before
    stream.close()
    assert hooks_left(demo.model) == before

    def fails(index, token):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decoder.generate(PROMPTS, listen=fails)
    assert hooks_left(demo.model) == before
    with pytest.raises(ConfigError, match="empty"):
        decoder.generate([*PROMPTS, " "])
    assert hooks_left(demo.model) == before


def test_patterns_must_be_of_a_set_and_one_a_prompt(demo, vectors):
    with pytest.raises(ConfigError, match="need a vector set"):
        SteeredDecoder(demo, None, "full", patterns={"self_correction": 1.0})
    with pytest.raises(ConfigError, match="there are 6"):
        SteeredDecoder(demo, vectors, "full", sampling=SAMPLING).generate(PROMPTS, patterns=[None])


def gate_of(kind, hidden):
    if kind == "probe":
        weight = torch.randn(hidden, generator=torch.Generator().manual_seed(4))
        return Gate("probe", weight=weight, threshold=0.0)
    if kind == "tokens":
        return Gate("tokens", token_ids=tuple(range(2, 37, 2)))
    if kind == "entropy":
        return Gate("entropy", threshold=1.0)
    return Gate()


@pytest.mark.parametrize("kind", GATES)
@pytest.mark.parametrize("name", ["qwen3", "gemma3"])
def test_going_on_from_a_steered_prefix_is_as_if_it_had_never_stopped(name, kind):
    """The prefix is read in one pass, steered as it was when it was written one token at a time."""
    loaded = tiny_model(name)
    vector = 2 * torch.randn(32, generator=torch.Generator().manual_seed(3))
    variants = [[Intervention(1, vector, gate_of(kind, 32))]]
    prompt, sampling = (5, 9, 12, 7), Sampling(1.0, 0, 1.0, 0.0, 12)
    plain = TransformersPolicy(loaded)
    with steer(loaded.model, variants, engine_driven=True) as steering, plain.steered(steering) as policy:
        whole = next(
            finished
            for seed in range(20)
            for finished in policy.finished([RolloutRequest(prompt, seed=seed, variant=1, sampling=sampling)])
            if len(finished.rollout.completion) == 12
        )
        completion = whole.rollout.completion
        plain_differs = []
        for size in (1, 4, 9):
            # The plain reading of the same prefix, kept by the policy, must not be taken for the steered one.
            with TransformersPolicy(loaded).steered(steering) as fresh:
                rests = [rest_of(fresh, whole, size, variant) for variant in (0, 1)]
            for variant, rest in enumerate(rests):
                same = rest.rollout.completion == completion and np.allclose(
                    rest.new_probs, whole.new_probs[size:], atol=1e-5
                )
                assert same or not variant
                plain_differs += [] if variant else [not same]
    assert any(plain_differs)


def rest_of(policy, whole, size, variant):
    """A completion drawn on from its first tokens."""
    request = replace(
        whole.rollout.request,
        prefix=whole.rollout.completion[:size],
        variant=variant,
        guide=WantsNothing,
        resumed=True,
    )
    (rest,) = policy.finished([request])
    return rest


class WantsNothing:
    """A guide that leaves every token to the model."""

    injected = skipped = ()

    def steered(self, variant):
        return variant

    def wish(self):
        return None

    def advance(self, token, moved=False):
        return False

    def fork(self):
        return self


def test_a_session_goes_on_from_a_pause_with_the_counts_so_far(demo, vectors):
    decoder = SteeredDecoder(demo, vectors, "full", sampling=SAMPLING)
    with decoder.session([]) as session:
        assert isinstance(session, Session)
        prompt = session.encode(PROMPTS[0])
        limits = session.limits(decoder.strategy.budget)
        (first,) = session.complete([Ask(0, prompt, replace(limits, total=5), seed=1)])
        assert (first.stop, first.budget.total, len(first.completion)) == ("total limit", 5, 5)
        rest = Ask(0, prompt, limits, 1, prefix=first.completion, budget=first.budget)
        (second,) = session.complete([rest], probs=True)
        assert second.completion[:5] == first.completion
        assert second.new_tokens == len(second.probs) == len(second.completion) - 5
        assert first.probs == ()
        (whole,) = session.complete([Ask(0, prompt, limits, seed=1)])
        assert second.completion == whole.completion, "the stream of draws goes on where it was"
        assert second.budget.total == len(second.completion)
        assert first.budget.total == 5
