"""Steering where the text is what it was before a pivot."""

import numpy as np
import pytest
import torch

from pts.decoding import SteeredDecoder
from pts.decoding.context_match import Contexts, Trail, pivot_contexts
from pts.decoding.session import Ask, TokenLimits
from pts.errors import ConfigError
from pts.models.load import ModelOptions, load_model
from pts.records import Sampling
from pts.steering import interventions, load_vectors, steer
from pts.steering.vector_files import load_records

GREEDY = Sampling(temperature=0.0, top_k=0, top_p=1.0, budget=96)
QUESTIONS = ["What is 27 + 8 - 9 ?", "What is 4 + 6 + 5 + 2 - 7 ?"]


@pytest.fixture(scope="module")
def demo():
    return load_model(ModelOptions("demo"))


@pytest.fixture(scope="module")
def vectors():
    return load_vectors("demo")


def test_the_longest_context_that_the_tokens_end_with_counts():
    contexts = Contexts({(3,): 1, (2, 3): 2, (9, 2, 3): 3}, lasting=True)
    assert contexts.find([9, 2, 3]) == 3
    assert contexts.find([1, 2, 3]) == 2
    assert contexts.find([3]) == 1
    assert contexts.find([3, 2]) is None
    assert contexts.find([]) is None


def test_a_trail_is_on_after_its_contexts_alone_the_prompt_included():
    trail = Trail(Contexts({(5, 6): 0}), prompt=(1, 5))
    seen = [trail.steered(4)]
    for token in (6, 5, 6, 7):
        trail.hear(token)
        seen.append(trail.steered(4))
    assert seen == [0, 4, 0, 4, 0]
    assert trail.skipped == (1, 3)


def test_a_first_match_that_lasts_holds_to_the_end():
    trail = Trail(Contexts({(5,): 2, (6,): 3}, lasting=True), prompt=(1,))
    for token in (4, 6, 5, 4):
        trail.hear(token)
    assert trail.steered(1) == 3
    assert trail.skipped == (0,)
    other = trail.fork()
    other.hear(9)
    assert trail.skipped == other.skipped == (0,)


def test_contexts_that_cannot_be_matched_are_refused():
    with pytest.raises(ConfigError, match="at least one"):
        Contexts({})
    with pytest.raises(ConfigError, match="must last"):
        Contexts({(1,): 1})
    with pytest.raises(ConfigError, match="no records of nonsense"):
        pivot_contexts(load_records("demo"), None, ["nonsense"])


def by_hand(demo, variant, contexts, prompt, length):
    """A greedy loop over one row that reads the whole text anew for each token."""
    ids = list(prompt)
    with steer(demo.model, [variant], engine_driven=True) as steering:
        for _ in range(length):
            where = [at >= len(prompt) and contexts.find(ids[: at + 1]) is not None for at in range(len(ids))]
            steering.begin_pass(torch.tensor([1]), torch.tensor([ids]), torch.tensor([where]))
            ids.append(int(demo.model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    return tuple(ids[len(prompt) :])


def test_a_decoder_steers_at_matched_contexts_alone(demo, vectors):
    contexts = pivot_contexts(load_records("demo"), demo.tokenizer, length=2)
    strong = {"all": 2.0}
    decoders = {
        where: SteeredDecoder(
            demo,
            vectors,
            sampling=GREEDY,
            patterns=strong,
            where=where,
            contexts=contexts if where == "context" else None,
        )
        for where in ("gate", "always", "context")
    }
    written = {
        where: [answer.completion for answer in decoder.generate(QUESTIONS)]
        for where, decoder in decoders.items()
    }
    assert len({tuple(completions) for completions in written.values()}) == 3
    decoder = decoders["context"]
    variant = interventions(vectors, strong, gated=False)
    with decoder.session([variant]) as session:
        prompts = [session.encode(question) for question in QUESTIONS]
    for prompt, completion in zip(prompts, written["context"], strict=True):
        assert completion == by_hand(demo, variant, contexts, prompt, len(completion))


def test_a_prefix_is_read_again_as_it_was_written(demo, vectors):
    contexts = pivot_contexts(load_records("demo"), demo.tokenizer, length=2)
    decoder = SteeredDecoder(demo, vectors, sampling=GREEDY, where="context", contexts=contexts)
    variant = interventions(vectors, {"all": 2.0}, gated=False)
    limits = TokenLimits(total=96)
    with decoder.session([variant]) as session:
        prompt = session.encode(QUESTIONS[1])
        (whole,) = session.complete([Ask(0, prompt, limits, 0, variant=1)])
        cuts = (7, 15, 22)
        asks = [Ask(at, prompt, limits, 0, variant=1, prefix=whole.completion[:at]) for at in cuts]
        continued = {draft.ask.question: draft.completion for draft in session.complete(asks)}
    assert len(whole.budget.skipped) not in (0, len(whole.completion))
    assert all(completion == whole.completion for completion in continued.values())


def test_where_and_contexts_go_together(demo, vectors):
    with pytest.raises(ConfigError, match="go together"):
        SteeredDecoder(demo, vectors, where="context")
    with pytest.raises(ConfigError, match="go together"):
        SteeredDecoder(demo, vectors, contexts=Contexts({(1,): 0}))


def test_the_demo_sets_contexts_are_those_of_its_records(demo):
    records = load_records("demo")
    contexts = pivot_contexts(records, demo.tokenizer, ["self_correction"])
    chosen = [record for record in records if record.reasoning_pattern == "self_correction"]
    found = [contexts.find(demo.tokenizer.encode(record.pivot_context)) for record in chosen]
    assert found
    assert np.all([value == 0 for value in found])
