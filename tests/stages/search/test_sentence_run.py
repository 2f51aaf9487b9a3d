import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import pts
from pts.errors import ConfigError, DataError
from pts.pivot_search.results import Candidate
from pts.runs.finding_records import PivotalSentence
from pts.runs.search_run import read_search
from pts.runs.search_summary import search_summary
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
    assert "Different sentences (different='words'): those that share" in " ".join(repr(run).split())
    assert {"end", "unit", "prob_different"} <= set(run.to_pandas().columns)


def test_vectors_need_tokens(run: pts.Run) -> None:
    with pytest.raises(DataError, match="unit='both'"):
        measured_pairs(run.results)


def candidates(run: pts.Run, unit: str) -> dict[tuple[str, int], Candidate]:
    results = sorted(run.results.results, key=lambda result: result.problem_id)
    each = [(r.problem_id, n, c) for r in results for n, c in enumerate(r.candidates) if c.unit == unit]
    return {(problem, n): c for problem, n, c in each}


def test_sentences_are_added_to_a_run_of_tokens(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = {"limit": 4, "levels": (2, 3), "output": tmp_path / "run", "progress": False}
    tokens = pts.search("demo", **settings)
    found = candidates(tokens, "token")
    assert found
    spent = tokens.summary.tokens_generated
    # As a kill right after the beginning leaves it: the tokens are there until they have their sentences.
    manifest = shutil.copytree(tokens.path, tmp_path / "stopped") / "manifest.json"
    begun = json.loads(manifest.read_text())
    begun["settings"]["search"]["unit"] = "both"
    manifest.write_text(json.dumps(begun))
    stopped = read_search(manifest.parent)
    assert stopped.findings == tokens.results.findings
    assert search_summary(stopped).status == "partial"
    both = pts.search("demo", unit="both", **settings)
    assert both.summary.status == "complete"
    assert "its tokens stay as they are" in caplog.text
    assert candidates(both, "token") == found
    added = candidates(both, "sentence")
    assert added
    # Nothing is paid but for the fresh rollouts of the sentences.
    summary = both.summary
    for phase in ("range", "traces", "screen", "audit"):
        assert getattr(summary, f"tokens_{phase}") == getattr(tokens.summary, f"tokens_{phase}")
    assert summary.tokens_generated - spent == summary.tokens_confirm - tokens.summary.tokens_confirm > 0
    assert (both.path / "pivotal_sentences.jsonl").exists()
    # A run that searches both at once confirms the same sentences.
    at_once = pts.search("demo", unit="both", **{**settings, "output": tmp_path / "at-once"})
    assert candidates(at_once, "sentence") == added
    # Its audit is larger: a share of more tokens.
    found = {place: c for place, c in found.items() if c.audit_weight is None}
    assert found.items() <= candidates(at_once, "token").items()


def test_tokens_alone_again_leave_no_sentences(run: pts.Run, tmp_path: Path) -> None:
    again = tmp_path / "again"
    shutil.copytree(run.path, again)
    tokens = pts.search("demo", limit=4, levels=(2, 3), output=again, progress=False)
    assert tokens.summary.unit == "token"
    assert not (again / "pivotal_sentences.jsonl").exists()
    assert tokens.summary.tokens_range == run.summary.tokens_range


def test_another_measure_of_different_sentences_draws_nothing(run: pts.Run, tmp_path: Path) -> None:
    shutil.copytree(run.path, tmp_path / "run")
    settings = {"limit": 4, "unit": "sentence", "levels": (2, 3), "progress": False}
    embedded = pts.search("demo", different="embedding", output=tmp_path / "run", **settings)
    assert embedded.summary.tokens_generated == run.summary.tokens_generated
    assert (run.summary.different, embedded.summary.different) == ("words", "embedding")
    by_words, by_embedding = candidates(run, "sentence"), candidates(embedded, "sentence")
    parts = ("different_n", "different_successes")
    assert [c.delta for c in by_embedding.values()] == [c.delta for c in by_words.values()]
    assert any(
        getattr(by_embedding[at], part) != getattr(c, part) for at, c in by_words.items() for part in parts
    )
    back = pts.search("demo", output=tmp_path / "run", **settings)
    assert candidates(back, "sentence") == by_words


def test_a_measure_of_sentences_needs_sentences_and_a_residual_stream(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^different='embedding' needs engine='transformers'"):
        pts.search("demo", different="embedding", unit="both", engine="vllm", output=tmp_path / "run")
    with pytest.raises(ConfigError, match=r"^different= compares sentences, and unit='token' searches none"):
        pts.search("demo", different="embedding", output=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_tokens_stay_where_a_spending_limit_comes_before_their_sentences(tmp_path: Path) -> None:
    settings = {"limit": 2, "levels": (2, 3), "output": tmp_path / "run", "progress": False}
    tokens = pts.search("demo", **settings)
    found = candidates(tokens, "token")
    assert found
    spent = tokens.summary.tokens_generated
    limited = pts.search("demo", unit="both", max_tokens=spent + 1, **settings)
    assert candidates(limited, "token") == found
    assert limited.summary.spent > 0
    # Without the limit the same run goes on and has its sentences.
    assert candidates(pts.search("demo", unit="both", **settings), "sentence")
