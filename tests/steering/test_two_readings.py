"""Two readings of a completion: the probabilities that decoding had, and the positions where gates opened."""

import pytest
import torch

from pts.models.load import load_model
from pts.models.options import ModelOptions
from pts.models.prompt import PromptFormat
from pts.records import Problem, RolloutRequest, Sampling
from pts.steering import two_readings
from pts.steering.hooks import interventions
from pts.steering.steered_policy import steered_policy
from pts.steering.two_readings import Text, read_twice
from pts.steering.vector_files import load_vectors

SAMPLING = Sampling(budget=60)
FORMAT = PromptFormat(thinking=True)


@pytest.fixture(scope="module")
def loaded():
    return load_model(ModelOptions(spec="demo", dtype="float32"))


@pytest.fixture(scope="module")
def vectors():
    return load_vectors("demo")


def decoded(loaded, variant, count=3):
    """Steered completions with the probabilities that their tokens were drawn with."""
    with steered_policy(loaded, FORMAT, [variant]) as policy:
        requests = [
            RolloutRequest(
                policy.encode(Problem(str(n), f"What is {9 + n} + 8 - 4 ?", "")),
                seed=n,
                variant=1,
                key=str(n),
                sampling=SAMPLING,
            )
            for n in range(count)
        ]
        return [
            (Text(one.rollout.request.prompt, one.rollout.completion), one.new_probs)
            for one in policy.finished(requests)
        ]


@pytest.mark.parametrize("pattern", ["all", "organization_2", "unlabelled", "number"])
def test_the_steered_reading_has_the_probabilities_of_steered_decoding(loaded, vectors, pattern):
    """The patterns of the demo's set have the gates tokens, always, probe and entropy."""
    variant = interventions(vectors, {pattern: 2.0})
    texts, drawn_with = zip(*decoded(loaded, variant), strict=True)
    moved = 0
    for text, probs, reading in zip(
        texts, drawn_with, read_twice(loaded.model, variant, texts, SAMPLING), strict=True
    ):
        steered = [d.prob(token) for d, token in zip(reading.steered, text.completion, strict=True)]
        plain = [d.prob(token) for d, token in zip(reading.plain, text.completion, strict=True)]
        assert steered == pytest.approx(probs, abs=1e-4)
        # The prompt is not steered, so the first token is drawn as without.
        assert steered[0] == pytest.approx(plain[0], abs=1e-6)
        moved += sum(abs(one - other) > 0.02 for one, other in zip(steered, plain, strict=True))
    assert moved


def test_gates_are_open_where_their_rule_says(loaded, vectors):
    variant = interventions(vectors, {"all": 1.0})
    allowed = variant[0].gate.token_ids
    texts = [text for text, _ in decoded(loaded, variant)]
    for text, reading in zip(texts, read_twice(loaded.model, variant, texts, SAMPLING), strict=True):
        read = text.completion[:-1]
        assert list(reading.opened) == [*(token in allowed for token in read), False]
        assert any(reading.opened)
    everywhere = interventions(vectors, {"all": 1.0}, gated=False)
    (reading,) = read_twice(loaded.model, everywhere, texts[:1], SAMPLING)
    assert reading.opened == (True,) * (len(texts[0].completion) - 1) + (False,)


def test_other_tokens_than_those_written_are_read_too(loaded, vectors, monkeypatch):
    variant = interventions(vectors, {"all": 1.0})
    (text, _), *_ = decoded(loaded, variant)
    (whole,) = read_twice(loaded.model, variant, [Text(text.prompt, text.completion[:7])], SAMPLING, last=True)
    others = tuple(int(token) for token in whole.plain[0].ids)
    # In chunks the positions are those of the whole text.
    monkeypatch.setattr(two_readings, "_CHUNK", 5)
    (along,) = read_twice(loaded.model, variant, [Text(*(text.prompt, text.completion), {7: others})], SAMPLING)
    for one, other in ((along.plain[7], whole.plain[0]), (along.steered[7], whole.steered[0])):
        expected = [other.prob(token) for token in others]
        assert [one.prob(token) for token in others] == pytest.approx(expected, abs=1e-5)
    assert len(along.plain[6].ids) == 1


def test_what_comes_next_is_read_after_the_whole_text(loaded, vectors):
    variant = interventions(vectors, {"all": 1.0})
    (text, _), *_ = decoded(loaded, variant)
    (whole,) = read_twice(loaded.model, variant, [text], SAMPLING)
    begun = Text(text.prompt, text.completion[:7])
    (after,) = read_twice(loaded.model, variant, [begun], SAMPLING, last=True)
    for one, other in ((after.plain, whole.plain), (after.steered, whole.steered)):
        assert len(one) == 1
        assert torch.tensor(one[0].probs).sum().item() == pytest.approx(1)
        token = text.completion[7]
        assert one[0].prob(token) == pytest.approx(other[7].prob(token), abs=1e-5)
    assert after.opened == whole.opened[:7]


@pytest.mark.filterwarnings("error")
def test_a_text_of_which_nothing_is_steered_reads_the_same_twice(loaded, vectors):
    variant = interventions(vectors, {"all": 1.0})
    (text, _), *_ = decoded(loaded, variant)
    (first,) = read_twice(loaded.model, variant, [Text(text.prompt, text.completion[:1])], SAMPLING)
    (none,) = read_twice(loaded.model, variant, [Text(text.prompt, ())], SAMPLING, last=True)
    assert first.opened == (False,)
    assert none.opened == ()
    for reading in (first, none):
        assert reading.plain == reading.steered
        assert len(reading.plain) == 1


def test_passes_of_a_few_tokens_read_the_same(loaded, vectors, monkeypatch):
    variant = interventions(vectors, {"unlabelled": 1.0})
    texts = [text for text, _ in decoded(loaded, variant)]
    whole = read_twice(loaded.model, variant, texts, SAMPLING)
    monkeypatch.setattr(two_readings, "_CHUNK", 5)
    for one, other, text in zip(read_twice(loaded.model, variant, texts, SAMPLING), whole, texts, strict=True):
        assert one.opened == other.opened
        for mine, theirs, token in zip(one.steered, other.steered, text.completion, strict=True):
            assert mine.prob(token) == pytest.approx(theirs.prob(token), abs=1e-5)
