"""Budgets in a server, and what one lacks that `pts` cannot act inside: a stand-in for vLLM, the demo model."""

from dataclasses import replace

import numpy as np
import pytest

from pts.decoding.budget import BudgetGuide
from pts.decoding.limits import TokenLimits
from pts.decoding.think_format import find_think_format
from pts.errors import ConfigError, ModelError
from pts.models.prompt import PromptFormat
from pts.policies.vllm.endpoint import EndpointPolicy
from pts.records import Problem, RolloutRequest, Sampling
from tests.policies.stand_in import Demo, Worker, serving
from tests.serving.test_completions import spec

FORMAT = PromptFormat(thinking=True)
GREEDY = Sampling(temperature=0.0, budget=30)
FLAGS = r"VLLM_SERVER_DEV_MODE=1 vllm serve \.\.\. --worker-extension-cls pts\.serving\.worker\.PtsServed "


@pytest.fixture(autouse=True)
def direct(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("VLLM_API_KEY", raising=False)


@pytest.fixture(scope="module")
def demo():
    return Demo()


@pytest.fixture(scope="module")
def prompt(demo):
    return demo.policy.encode(Problem("1", "What is 17 + 5 - 4 ?", "18"))


def opened(server, **more):
    return EndpointPolicy(server.address, "demo", FORMAT, steerable=True, **more)


def asked(demo, prompt):
    think = find_think_format(demo.loaded.tokenizer, FORMAT)
    limits = [TokenLimits(thinking=8, total=30), TokenLimits(least_thinking=20, total=30), TokenLimits(total=5)]

    def guided(limit):
        ends = demo.policy.end_token_ids
        return lambda: BudgetGuide(limit, think, opened=think.is_open(prompt), end_token_ids=ends)

    found = [
        RolloutRequest(prompt, seed=k, guide=guided(limit), key=f"guided {k} {number}", sampling=sampling)
        for number, limit in enumerate(limits)
        for k, sampling in enumerate((GREEDY, Sampling(budget=30)))
    ]
    first = demo.policy.next_token_probs(prompt, (0,), GREEDY)[0]
    return [
        *found,
        RolloutRequest(prompt, avoid=int(first.ids[0]), key="avoided", sampling=GREEDY),
        RolloutRequest(prompt, (7, 8), force=9, key="forced", sampling=Sampling(budget=9, stop=("=",))),
    ]


def completions(policy, requests):
    return {one.rollout.request.key: one for one in policy.finished(requests, own_probs=True)}


def test_completions_in_a_server_are_those_of_the_own_engine(demo, prompt):
    requests, worker = asked(demo, prompt), Worker(demo)
    with serving(demo, worker=worker) as server:
        found = completions(opened(server), requests)
    right = completions(demo.policy, requests)
    for key, one in found.items():
        other = right[key]
        assert one.rollout == replace(other.rollout, request=one.rollout.request), key
        assert np.allclose(one.new_probs, other.new_probs, atol=1e-3, equal_nan=True)
        if one.guide is not None:
            assert (one.guide.injected, one.guide.stopped) == (other.guide.injected, other.guide.stopped)
    assert any(one.guide.injected for key, one in found.items() if key.startswith("guided"))
    assert len(worker.service.completions) == 0


def test_several_completions_of_one_request_are_drawn_apart(demo, prompt):
    with serving(demo, worker=Worker(demo)) as server:
        several = [RolloutRequest(prompt, seed=3, n=6, sampling=Sampling(budget=12))]
        found = [one.rollout.completion for one in opened(server).finished(several)]
    assert len(found) == 6
    assert len(set(found)) > 1


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, FLAGS),
        ({"answers": {"/collective_rpc": (500, "no attribute pts_about")}}, FLAGS),
        ({"about": {"services": 0}}, FLAGS),
        ({"about": {"asynchronous": True}}, "--no-async-scheduling"),
        ({"about": {"eager": False}}, r"compiled graphs.* vllm serve \.\.\. --enforce-eager\.$"),
        ({"about": {"v2": True}}, r"start it with VLLM_USE_V2_MODEL_RUNNER=0\.$"),
        ({"about": {}, "workers": 2}, "in 2 workers, and pts acts in one alone"),
        ({"about": {}, "version": "9.9.9"}, "has pts 9.9.9 beside vLLM.* install the same version for both"),
    ],
)
def test_a_server_in_which_pts_cannot_act_is_refused(demo, settings, said, monkeypatch):
    about = settings.pop("about", None)
    if "version" in settings:
        monkeypatch.setattr("pts.serving.worker.__version__", settings.pop("version"))
    worker = None if about is None else Worker(demo, **about)
    with serving(demo, worker=worker, **settings) as server, pytest.raises(ConfigError, match=said):
        opened(server)


def test_without_vectors_compiled_graphs_will_do(demo, prompt):
    with serving(demo, worker=Worker(demo, eager=False)) as server:
        policy = opened(server, eager=False)
        assert completions(policy, [RolloutRequest(prompt, key="a", sampling=GREEDY)])["a"].rollout.completion
        with pytest.raises(ConfigError, match="compiled graphs"):
            policy.residuals([prompt], [0])
        with pytest.raises(ValueError, match="names variant 1 of a policy that has none"):
            completions(policy, [RolloutRequest(prompt, variant=1, sampling=GREEDY)])


def test_what_goes_wrong_in_the_server_is_told_in_one_line(demo, prompt):
    worker = Worker(demo)
    with serving(demo, worker=worker) as server:
        policy = opened(server)
        wanted = [RolloutRequest(prompt, key="a", sampling=GREEDY)]
        # As one that was restarted.
        worker.service.completions.begin = lambda *_: None
        with pytest.raises(ModelError, match="no longer has what this client gave it: it was restarted"):
            completions(policy, wanted)


def test_a_client_that_ends_leaves_nothing(demo, prompt):
    worker = Worker(demo)
    with serving(demo, worker=worker) as server:
        policy, other = opened(server), opened(server)
        for one in (policy, other):
            completions(one, [request for request in asked(demo, prompt) if request.guide is not None][:1])
        assert len(worker.service.kept) == 1
        for one in (policy, other):
            worker.service.completions.begin(f"{one.inside._client} 99", spec().text(), prompt, [])
        policy.inside._end()
        assert (len(worker.service.kept), len(worker.service.completions)) == (1, 1)
        other.inside._end()
    assert (len(worker.service.kept), len(worker.service.completions)) == (0, 0)
