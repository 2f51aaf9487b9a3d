"""Vector records: what is written and read back, and optillm's own code as a reader."""

import importlib.util
import json
import logging
from dataclasses import fields, replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from pts.errors import DataError
from pts.steering.formats.optillm import read_optillm
from pts.steering.pair_records import pair_records
from pts.steering.pairs import Choice, Pair
from pts.steering.records import (
    VectorRecord,
    read_records_parquet,
    short_floats,
    write_records_jsonl,
    write_records_parquet,
)
from pts.steering.set_location import RECORDS_NAME
from pts.steering.vector_files import save_vectors
from pts.steering.vector_set import VectorError

# optillm compares the last 100 characters, so a context must be as long as those of real prompts are.
CONTEXT = (
    "user: What is 21 - 7 + 9 ? assistant: First, 21 - 7 = 14, so the sum so far is 14; add 9, which makes 13."
)


OWN = torch.nn.functional.normalize(torch.randn(3, 8, generator=torch.Generator().manual_seed(5)), dim=1)
"""Each pair's own direction."""


def pair(taken_better=True, before=CONTEXT):
    return Pair(
        index=0,
        problem_id="p",
        prompt=(1, 2),
        prefix=(3,),
        better=Choice(7, " Wait", 0.3, 0.9, 24),
        worse=Choice(8, " So", 0.6, 0.1, 18),
        taken_better=taken_better,
        value_before=0.4,
        delta=0.5 if taken_better else -0.3,
        before=before,
        after=" 14",
    )


@pytest.fixture
def vectors(make_set):
    return make_set(self_correction=2, exploration=3)


@pytest.fixture
def records(vectors):
    pairs = [pair(), pair(taken_better=False), pair(before="Another context, long enough to be found.")]
    return pair_records(vectors, pairs, ["self_correction", "self_correction", "exploration"], "math", OWN)


def test_a_record_says_what_the_trace_did_and_what_to_add(vectors, records):
    first, second, third = records
    assert (first.pivot_token, first.pivot_token_id, first.prob_after, first.prob_delta) == (
        " Wait",
        7,
        0.9,
        0.5,
    )
    assert first.prob_before == pytest.approx(0.4)
    assert (second.pivot_token, second.prob_after, second.prob_delta) == (" So", 0.1, -0.3)
    assert second.prob_before == pytest.approx(0.4)
    # Each has its own vector, at the norm of its pattern's, which they share whichever token the trace took.
    assert second.cluster_vector == first.cluster_vector != third.cluster_vector
    for record, own in zip(records, OWN, strict=True):
        size = float(vectors.added(record.reasoning_pattern).norm())
        torch.testing.assert_close(torch.tensor(record.steering_vector), own * size)
    assert [record.cluster_id for record in records] == [0, 0, 1]
    assert [record.steering_layer for record in records] == [2, 2, 3]
    added = torch.tensor(third.cluster_vector)
    torch.testing.assert_close(added, vectors.added("exploration"), rtol=0, atol=0)
    # A pair whose own pattern has no vector is steered by the first, and keeps its pattern and number.
    other = pair_records(vectors, [pair()], ["unlabelled"], "math", OWN[:1], {"unlabelled": 4})[0]
    assert (other.reasoning_pattern, other.cluster_id) == ("unlabelled", 4)
    assert other.cluster_vector == first.cluster_vector
    assert other.steering_vector == first.steering_vector
    assert "is_positive" not in {entry.name for entry in fields(VectorRecord)}


def test_files_hold_the_records(records, tmp_path):
    write_records_jsonl(tmp_path / "r.jsonl", records)
    write_records_parquet(tmp_path / "r.parquet", records)
    assert read_records_parquet(tmp_path / "r.parquet") == records
    rows = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    names = [entry.name for entry in fields(VectorRecord)]
    assert all(list(row) == names for row in rows)
    assert [tuple(row["steering_vector"]) for row in rows] == [record.steering_vector for record in records]
    assert pq.read_table(tmp_path / "r.parquet").column_names == names
    write_records_parquet(tmp_path / "none.parquet", [])
    assert pq.read_table(tmp_path / "none.parquet").schema.equals(pq.read_table(tmp_path / "r.parquet").schema)


def test_short_decimals_lose_nothing():
    values = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(torch.tensor(short_floats(values)), values)
    assert short_floats(np.float32([0.1, 1e-7])) == (0.1, 1e-7)


@pytest.mark.parametrize("name", ["r.jsonl", "r.parquet"])
def test_what_is_read_back_adds_the_same(vectors, records, tmp_path, name):
    write = write_records_jsonl if name.endswith("l") else write_records_parquet
    write(tmp_path / name, records)
    back = read_optillm(tmp_path / name, vectors.model)
    assert list(back.vectors) == ["self_correction", "exploration"]
    for pattern, vector in back.vectors.items():
        assert vector.layer == vectors.vector(pattern).layer
        torch.testing.assert_close(back.added(pattern), vectors.added(pattern))
    assert back.vector("self_correction").evidence == {"pairs": 2}


def test_the_vector_of_all_pairs_stands_in_where_a_set_has_one(make_set):
    vectors = make_set(organization=3, all=1)
    record = pair_records(vectors, [pair()], ["number"], "math", OWN[:1])[0]
    assert (record.reasoning_pattern, record.steering_layer) == ("number", 1)
    torch.testing.assert_close(torch.tensor(record.cluster_vector), vectors.added("all"))


def test_rows_of_one_pattern_are_averaged(vectors):
    row = {"reasoning_pattern": "p", "steering_layer": 1, "model_id": "some/model"}
    one, two = [2.0] + [0.0] * 7, [0.0, 4.0] + [0.0] * 6
    rows = [{**row, "steering_vector": one}, {**row, "steering_vector": json.dumps(two), "is_positive": False}]
    back = read_optillm(rows, vectors.model)
    torch.testing.assert_close(back.added("p"), torch.tensor([1.0, 2.0, 0, 0, 0, 0, 0, 0]))


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"reasoning_pattern": None}, DataError, "row 1 has no reasoning_pattern"),
        ({"steering_layer": None}, DataError, "row 1 has no steering_layer"),
        ({"steering_layer": "two"}, DataError, "'two'"),
        ({"steering_layer": 5}, VectorError, "layers 0 to 4"),
        ({"steering_vector": [1.0, 2.0]}, VectorError, "8 wide"),
        ({"steering_vector": "words"}, DataError, "not a list of numbers"),
        ({"steering_vector": [[1.0] * 8]}, DataError, "not a flat list"),
        ({"steering_vector": [float("nan")] * 8}, DataError, "not finite"),
        ({"steering_vector": [0.0] * 8}, DataError, "steers nowhere"),
        ({"cluster_vector": [1.0, 2.0]}, VectorError, "8 wide"),
        ({"cluster_vector": "words"}, DataError, "cluster_vector is not a list of numbers"),
    ],
)
def test_rows_that_cannot_be_used_are_named(vectors, change, error, said):
    row = {"reasoning_pattern": "p", "steering_layer": 1, "steering_vector": [1.0] * 8}
    with pytest.raises(error, match=said):
        read_optillm([{**row, **change}], vectors.model)


def test_sources_that_cannot_be_used(vectors, records, tmp_path, caplog):
    with pytest.raises(DataError, match="no rows"):
        read_optillm([], vectors.model)
    with pytest.raises(DataError, match="no data set"):
        read_optillm(tmp_path / "nowhere.jsonl", vectors.model)
    two_layers = [records[0], replace(records[1], steering_layer=4)]
    write_records_jsonl(tmp_path / "r.jsonl", two_layers)
    with pytest.raises(DataError, match="name layers 2, 4"):
        read_optillm(tmp_path / "r.jsonl", vectors.model)
    write_records_jsonl(tmp_path / "r.jsonl", [replace(records[0], model_id="another/model")])
    with caplog.at_level(logging.WARNING):
        read_optillm(tmp_path / "r.jsonl", vectors.model)
    assert "for another/model, not for some/model" in caplog.text


def test_a_parquet_file_of_something_else(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read_records_parquet(tmp_path / "r.parquet")
    (tmp_path / "r.parquet").write_bytes(b"PAR1 cut short")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        read_records_parquet(tmp_path / "r.parquet")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "r.parquet")
    with pytest.raises(DataError, match="does not hold vector records"):
        read_records_parquet(tmp_path / "r.parquet")


@pytest.fixture(scope="module")
def steering():
    """optillm's own module, without the rest of the package, which wants a web server and much else."""
    package = importlib.util.find_spec("optillm")
    if package is None or package.submodule_search_locations is None:
        pytest.skip("optillm is not installed")
    file = f"{package.submodule_search_locations[0]}/autothink/steering.py"
    spec = importlib.util.spec_from_file_location("optillm_steering", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["r.jsonl", "r.parquet"])
def test_optillm_loads_every_record(steering, records, tmp_path, monkeypatch, name):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    write = write_records_jsonl if name.endswith("l") else write_records_parquet
    write(tmp_path / "data" / name, records)
    manager = steering.SteeringVectorManager(
        str(tmp_path / "data"), target_layer=2, cache_dir=str(tmp_path / "c")
    )
    assert {pattern: len(rows) for pattern, rows in manager.pattern_to_vectors.items()} == {
        "self_correction": 2,
        "exploration": 1,
    }
    for record, row in zip(records, manager.steering_vectors, strict=True):
        for entry in fields(VectorRecord):
            wanted = getattr(record, entry.name)
            if entry.name.endswith("_vector"):
                np.testing.assert_allclose(row[entry.name], wanted, rtol=1e-6)
            else:
                assert row[entry.name] == wanted


def test_optillm_loads_a_whole_vector_set_by_its_card(steering, vectors, records, tmp_path, monkeypatch):
    # The card says which of the folder's files is the table: vectors.json could be taken for one.
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "set"
    save_vectors(vectors, folder)
    write_records_parquet(folder / RECORDS_NAME, records)
    files = f"- config_name: default\n  data_files:\n  - split: train\n    path: {RECORDS_NAME}\n"
    (folder / "README.md").write_text(f"---\nconfigs:\n{files}---\n")
    manager = steering.SteeringVectorManager(str(folder), cache_dir=str(tmp_path / "c"))
    assert len(manager.steering_vectors) == 3


def test_optillm_adds_the_pivots_own_direction_at_the_layer_that_it_is_told(
    steering, vectors, records, tiny_llama, block_outputs
):
    before = block_outputs()
    # One pivot that helped, one that harmed: its vector is added for both.
    for record, own in zip(records[:2], OWN[:2], strict=True):
        manager = steering.SteeringVectorManager("", target_layer=record.steering_layer)
        row = json.loads(json.dumps({entry.name: getattr(record, entry.name) for entry in fields(record)}))
        manager.steering_vectors = [manager._process_dataset_item(row)]
        ((hook, handle),) = steering.install_steering_hooks(tiny_llama, manager)
        hook.update_context("The beginning of a conversation. " + CONTEXT)
        assert hook.try_match()
        after = block_outputs()
        handle.remove()
        for block in range(2):
            torch.testing.assert_close(after[block], before[block])
        added = (after[2] - before[2])[0]
        torch.testing.assert_close(added[:-1], torch.zeros(3, 8))
        # Strength 3.0, cut to 2.0, times |prob_delta|; the stored norm plays no part.
        wanted = own * 2.0 * abs(record.prob_delta)
        torch.testing.assert_close(added[-1], wanted, rtol=1e-4, atol=1e-5)
