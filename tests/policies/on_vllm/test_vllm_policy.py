"""The policy over vLLM on the demo model: exact probabilities, draws, ends, streams; one engine for all."""

from collections import Counter

import numpy as np
import pytest

from pts.errors import ConfigError
from pts.models.load import ModelOptions, load_model
from pts.models.prompt import PromptFormat
from pts.policies import open_policy, policy_of
from pts.policies.vllm.installed import installed_version
from pts.records import Problem, RolloutRequest, Sampling
from pts.stages.shared.engine import Opened
from pts.verification import quick_verify

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(installed_version() is None, reason="vLLM is not installed in this environment"),
]
FORMAT = PromptFormat(thinking=True)
SAMPLING = Sampling(budget=40)


@pytest.fixture(scope="module")
def policy(one_engine):
    return open_policy("demo", engine="vllm", prompt_format=FORMAT, batch_rows=64)


@pytest.fixture(scope="module")
def reference():
    return policy_of(load_model(ModelOptions("demo")), FORMAT)


@pytest.fixture(scope="module")
def prompt(policy):
    return policy.encode(Problem("1", "What is 17 + 5 - 4 ?", "18"))


def outcome(policy, requests):
    found = {request.key: Counter() for request in requests}
    for rollout in policy.rollouts(requests):
        found[rollout.request.key][rollout.completion, rollout.finish] += rollout.count
    return found


def test_it_is_the_model_that_transformers_loads(policy, reference, prompt):
    ours, theirs = policy.identity, reference.identity
    assert (ours.model_id, ours.revision, ours.dtype, ours.layers) == (
        theirs.model_id,
        theirs.revision,
        theirs.dtype,
        theirs.layers,
    )
    assert ours.attention.startswith("vllm V")
    assert policy.end_token_ids == reference.end_token_ids
    assert policy.vocabulary_size == reference.vocabulary_size
    assert prompt == reference.encode(Problem("1", "What is 17 + 5 - 4 ?", "18"))


@pytest.mark.parametrize(
    "sampling",
    [
        SAMPLING,
        Sampling(temperature=1.0, top_k=5, top_p=1.0),
        Sampling(temperature=0.0),
        Sampling(top_k=0, min_p=0.05, top_p=1.0),
    ],
)
def test_probabilities_are_those_of_transformers(policy, reference, prompt, sampling):
    for rollout in policy.rollouts([RolloutRequest(prompt, n=3, seed=5, sampling=SAMPLING)]):
        ours = policy.next_token_probs(prompt, rollout.completion, sampling)
        theirs = reference.next_token_probs(prompt, rollout.completion, sampling)
        assert len(ours) == len(rollout.completion)
        for one, other in zip(ours, theirs, strict=True):
            assert set(one.ids.tolist()) == set(other.ids.tolist())
            assert np.allclose([one.prob(token) for token in other.ids.tolist()], other.probs, atol=1e-4)


def test_greedy_completions_are_those_of_transformers(policy, reference):
    greedy = Sampling(temperature=0.0, budget=40)
    asked = [
        RolloutRequest(policy.encode(Problem("1", f"What is {a} + {b} ?", "")), key=f"{a} {b}", sampling=greedy)
        for a in (3, 17, 28)
        for b in (5, 14)
    ]
    assert outcome(policy, asked) == outcome(reference, asked)


def test_the_short_checks_pass(policy):
    report = quick_verify(Opened(policy, FORMAT, policy.tokenizer).subject(SAMPLING))
    assert report.passed, report.text()
    assert {check.name: check.status for check in report.checks}["first tokens"] == "passed"


def test_forced_and_avoided_first_tokens(policy, prompt):
    first = policy.next_token_probs(prompt, (0,), SAMPLING)[0]
    likely, other = (int(token) for token in first.ids[:2])
    asked = [
        RolloutRequest(prompt, force=other, n=8, seed=1, sampling=SAMPLING, key="forced"),
        RolloutRequest(prompt, avoid=likely, n=400, seed=1, sampling=Sampling(budget=1), key="avoided"),
    ]
    found = outcome(policy, asked)
    assert {completion[0] for completion, _ in found["forced"]} == {other}
    assert found["forced"].total() == 8
    drawn = Counter()
    for (completion, finish), count in found["avoided"].items():
        assert finish == "budget" or completion[-1] in policy.end_token_ids
        drawn[completion[0]] += count
    assert drawn.total() == 400
    assert likely not in drawn
    left = 1 - first.prob(likely)
    # Five standard errors of a share over 400 draws: a false alarm once in a million.
    assert drawn[other] / 400 == pytest.approx(first.prob(other) / left, abs=5 * 0.5 / 20)


def test_a_request_has_the_same_result_alone_and_in_company(policy, prompt):
    wanted = RolloutRequest(prompt, n=4, seed=9, sampling=SAMPLING, key="wanted")
    company = [RolloutRequest(prompt, n=4, seed=100 + k, sampling=SAMPLING, key=str(k)) for k in range(12)]
    alone = outcome(policy, [wanted])["wanted"]
    assert alone.total() == 4
    assert outcome(policy, [*company, wanted])["wanted"] == alone
    assert len(set(map(str, outcome(policy, company).values()))) > 6


def test_what_is_complete_is_not_continued_and_budgets_are_kept(policy, prompt):
    end = policy.end_token_ids[0]
    asked = [
        RolloutRequest(prompt, (7, end), n=2, sampling=SAMPLING, key="ended"),
        RolloutRequest(prompt, force=end, n=2, sampling=SAMPLING, key="forced"),
        RolloutRequest(prompt, (7, 8), n=2, sampling=Sampling(budget=2), key="full"),
        RolloutRequest(prompt, n=16, sampling=Sampling(budget=5), key="short"),
        RolloutRequest(prompt, n=0, sampling=SAMPLING, key="none"),
    ]
    found = outcome(policy, asked)
    assert found["ended"] == {((7, end), "end"): 2}
    assert found["forced"] == {((end,), "end"): 2}
    assert found["full"] == {((7, 8), "budget"): 2}
    assert not found["none"]
    assert {len(completion) for completion, finish in found["short"] if finish == "budget"} <= {5}
    assert found["short"].total() == 16


def test_a_stop_text_ends_a_completion_and_a_stream_may_be_given_up(policy, prompt):
    stop = Sampling(temperature=0.0, budget=40, stop=("=",))
    ((completion, finish),) = outcome(policy, [RolloutRequest(prompt, key="s", sampling=stop)])["s"]
    assert finish == "end"
    assert policy.decode(completion).endswith("=")
    assert policy.end_of_stop(completion, ("=",)) == len(completion)
    stream = policy.rollouts(RolloutRequest(prompt, seed=k, sampling=SAMPLING, key=str(k)) for k in range(200))
    next(stream)
    # A question in between is answered, and loses nothing of the stream.
    assert len(policy.next_token_probs(prompt, completion, SAMPLING)) == len(completion)
    assert next(stream).count == 1
    stream.close()
    assert outcome(policy, [RolloutRequest(prompt, key="s", sampling=stop)])["s"] == {(completion, finish): 1}


@pytest.mark.parametrize(
    ("sampling", "said"),
    [
        (Sampling(min_p=0.1), "another order"),
        (Sampling(budget=9999), "positions"),
    ],
)
def test_what_vllm_does_otherwise_is_refused(policy, prompt, sampling, said):
    with pytest.raises(ConfigError, match=said):
        policy.check_length(len(prompt), sampling)
    with pytest.raises(ConfigError, match=said):
        list(policy.rollouts([RolloutRequest(prompt, sampling=sampling)]))


@pytest.mark.parametrize("more", [{"variant": 1}, {"guide": lambda: None}, {"resumed": True, "prefix": (7,)}])
def test_what_it_does_not_offer_is_refused(policy, prompt, more):
    with pytest.raises(ConfigError, match="steerable=True"):
        list(policy.rollouts([RolloutRequest(prompt, sampling=SAMPLING, **more)]))
