"""A real vLLM server of the demo model as the engine of a search, and steered: on a CPU."""

import json

import numpy as np
import pytest
import torch

from pts.cli import run
from pts.errors import ConfigError
from pts.models.load import ModelOptions, load_model
from pts.models.prompt import PromptFormat
from pts.policies import open_policy, policy_of
from pts.policies.vllm.http_client import Refused
from pts.policies.vllm.installed import installed_version
from pts.policies.vllm.served_engine import COMPLETIONS, body_of
from pts.records import Problem, RolloutRequest, Sampling
from pts.runs.search_run import read_search
from pts.stages.search.inputs import SearchInputs
from pts.stages.search.run import run_search
from pts.steering.tables import Intervention
from pts.steering.vector_set import Gate
from pts.steering.vllm_steering import steer_vllm
from tests.policies.on_vllm.test_vllm_commands import answers as answers_of
from tests.policies.on_vllm.test_vllm_policy import outcome
from tests.serving.test_completions import spec
from tests.stages.search.test_search_stage import counted

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(installed_version() is None, reason="vLLM is not installed in this environment"),
]
FORMAT = PromptFormat(thinking=True)
SAMPLING = Sampling(budget=40)
SEARCH = SearchInputs(engine="vllm", problems=2, levels=(2, 3), threshold=0.4, traces=1, audit=0.0)
QUESTIONS = ["What is 17 + 5 - 4 ?", "What is 28 - 13 + 7 ?"]


@pytest.fixture(scope="module")
def served(endpoint):
    return open_policy("demo", engine="vllm", prompt_format=FORMAT, endpoint=endpoint)


@pytest.fixture(scope="module")
def inside(one_engine):
    return open_policy("demo", engine="vllm", prompt_format=FORMAT, batch_rows=64)


@pytest.fixture(scope="module")
def steered_server(endpoint):
    return open_policy("demo", engine="vllm", prompt_format=FORMAT, endpoint=endpoint, steerable=True)


@pytest.fixture(scope="module")
def steered_here(one_engine):
    return open_policy("demo", engine="vllm", prompt_format=FORMAT, batch_rows=64, steerable=True)


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


def test_a_search_has_the_findings_of_the_engine_in_this_process(endpoint, one_engine, tmp_path):
    outputs = []
    for name, more in (("served", {"endpoint": endpoint}), ("inside", {"verify": False})):
        outputs.append(tmp_path / name)
        given = {**SEARCH.__dict__, **more, "output": outputs[-1]}
        assert run_search(SearchInputs(**given)).status == "complete"
    assert counted(outputs[0]) == counted(outputs[1])
    assert counted(outputs[0])
    assert [one.problem_id for one in read_search(outputs[0]).results]


@pytest.fixture(scope="module")
def prompts(steered_server):
    return [steered_server.encode(Problem(str(k), text, "")) for k, text in enumerate(QUESTIONS)]


@pytest.fixture(scope="module")
def variants(steered_here, prompts):
    """Variants of each gate, strong enough to change what is written, from a seed."""

    def made(seed, last=4):
        layers, width = steered_here.inside.layers, steered_here.identity.hidden_size
        generator = torch.Generator().manual_seed(seed)
        norms = steered_here.residuals(prompts[:1], list(range(layers)))[0].norm(dim=-1)

        def vector(layer, strength):
            random = torch.randn(width, generator=generator)
            return random * (strength * norms[layer] / random.norm())

        probe, even = torch.randn(width, generator=generator), tuple(range(0, steered_here.vocabulary_size, 2))
        return [
            (Intervention(2, vector(2, 2.0)), Intervention(0, vector(0, 1.0))),
            (Intervention(2, vector(2, 2.0), Gate("probe", threshold=0.0, weight=probe)),),
            (Intervention(4, vector(4, 3.0), Gate("tokens", token_ids=even)),),
            (Intervention(2, vector(2, 2.0), Gate("entropy", threshold=0.3)),),
        ][:last]

    return made


def of_every_variant(prompts, count, sampling):
    return [
        RolloutRequest(prompt, seed=k, variant=variant, key=f"{k} {variant}", sampling=sampling)
        for k, prompt in enumerate(prompts)
        for variant in range(count + 1)
    ]


def completions(policy, asked):
    return {found.rollout.request.key: found for found in policy.finished(asked, own_probs=True)}


def require_equal(found, right):
    for key, one in right.items():
        assert found[key].rollout.completion == one.rollout.completion, key
        assert np.allclose(found[key].new_probs, one.new_probs, atol=1e-3, equal_nan=True), key


@pytest.mark.parametrize("sampling", [Sampling(temperature=0.0, budget=40), SAMPLING])
def test_steered_rows_are_those_of_the_engine_in_this_process(
    steered_server, steered_here, prompts, variants, sampling
):
    asked = of_every_variant(prompts, 4, sampling)
    with steer_vllm(steered_here, variants(4)) as here:
        right = completions(here, asked)
    with steer_vllm(steered_server, variants(4)) as there:
        found = completions(there, asked)
    require_equal(found, right)
    for variant in range(1, 5):
        rows = range(len(prompts))
        assert any(found[f"{k} {variant}"].new_probs != found[f"{k} 0"].new_probs for k in rows), variant
    assert steered_server.inside.hooks() == 0


def test_two_clients_steer_one_server_by_vectors_of_their_own(
    endpoint, steered_server, steered_here, prompts, variants
):
    other = open_policy("demo", engine="vllm", prompt_format=FORMAT, endpoint=endpoint, steerable=True)
    asked = of_every_variant(prompts, 2, Sampling(temperature=0.0, budget=24))
    right = []
    for seed in (4, 5):
        with steer_vllm(steered_here, variants(seed, 2)) as here:
            right.append(completions(here, asked))
    with steer_vllm(steered_server, variants(4, 2)) as one, steer_vllm(other, variants(5, 2)) as two:
        streams = [one.finished(asked, own_probs=True), two.finished(asked, own_probs=True)]
        found = [{}, {}]
        for pair in zip(*streams, strict=True):
            for place, each in enumerate(pair):
                found[place][each.rollout.request.key] = each
    for mine, its in zip(found, right, strict=True):
        require_equal(mine, its)
    assert right[0]["0 1"].rollout.completion != right[1]["0 1"].rollout.completion
    # What the first one steered is in no cache that an unsteered request reads.
    written = right[0]["0 1"].rollout.completion[:-1]
    again = [RolloutRequest(prompts[0], written, key="again", sampling=Sampling(temperature=0.0, budget=40))]
    require_equal(completions(steered_server, again), completions(steered_here, again))


def test_residual_streams_are_those_of_the_engine_in_this_process(steered_server, steered_here, prompts):
    layers = list(range(steered_here.inside.layers))
    right, found = (each.residuals(prompts, layers) for each in (steered_here, steered_server))
    assert float(((found - right).norm(dim=-1) / right.norm(dim=-1)).max()) < 1e-4
    with pytest.raises(ConfigError, match="out of range"):
        steered_server.residuals(prompts, [99])


def test_what_is_no_request_of_pts_is_refused_and_the_server_goes_on(steered_server, prompts):
    body = body_of(steered_server._server.name, prompts[0], {"max_tokens": 2, "temperature": 0.0})
    for extra in ({"pts": "a", "pts_draw": "{}"}, {"pts_draw": "{}"}, {"pts": "a", "pts_read": "1"}):
        with pytest.raises(Refused, match=r"400: .*pts: a request"):
            steered_server._client.ask(COMPLETIONS, {**body, "vllm_xargs": extra})
    unknown = {**json.loads(spec().text()), "variants": "0" * 32, "variant": 1, "prompt": len(prompts[0])}
    extra = {"pts": "a", "pts_draw": json.dumps(unknown)}
    assert steered_server._client.ask(COMPLETIONS, {**body, "vllm_xargs": extra})["choices"]
    assert "no longer has" in steered_server.inside._call("pts_take", ["a"])["results"][0]["failed"]


def test_a_file_is_answered_as_by_transformers_with_vectors_and_a_router(endpoint, tmp_path):
    source = tmp_path / "questions.jsonl"
    source.write_text("".join(json.dumps({"question": text}) + "\n" for text in QUESTIONS), encoding="utf-8")
    given = ("--model", "demo", "--vectors", "demo", "--strategy", "budget:20", "--input", source, "--quiet")
    engines = {"transformers": (), "vllm": ("--engine", "vllm", "--endpoint", endpoint)}
    for name, more in engines.items():
        assert run(["decode", *map(str, given), *more, "--output", str(tmp_path / f"{name}.jsonl")]) == 0
    assert answers_of(tmp_path / "vllm.jsonl") == answers_of(tmp_path / "transformers.jsonl")
