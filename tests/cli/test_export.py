"""`pts export`: what each format writes, and what is refused in one line with nothing written."""

import json

import pyarrow.parquet as pq
import pytest
import torch

from pts.cli import run
from pts.runs.codec import known_keys
from pts.steering.formats.dpo import PreferencePair
from pts.steering.formats.gguf import read_gguf
from pts.steering.formats.optillm import read_optillm
from pts.steering.pair_records import pair_records
from pts.steering.pairs import Choice, Pair
from pts.steering.records import write_records_parquet
from pts.steering.set_location import RECORDS_NAME
from pts.steering.vector_files import load_vectors, save_vectors
from pts.steering.vector_set import Gate, SteeredModel, SteeringVector, VectorSet
from tests.cli.one_line import complaint

pytestmark = pytest.mark.usefixtures("elsewhere")


def vector(pattern, layer):
    direction = torch.nn.functional.normalize(torch.arange(1.0, 9.0), dim=0)
    return SteeringVector(pattern, "preference", {layer: direction}, layer, 0.4, Gate())


@pytest.fixture
def one(tmp_path):
    """A set of one pattern, with its records."""
    vectors = VectorSet(SteeredModel("m", None, 8, 4), (1.0, 2.0, 3.0, 4.0), {"calm": vector("calm", 2)})
    better, worse = Choice(5, " a", 0.4, 0.9, 24), Choice(6, " b", 0.6, 0.2, 24)
    pair = Pair(0, "p", (1,), (2,), better, worse, True, 0.4, 0.5, "before", " after")
    save_vectors(vectors, tmp_path / "one")
    own = torch.eye(8)[:2]
    records = pair_records(vectors, [pair, pair], ["calm", "calm"], "math", own)
    write_records_parquet(tmp_path / "one" / RECORDS_NAME, records)
    return tmp_path / "one"


@pytest.fixture
def two(tmp_path):
    """A set of two patterns, the second at layer 0, without records."""
    patterns = {"calm": vector("calm", 2), "brisk": vector("brisk", 0)}
    save_vectors(VectorSet(SteeredModel("m", None, 8, 4), (1.0,) * 4, patterns), tmp_path / "two")
    return tmp_path / "two"


def refusal(capsys, *arguments):
    return complaint(capsys, "export", *arguments)


def test_a_control_vector(one, capsys):
    assert run(["export", str(one), "--format", "gguf", "--output", "v.gguf"]) == 0
    assert capsys.readouterr().out.startswith("v.gguf: 1 control vector. At scale 1.0")
    vectors = load_vectors(one)
    back = read_gguf(one.parent / "v.gguf", vectors.model, "calm")
    torch.testing.assert_close(back.added("calm"), vectors.added("calm"))


@pytest.mark.parametrize("name", ["r.jsonl", "r.parquet"])
def test_vector_records(one, capsys, name):
    assert run(["export", str(one), "--format", "optillm", "--output", name, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["rows"], said["output"], said["pattern"]) == (2, name, None)
    assert "target_layer to 2" in said["note"]
    vectors = load_vectors(one)
    back = read_optillm(name, vectors.model)
    torch.testing.assert_close(back.added("calm"), vectors.added("calm"))


def test_a_pattern_is_chosen_where_there_are_several(two, capsys):
    arguments = (two, "--format", "gguf", "--output", "v.gguf")
    assert "calm, brisk: choose one with --pattern" in refusal(capsys, *arguments)
    assert "it has calm, brisk" in refusal(capsys, *arguments, "--pattern", "joy")
    assert "layer 0" in refusal(capsys, *arguments, "--pattern", "brisk")
    assert not (two.parent / "v.gguf").exists()
    assert run(["export", *map(str, arguments), "--pattern", "calm", "--quiet"]) == 0
    assert capsys.readouterr().out == ""


def test_what_does_not_fit_together(one, two, capsys, tmp_path):
    for arguments, said in (
        ((one, "--format", "gguf", "--output", "v.jsonl"), "must end in .gguf"),
        ((one, "--format", "optillm", "--output", "v.gguf"), "must end in .jsonl or .parquet"),
        ((one, "--format", "dpo", "--output", "p.jsonl"), "is not a run"),
        ((one, "--format", "dpo", "--output", "p.jsonl", "--pattern", "calm"), "--pattern chooses a vector"),
        ((one, "--format", "optillm", "--output", "r.jsonl", "--pattern", "joy"), "no pattern joy"),
        ((two, "--format", "optillm", "--output", "r.jsonl"), "records.parquet does not exist"),
        (("nowhere/at/all", "--format", "gguf", "--output", "v.gguf"), "does not exist"),
        ((tmp_path, "--format", "gguf", "--output", "v.gguf"), "is not a vector set"),
        ((one, "--format", "gguf", "--output", "no/v.gguf"), "the directory no does not exist"),
        ((one, "--format", "onnx", "--output", "v.gguf"), "onnx"),
        ((one, "--format", "gguf"), "--output"),
    ):
        assert said in refusal(capsys, *arguments)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["one", "two"]


def test_a_directory_that_is_named_like_a_file(one, capsys):
    (one.parent / "v.gguf").mkdir()
    assert "is a directory" in refusal(capsys, one, "--format", "gguf", "--output", "v.gguf")


def require_rollouts(capsys, tmp_path):
    """The rollouts of the run in `out`: all of its tokens, texts as graded, a card, and a publication."""
    assert run(["export", "out", "--format", "rollouts", "--output", "r.parquet", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    rows = pq.read_table(tmp_path / "r.parquet").to_pylist()
    assert len(rows) == said["rows"]
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    new = [row["count"] * (len(row["completion_ids"]) - row["prefix_length"]) for row in rows]
    assert sum(new) == summary["tokens_generated"]
    assert sum(row["count"] for row in rows) == sum(c["drawn"] for c in summary["completions"].values())
    for row in rows:
        first = row["completion_ids"][row["prefix_length"]]
        assert row["forced"] in (None, first)
        assert row["avoided"] != first
        assert "The answer is" in row["text"] or not row["success"]
    assert {row["phase"] for row in rows} == {"range", "traces", "screen", "confirm"}
    card = (tmp_path / "r.md").read_text()
    assert all(f"| `{name}` |" in card for name in rows[0])
    assert f"`r.parquet` has {len(rows):,} rows" in card
    for arguments, said in (
        (("out", "--format", "rollouts", "--output", "r.jsonl"), "must end in .parquet"),
        (("out", "--format", "rollouts", "--output", "r.parquet", "--pattern", "calm"), "--pattern chooses"),
    ):
        assert said in refusal(capsys, *arguments)
    push = ["push-to-hub", "out", "--repo-id", "me/run", "--dry-run"]
    assert run(push) == 0
    assert "rollouts.parquet" not in capsys.readouterr().out
    assert run([*push, "--rollouts"]) == 0
    shown = capsys.readouterr().out
    assert "bytes  rollouts.parquet" in shown
    assert f"has {len(rows):,} rows: the graded completions" in shown
    assert pq.read_table(tmp_path / "out" / "rollouts.parquet").to_pylist() == rows


@pytest.mark.slow
def test_preference_pairs(capsys, tmp_path):
    search = ("--problems", "5", "--levels", "2,3", "--threshold", "0.4", "--traces", "1", "--output", "out")
    assert run(["search", *search, "--quiet", "--json"]) == 0
    capsys.readouterr()
    for name in ("p.jsonl", "p.parquet"):
        assert run(["export", "out", "--format", "dpo", "--output", name, "--json"]) == 0
        said = json.loads(capsys.readouterr().out)
        assert said["rows"] > 0
    rows = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert rows == pq.read_table(tmp_path / "p.parquet").to_pylist()
    assert len(rows) == said["rows"]
    assert list(rows[0]) == known_keys(PreferencePair)
    require_rollouts(capsys, tmp_path)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    manifest["settings"]["model"] = "./nowhere"
    (tmp_path / "out" / "manifest.json").write_text(json.dumps(manifest))
    said = refusal(capsys, "out", "--format", "dpo", "--output", "q.jsonl")
    assert "model directory ./nowhere does not exist" in said
    assert not (tmp_path / "q.jsonl").exists()
