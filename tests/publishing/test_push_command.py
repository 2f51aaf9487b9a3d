"""The command as a user gives it, and what others then load from the Hub."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pyarrow.parquet as pq
import pytest

from pts.cli import run
from tests.cli.one_line import complaint
from tests.publishing.artifacts import LAYERS, WIDTH, effect, vector_set, write_search_run, write_vector_set
from tests.publishing.hub_repository import WRITE
from tests.publishing.hub_server import Fault, Hub

LOAD_VECTORS = """
import sys, torch
from pts.steering.vector_files import load_vectors
here, there = load_vectors(sys.argv[1]), load_vectors(sys.argv[2], revision="v1")
assert here.model == there.model and here.effects == there.effects and here.provenance == there.provenance
assert here.residual_norms == there.residual_norms and list(here.vectors) == list(there.vectors)
for pattern, vector in here.vectors.items():
    other = there.vectors[pattern]
    assert vector.strength == other.strength and vector.evidence == other.evidence
    assert all(torch.equal(vector.directions[layer], other.directions[layer]) for layer in vector.directions)
assert torch.equal(here.vectors["self_correction"].gate.weight, there.vectors["self_correction"].gate.weight)
"""
MODEL = """
import torch, pts
from transformers import Qwen3Config, Qwen3ForCausalLM
tokenizer = pts.load_model("demo").tokenizer
torch.manual_seed(0)
config = Qwen3Config(
    vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=8, num_hidden_layers=LAYERS,
    num_attention_heads=2, num_key_value_heads=1, head_dim=4, eos_token_id=tokenizer.eos_token_id,
)
tiny = Qwen3ForCausalLM(config)
"""
"""A model of random weights that the set fits, in place of the one on the Hub that it is for."""
LOAD_ROWS = """
import json, sys
from datasets import load_dataset
print(json.dumps(load_dataset(sys.argv[1], split="train").to_list()))
"""


@pytest.fixture(scope="module")
def hub():
    with Hub() as running:
        yield running


@pytest.fixture
def environment(hub, tmp_path):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    return {
        **kept,
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path / "hf"),
        "HF_TOKEN": WRITE,
        "HF_HUB_DISABLE_XET": "1",
        "OMP_NUM_THREADS": "1",
    }


def started(environment, *arguments):
    return subprocess.Popen(
        [sys.executable, *arguments],
        env=environment,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def finished(process):
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def python(environment, code, *arguments):
    code_, out, err = finished(started(environment, "-c", code, *map(str, arguments)))
    assert code_ == 0, err
    return out


def snippets(card):
    return re.findall(r"```python\n(.*?)```", card, re.DOTALL)


@pytest.mark.slow
def test_a_vector_set_pushed_is_loaded_back_equal_and_its_card_runs(hub, environment, tmp_path):
    directory = write_vector_set(tmp_path / "set", vector_set([effect("self_correction", 0.08, 0.04, 0.12)]))
    push = ("-m", "pts", "push-to-hub", str(directory), "--repo-id", "me/set")
    code, out, err = finished(started(environment, *push, "--json"))
    assert (code, err) == (0, "")
    done = json.loads(out)
    assert done["url"] == f"{hub.url}/datasets/me/set"
    assert (done["committed"], done["tag"], done["tagged"]) == (True, "v1", True)

    rows = pq.read_table(directory / "records.parquet").to_pylist()
    card = hub.repository("me/set").files()["README.md"].content.decode()
    use, records = snippets(card)
    model = MODEL.replace("WIDTH", str(WIDTH)).replace("LAYERS", str(LAYERS))
    steered = use.replace('pts.load_model("Qwen/Qwen3-0.6B")', "pts.load_model(tiny, tokenizer)").replace(
        'generate("...")', 'generate("What is 2 + 5 ?", max_new_tokens=4)'
    )
    assert "tiny" in steered
    assert "max_new_tokens" in steered
    printed = python(
        environment,
        LOAD_VECTORS + model + steered + records + LOAD_ROWS.replace("sys.argv[1]", "'me/set'"),
        directory,
        "me/set",
    )
    assert json.loads(printed.splitlines()[-1]) == rows


@pytest.mark.slow
def test_a_search_run_pushed_is_loaded_back_equal_and_its_card_runs(hub, environment, tmp_path):
    directory = write_search_run(tmp_path / "run")
    push = ("-m", "pts", "push-to-hub", str(directory), "--repo-id", "me/found", "--tag", "paper")
    code, out, err = finished(started(environment, *push))
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        f"{hub.url}/datasets/me/found",
        f"commit {hub.repository('me/found').tags['paper'][:8]}",
        "tag paper",
    ]
    card = hub.repository("me/found").files()["README.md"].content.decode()
    (use,) = snippets(card)
    printed = python(environment, use + LOAD_ROWS, "me/found").splitlines()
    rows = pq.read_table(directory / "pivotal_tokens.parquet").to_pylist()
    assert len(rows) == 2
    assert printed[0].startswith("' w|0`' 0.5")
    assert json.loads(printed[-1]) == rows


@pytest.mark.slow
def test_ctrl_c_is_one_line_and_again_is_safe(hub, environment, tmp_path):
    directory = write_vector_set(tmp_path / "set")
    push = ("-m", "pts", "push-to-hub", str(directory), "--repo-id", "me/stopped")
    silence = Fault("me/stopped/commit/", "silence", times=1)
    hub.faults.append(silence)
    process = started(environment, *push)
    deadline = time.monotonic() + 60
    while silence.times:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    code, out, err = finished(process)
    assert (code, out) == (130, "")
    assert err.count("\n") == 1
    assert "the same command again is safe" in err
    assert set(hub.repository("me/stopped").files()) == {".gitattributes"}


def refusal(capsys, *arguments):
    return complaint(capsys, "push-to-hub", *arguments)


def test_a_dry_run_needs_no_token_and_no_network(capsys, monkeypatch, vectors_dir):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.get_session", lambda: pytest.fail("the network was asked"))
    arguments = ["push-to-hub", str(vectors_dir), "--repo-id", "me/set", "--dry-run"]
    assert run(arguments) == 0
    said = capsys.readouterr().out
    size = (vectors_dir / "vectors.safetensors").stat().st_size
    assert f"{size:,} bytes  vectors.safetensors" in said
    assert "to dataset me/set, main:" in said
    assert "## Measured effect" in said
    assert "notes.txt" not in said
    assert run([*arguments, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["files"]["vectors.safetensors"] == size
    assert plan["card"].startswith("---\n")
    assert len(plan["card"].encode()) == plan["files"]["README.md"]


def test_bad_input_is_one_line(capsys, monkeypatch, tmp_path, vectors_dir):
    monkeypatch.delenv("MY_TOKEN", raising=False)
    assert "lacks its owner" in refusal(capsys, vectors_dir, "--repo-id", "set")
    assert "--repo-id" in refusal(capsys, vectors_dir)
    assert "is no directory" in refusal(capsys, tmp_path / "nowhere", "--repo-id", "me/set")
    assert "--repo-type" in refusal(capsys, vectors_dir, "--repo-id", "me/set", "--repo-type", "space")
    said = refusal(capsys, vectors_dir, "--repo-id", "me/set", "--token-from-env", "MY_TOKEN")
    assert "MY_TOKEN holds no token" in said


def test_the_licence_and_the_version_go_where_they_are_asked_to(capsys, vectors_dir):
    arguments = ["push-to-hub", str(vectors_dir), "--repo-id", "me/set", "--dry-run", "--license", "mit"]
    assert run([*arguments, "--version", "v3", "--json"]) == 0
    assert "license: mit" in json.loads(capsys.readouterr().out)["card"]
