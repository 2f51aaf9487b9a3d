import json

import pyarrow.parquet as pq
import pytest

import pts
from pts.errors import DataError, RunError
from pts.records import PivotalSentence
from pts.steering.pairs import measured_pairs


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> pts.Run:
    folder = tmp_path_factory.mktemp("sentences") / "run"
    return pts.search("demo", limit=4, unit="sentence", levels=(2, 3), output=folder, progress=False)


def test_a_run_of_sentences_writes_them_beside_its_tokens(run: pts.Run) -> None:
    lines = (run.path / "pivotal_sentences.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert rows
    assert (run.path / "pivotal_tokens.jsonl").read_text() == ""
    assert pq.read_table(run.path / "pivotal_sentences.parquet").to_pylist() == rows
    assert run.summary.unit == "sentence"
    assert run.summary.sentences == run.summary.findings == len(rows)
    for row, finding in zip(rows, run.findings, strict=True):
        assert isinstance(finding, PivotalSentence)
        assert row["unit"] == "sentence"
        assert row["pivot_token"] == finding.pivot_token
        assert len(row["token_ids"]) == row["end"] - row["position"]
        assert (
            row["different_low"] is None
            or row["different_low"] <= row["different_delta"] <= row["different_high"]
        )


def test_a_run_of_sentences_shows_them(run: pts.Run) -> None:
    assert f"{run.summary.findings} sentences of" in repr(run)
    assert "sentence of tokens" in repr(run)
    assert {"end", "unit", "prob_different"} <= set(run.to_pandas().columns)


def test_vectors_need_tokens(run: pts.Run) -> None:
    with pytest.raises(DataError, match="unit='both'"):
        measured_pairs(run.results)


def test_another_unit_needs_another_directory(run: pts.Run) -> None:
    with pytest.raises(RunError, match="unit"):
        pts.search("demo", limit=4, unit="both", levels=(2, 3), output=run.path, progress=False)
