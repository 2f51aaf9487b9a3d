"""A running server as the engine: what it must show, what bad ones lead to, a search that one breaks off."""

import json
import socket
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from pts.errors import ConfigError, ModelError, PtsError, RunError
from pts.models.prompt import PromptFormat
from pts.policies.vllm import served_engine
from pts.policies.vllm.endpoint import EndpointPolicy
from pts.policies.vllm.http_client import checked_address
from pts.policies.vllm.served_engine import Logit
from pts.policies.vllm.server import from_16_bits
from pts.records import Problem, RolloutRequest, Sampling
from pts.runs.search_run import read_search
from pts.runs.search_summary import search_summary
from pts.setting_names import named_as, on_command_line
from pts.stages.evaluate.inputs import EvaluateInputs
from pts.stages.extract.inputs import ExtractInputs
from pts.stages.search.inputs import SearchInputs
from pts.stages.search.run import run_search
from tests.cli.one_line import complaint
from tests.policies.stand_in import MODEL, Demo, serving
from tests.stages.search.test_search_stage import counted

FORMAT = PromptFormat(thinking=True)
SAMPLING = Sampling(budget=40)


@pytest.fixture(autouse=True)
def no_keys(monkeypatch):
    for name in ("VLLM_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture(scope="module")
def demo():
    return Demo()


@pytest.fixture(scope="module")
def policy(demo):
    with serving(demo) as server:
        yield EndpointPolicy(f"{server.address}/v1/", "demo", FORMAT)


@pytest.fixture(scope="module")
def prompt(policy):
    return policy.encode(Problem("1", "What is 17 + 5 - 4 ?", "18"))


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_it_is_the_model_of_the_server(policy, demo, prompt):
    ours, theirs = policy.identity, demo.policy.identity
    assert (ours.model_id, ours.revision, ours.dtype) == (theirs.model_id, theirs.revision, theirs.dtype)
    assert (ours.device, ours.attention) == ("server", "vllm server")
    assert policy.end_token_ids == demo.policy.end_token_ids
    policy.check_length(len(prompt), SAMPLING)
    with pytest.raises(ConfigError, match="exceed the 511 positions"):
        policy.check_length(len(prompt), Sampling(budget=512))


@pytest.mark.parametrize("sampling", [SAMPLING, Sampling(temperature=1.0, top_k=5, top_p=1.0)])
def test_probabilities_are_those_of_the_model(policy, demo, prompt, sampling):
    (rollout,) = policy.rollouts([RolloutRequest(prompt, seed=5, sampling=SAMPLING)])
    ours = policy.next_token_probs(prompt, rollout.completion, sampling)
    theirs = demo.policy.next_token_probs(prompt, rollout.completion, sampling)
    for one, other in zip(ours, theirs, strict=True):
        assert set(one.ids.tolist()) == set(other.ids.tolist())
        assert np.allclose([one.prob(token) for token in other.ids.tolist()], other.probs, atol=1e-5)


def test_forced_avoided_and_stopped_completions(policy, prompt):
    first = policy.next_token_probs(prompt, (0,), SAMPLING)[0]
    likely, other = (int(token) for token in first.ids[:2])
    asked = [
        RolloutRequest(prompt, force=other, n=4, seed=1, sampling=SAMPLING, key="forced"),
        RolloutRequest(prompt, avoid=likely, n=40, seed=1, sampling=Sampling(budget=1), key="avoided"),
        RolloutRequest(prompt, sampling=Sampling(temperature=0.0, budget=40, stop=("=",)), key="stopped"),
    ]
    found = {}
    for rollout in policy.rollouts(asked):
        found.setdefault(rollout.request.key, []).append(rollout)
    assert {rollout.completion[0] for rollout in found["forced"]} == {other}
    assert sum(rollout.count for rollout in found["forced"]) == 4
    assert sum(rollout.count for rollout in found["avoided"]) == 40
    assert likely not in {rollout.completion[0] for rollout in found["avoided"]}
    (stopped,) = found["stopped"]
    assert stopped.finish == "end"
    assert policy.decode(stopped.completion).endswith("=")


def test_a_stream_may_be_given_up(policy, prompt):
    stream = policy.rollouts(RolloutRequest(prompt, seed=k, sampling=SAMPLING, key=str(k)) for k in range(60))
    next(stream)
    assert len(policy.next_token_probs(prompt, (7, 8), SAMPLING)) == 2
    stream.close()
    assert len(list(policy.rollouts([RolloutRequest(prompt, n=3, seed=1, sampling=Sampling(budget=3))])))


def test_a_slow_server_is_said_to_be_waited_for(demo, prompt, monkeypatch, caplog):
    monkeypatch.setattr(served_engine, "_QUIET", 0.2)
    with serving(demo) as server:
        policy = EndpointPolicy(server.address, "demo", FORMAT)
        server.settings["slow"] = ("/v1/completions",)
        asked = [RolloutRequest(prompt, n=2, seed=1, sampling=Sampling(budget=2))]
        assert sum(rollout.count for rollout in policy.rollouts(asked)) == 2
    assert "the server has sent nothing for" in caplog.text
    assert "2 requests are under way, each may take 600 s" in caplog.text


OTHER = {**MODEL, "id": "Qwen/Qwen3-8B", "root": "Qwen/Qwen3-8B"}
ADAPTER = {**MODEL, "parent": "Qwen/Qwen3-8B"}
NO_IDS = {"choices": [{"index": 0, "text": "7"}]}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"answers": {"/version": (500, "out of memory")}}, r"failed on /version \(500: out of memory\)"),
        (
            {"answers": {"/version": (200, "<html>Welcome")}},
            r"no JSON object \(<html>Welcome\): give the addr",
        ),
        ({"answers": {"/version": (200, ["0.32.0"])}}, "is no JSON object"),
        ({"answers": {"/version": (200, {"name": "ollama"})}}, "it is no vLLM server"),
        ({"answers": {"/version": (404, {"detail": "Not Found"})}}, "has no /version"),
        ({"answers": {"/version": (302, "")}}, "status 302: give the address to which it leads"),
        ({"version": "0.31.2"}, "runs vLLM 0.31.2, and pts works with 0.32 alone"),
        ({"models": [OTHER]}, "serves Qwen/Qwen3-8B, not demo: give --model Qwen/Qwen3-8B, or the --endpoint"),
        ({"models": [ADAPTER]}, "serves no model"),
        ({"answers": {"/tokenize": (200, {"tokens": [1, 2]})}}, "reads a text as other tokens"),
        ({"answers": {"/v1/completions": (200, NO_IDS)}}, "does not return token ids"),
        ({"answers": {"/v1/completions": (200, {"choices": []})}}, "holds no completion"),
        ({"answers": {"/v1/completions": (500, {"error": {"message": "EngineDead"}})}}, r"\(500: EngineDead\)"),
        ({"max_logprobs": 3}, r"refused a request \(400: Requested prompt logprobs of 5"),
        ({"key": "secret"}, "wants a key .*: set VLLM_API_KEY to the server's own"),
        ({"slow": ("/version",)}, "gave no answer within 0.5 s: .* give a larger --endpoint-timeout"),
    ],
)
def test_a_bad_server_is_refused(demo, settings, said):
    with serving(demo, **settings) as server, named_as(on_command_line), pytest.raises(PtsError, match=said):
        EndpointPolicy(server.address, "demo", FORMAT, timeout=0.5 if "slow" in settings else 60.0)


def test_a_server_of_another_number_format_or_without_a_flag(demo, prompt, monkeypatch):
    from pts.models.options import ModelOptions

    with serving(demo, max_logprobs=20) as server, named_as(on_command_line):
        with pytest.raises(ConfigError, match="computes in float32, and float16 was requested: start it with"):
            EndpointPolicy(server.address, ModelOptions("demo", dtype="float16"), FORMAT)
        policy = EndpointPolicy(server.address, "demo", FORMAT)
        with pytest.raises(ConfigError, match=r"does not give 32 log-prob.* vllm serve ... --max-logprobs 32"):
            policy.check_length(len(prompt), SAMPLING)
        policy.check_length(len(prompt), Sampling(top_k=8, budget=40))


def test_the_key_of_the_server_is_sent_and_no_other(demo, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    with serving(demo, key="secret") as server:
        with pytest.raises(ModelError, match="wants a key"):
            EndpointPolicy(server.address, "demo", FORMAT)
        assert {key for _, key in server.asked} == {None}
        monkeypatch.setenv("VLLM_API_KEY", "secret")
        assert EndpointPolicy(server.address, "demo", FORMAT).identity.device == "server"


def test_number_formats_show_in_logits():
    torch = pytest.importorskip("torch")
    logits = torch.randn(20, 6, generator=torch.Generator().manual_seed(0)) * 3 + 12
    for name in ("bfloat16", "float16"):
        seen = torch.log_softmax(logits.to(getattr(torch, name)).float(), dim=1)
        rows = [{k: Logit(float(x), k + 1) for k, x in enumerate(row)} for row in seen]
        assert from_16_bits(rows), name
    rows = [{k: Logit(float(x), k + 1) for k, x in enumerate(row)} for row in torch.log_softmax(logits, dim=1)]
    assert not from_16_bits(rows)
    assert not from_16_bits([{}, {3: Logit(-0.5, 1)}])


@pytest.mark.parametrize(
    "address", ["localhost:8000", "ftp://localhost", "http://", "", "http://host?model=x", "http://[::"]
)
def test_what_is_no_address_is_refused(address):
    with pytest.raises(ConfigError, match=r"such as http://localhost:8000\.$"):
        checked_address(address)


def test_addresses_are_read_with_or_without_a_path():
    assert checked_address("https://host/v1/") == checked_address("https://host/v1") == "https://host"
    assert checked_address("http://host:8000/") == "http://host:8000"
    assert checked_address("http://host/vllm/v1") == "http://host/vllm"


def test_settings_that_contradict_an_endpoint(capsys):
    with named_as(on_command_line):
        for more, said in (
            ({"engine": "transformers"}, "--endpoint is of a vLLM server"),
            ({"device": "cuda"}, "leave --device out"),
            ({"ray": "local"}, "one engine for all"),
            ({"endpoint_timeout": 0.0}, "endpoint-timeout is 0"),
            ({"endpoint": None, "endpoint_timeout": 5.0}, "give its --endpoint"),
        ):
            with pytest.raises(ConfigError, match=said):
                SearchInputs(**{"engine": "vllm", "endpoint": "http://localhost:8000", **more})
        for inputs in (partial(EvaluateInputs, model="demo"), partial(ExtractInputs, run=Path("runs/none"))):
            with pytest.raises(ConfigError, match="one engine for all"):
                inputs(engine="vllm", endpoint="http://localhost:8000", ray="local")
            with pytest.raises(ConfigError, match="--endpoint is of a vLLM server"):
                inputs(endpoint="http://localhost:8000")
    closed = f"http://127.0.0.1:{free_port()}"
    said = complaint(capsys, "verify", "--engine", "vllm", "--endpoint", closed)
    assert f"nothing answers at {closed} " in said
    assert "start vllm serve there, or correct --endpoint." in said


@pytest.mark.slow
def test_a_server_that_dies_in_a_search_loses_nothing(demo, tmp_path):
    port = free_port()
    inputs = SearchInputs(
        engine="vllm",
        endpoint=f"http://127.0.0.1:{port}",
        problems=3,
        levels=(2, 3),
        threshold=0.4,
        traces=1,
        audit=0.0,
        verify=False,
        output=tmp_path / "run",
    )
    broken = pytest.raises(ModelError, match=r"no longer answers .* a search goes on from what was drawn")
    with serving(demo, port, completions=60), broken:
        run_search(inputs)
    kept = search_summary(read_search(inputs.output)).tokens_generated
    assert kept > 0
    manifest = json.loads((inputs.output / "manifest.json").read_text())
    assert manifest["resolved"]["attention"] == "vllm server"
    assert "endpoint" not in manifest["settings"]
    # What vLLM drew in another process, under a model runner that it told, is not the same for sure.
    inside = {**manifest, "resolved": {**manifest["resolved"], "attention": "vllm V1"}}
    (inputs.output / "manifest.json").write_text(json.dumps(inside))
    with serving(demo, port), pytest.raises(RunError, match='attention "vllm V1" → "vllm server"'):
        run_search(inputs)
    (inputs.output / "manifest.json").write_text(json.dumps(manifest))
    with serving(demo, port):
        summary = run_search(inputs)
        whole = replace(inputs, output=tmp_path / "whole")
        run_search(whole)
    assert summary.status == "complete"
    assert summary.tokens_generated > kept
    assert counted(inputs.output) == counted(whole.output)
