"""What of the engine vllm needs no vLLM: distributions of its logits, its requests, its loop, its refusals."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pts.cli import run
from pts.errors import ConfigError, ModelError
from pts.models.load import load_model
from pts.models.options import ModelOptions
from pts.models.tokenizer import load_tokenizer
from pts.policies import open_policy
from pts.policies.transformers.complete import CompletionEnds
from pts.policies.transformers.distribution import truncate
from pts.policies.vllm import installed, start
from pts.policies.vllm.probs import TIES, SeenDistributions, distributions, logits_needed, require_same_sampler
from pts.policies.vllm.pump import Call, Line, Pump
from pts.policies.vllm.requests import starts
from pts.policies.vllm.served import serve_model
from pts.records import RolloutRequest, Sampling, TokenDistribution
from tests.cli.one_line import complaint

VOCAB = 200


def rows_of(logits: torch.Tensor, count: int, own: list[int]) -> list[dict]:
    """Rows as vLLM gives them: the largest logits with their ranks, and the prompt's own next token."""
    rows = []
    for values, token in zip(logits.tolist(), own, strict=True):
        order = sorted(range(VOCAB), key=lambda index: -values[index])
        rank = {index: place + 1 for place, index in enumerate(order)}
        kept = [*order[: VOCAB if count < 0 else count], token]
        rows.append({index: SimpleNamespace(logprob=values[index], rank=rank[index]) for index in kept})
    return rows


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(),
        Sampling(temperature=1.3, top_k=7, top_p=0.8),
        Sampling(temperature=0.0),
        Sampling(top_k=0, top_p=0.9),
        Sampling(top_k=20, top_p=1.0, min_p=0.1),
    ],
)
def test_distributions_are_those_of_the_whole_logits(sampling):
    logits = 3 * torch.randn(16, VOCAB, generator=torch.Generator().manual_seed(2))
    logits[3, 10:14] = logits[3].max()  # ties
    count = logits_needed(sampling, VOCAB)
    found = distributions(rows_of(logits, count, list(range(16))), sampling, VOCAB)
    whole = truncate(logits, sampling)
    for place, one in enumerate(found):
        right = whole.row(place)
        assert one.ids.tolist() == right.ids.tolist()
        assert np.allclose(one.probs, right.probs, atol=1e-6)


def test_more_ties_than_were_asked_for_are_an_error():
    logits = torch.zeros(1, VOCAB)
    sampling = Sampling(top_k=5)
    with pytest.raises(ModelError, match=f"more than {TIES} tokens tie"):
        distributions(rows_of(logits, logits_needed(sampling, VOCAB), [3]), sampling, VOCAB)


def test_samplers_that_differ_are_refused():
    require_same_sampler(Sampling(min_p=0.1, top_p=1.0), VOCAB)
    require_same_sampler(Sampling(top_k=0), VOCAB)
    with pytest.raises(ConfigError, match="another order"):
        require_same_sampler(Sampling(min_p=0.1), VOCAB)
    with pytest.raises(ConfigError, match="needs a top-k"):
        require_same_sampler(Sampling(top_k=0), 150_000)


@pytest.fixture(scope="module")
def ends():
    tokenizer = load_tokenizer(ModelOptions("demo"))
    return CompletionEnds(frozenset({3}), tokenizer)


HALVES = TokenDistribution(np.array([8, 9, 3]), np.array([0.5, 0.3, 0.2]))


def test_an_avoided_token_is_drawn_around_and_ends_are_counted(ends):
    request = RolloutRequest((5, 6), (7,), avoid=8, n=1000, seed=4)
    gathered, begun = starts(request, ends, lambda: HALVES)
    ended = gathered.counts[(7, 3), "end"]
    assert {start.prefix for start in begun} == {(7, 9)}
    assert ended + len(begun) == 1000
    # 1,000 draws of a share of 0.4: five standard errors.
    assert ended == pytest.approx(400, abs=5 * 15.5)
    assert len({start.seed for start in begun}) == len(begun)
    assert max(start.seed for start in begun) < 1 << 48
    assert [start.seed for start in starts(request, ends, lambda: HALVES)[1]] == [start.seed for start in begun]


def test_seeds_of_neighbours_share_nothing(ends):
    seeds = [
        start.seed
        for seed in range(20)
        for start in starts(RolloutRequest((5, 6), n=20, seed=seed), ends, lambda: HALVES)[1]
    ]
    assert len(set(seeds)) == 400


def test_a_token_that_is_alone_cannot_be_avoided(ends):
    alone = TokenDistribution(np.array([8]), np.array([1.0]))
    with pytest.raises(ValueError, match="is the only one"):
        starts(RolloutRequest((5,), avoid=8, n=2), ends, lambda: alone)


def test_distributions_seen_are_found_by_any_prefix():
    seen = SeenDistributions()
    along = [TokenDistribution(np.array([k]), np.array([1.0])) for k in range(3)]
    seen.put((1, 2), (7, 8, 9), Sampling(budget=9), along)
    assert seen.after((1, 2), (7, 8), Sampling(budget=4)) is along[2]
    assert seen.after((1, 2), (7, 9), Sampling()) is None
    assert seen.after((1, 2), (7, 8, 9), Sampling()) is None
    assert seen.after((1, 2), (), Sampling(temperature=0.7)) is None


@dataclass
class Stepped:
    """An engine that writes a request's first id again and again, one a step, up to that id's own length."""

    lengths: dict[int, int]
    open: dict[str, list] = field(default_factory=dict)
    aborted: list[str] = field(default_factory=list)

    def add_request(self, name, prompt, params):
        self.open[name] = [prompt["prompt_token_ids"][0], 0]

    def step(self):
        said = []
        for name, entry in list(self.open.items()):
            entry[1] += 1
            finished = entry[1] == self.lengths[entry[0]]
            if finished:
                del self.open[name]
            made = SimpleNamespace(token_ids=[entry[0]])
            said.append(SimpleNamespace(request_id=name, outputs=[made], finished=finished))
        return said

    def abort_request(self, names):
        self.aborted += names
        for name in names:
            self.open.pop(name, None)


def test_each_line_hears_of_its_own_calls_and_a_closed_one_aborts():
    engine = Stepped({1: 2, 2: 4, 3: 3})
    pump = Pump(engine)
    first, second = Line(pump), Line(pump)
    first.add(Call("a"), (1,), None)
    first.add(Call("b"), (2,), None)
    second.add(Call("c"), (3,), None)
    done = second.next_done()
    assert (done.payload, done.tokens) == ("c", [3, 3, 3])
    # The step that the second line made finished one of the first line's.
    assert first.next_done().payload == "a"
    assert len(first) == 1
    first.close()
    assert engine.aborted == ["1"]
    assert first.next_done() is None
    assert not engine.open


def test_a_call_that_stops_itself_is_cut_and_aborted():
    engine = Stepped({5: 9})
    line = Line(Pump(engine))
    line.add(Call("s", stops=lambda tokens, before: 2 if len(tokens) >= 2 else None), (5,), None)
    done = line.next_done()
    assert (done.tokens, done.stopped) == ([5, 5], True)
    assert engine.aborted == ["0"]


def test_without_vllm_or_with_another_version_it_is_one_line(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(installed, "installed_version", lambda: None)
    assert "not installed" in complaint(capsys, "verify", "--engine", "vllm")
    monkeypatch.setattr(installed, "installed_version", lambda: "0.99.1")
    assert "vLLM 0.99.1" in complaint(capsys, "search", "--engine", "vllm", "--output", "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match="works with"):
        open_policy("demo", engine="vllm")


@pytest.mark.parametrize(
    "command",
    [
        ("decode", "What is 1 + 2 ?", "--layers-path", "model.layers", "--vectors", "demo"),
        ("eval", "--output", "e", "--strategies", "escalate", "--second-model", "demo"),
    ],
)
def test_what_vllm_does_not_do_is_refused(capsys, monkeypatch, tmp_path, command):
    monkeypatch.chdir(tmp_path)
    said = complaint(capsys, *command, "--engine", "vllm")
    assert "--engine transformers" in said


def test_a_run_of_another_engine_is_read_by_transformers_and_its_number_format_counts():
    from pts.errors import RunError
    from pts.stages.shared.recorded import Recorded, require_recorded

    loaded = load_model(ModelOptions("demo"))
    require_recorded(loaded, Recorded("run", dtype="float32", attention="vllm V1"))
    with pytest.raises(RunError, match="dtype bfloat16"):
        require_recorded(loaded, Recorded("run", dtype="bfloat16", attention="vllm V1"))
    with pytest.raises(RunError, match="attention eager"):
        require_recorded(loaded, Recorded("run", dtype="float32", attention="eager"))


def test_an_engine_is_recorded_only_where_it_is_another(tmp_path):
    from pts.stages.extract.inputs import ExtractInputs
    from pts.stages.search.inputs import SearchInputs

    assert "engine" not in SearchInputs().settings()
    assert SearchInputs(engine="vllm").settings()["engine"] == "vllm"
    with pytest.raises(ConfigError, match="engine is tgi"):
        SearchInputs(engine="tgi")
    assert run(("verify", "--engine", "tgi")) == 2
    assert "engine" not in ExtractInputs(tmp_path).settings()
    assert ExtractInputs(tmp_path, engine="vllm").settings()["engine"] == "vllm"
    with pytest.raises(ConfigError, match="engine is tgi"):
        ExtractInputs(tmp_path, engine="tgi")


def test_a_model_given_in_python_is_refused_in_one_line():
    with pytest.raises(ConfigError, match="the model mine was given in Python"):
        serve_model(ModelOptions("memory:mine"))


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("VLLM_USE_V2_MODEL_RUNNER", "yes", "VLLM_USE_V2_MODEL_RUNNER is 'yes', and vLLM takes 0 or 1"),
        ("VLLM_ENABLE_V1_MULTIPROCESSING", "1", "VLLM_ENABLE_V1_MULTIPROCESSING is set: unset it"),
    ],
)
def test_steering_refuses_an_engine_where_it_cannot_act(monkeypatch, variable, value, said):
    monkeypatch.setattr(start, "require_vllm", lambda: None)
    monkeypatch.setenv("VLLM_USE_V2_MODEL_RUNNER", "0")
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=said):
        open_policy("demo", engine="vllm", steerable=True)
