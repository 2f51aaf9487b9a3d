"""A small vector set and a small search run to publish."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from pts.pivot_search.results import Candidate, ProblemResult, SearchedTrace
from pts.runs.codec import to_json
from pts.runs.directory import open_run
from pts.runs.manifest import Manifest, list_problems
from pts.runs.pivotal_tokens import pivotal_tokens, write_parquet
from pts.runs.search_run import SEARCH, SearchEnvironment, SearchResolved, read_search
from pts.runs.search_summary import search_summary
from pts.runs.shard import Context, ShardLine, results_journal
from pts.steering.vector_files import save_vectors
from pts.steering.vector_set import Effect, Gate, SteeredModel, SteeringVector, VectorSet

WIDTH, LAYERS = 8, 3


def unit(seed: int) -> torch.Tensor:
    vector = torch.randn(WIDTH, generator=torch.Generator().manual_seed(seed))
    return vector / vector.norm()


def effect(pattern: str, difference: float, low: float, high: float, random=(0.01, -0.02) * 10) -> Effect:
    return Effect(
        pattern, 200, 16, 0.5, 0.5 + difference, difference, low, high, 0.95, random, 40.0, 44.5, 0.02
    )


def vector_set(effects=(), model_id="Qwen/Qwen3-0.6B", revision="a" * 40, scale=0.4) -> VectorSet:
    corrected = SteeringVector(
        "self_correction",
        "preference",
        {0: unit(0), 1: unit(1)},
        1,
        scale,
        Gate("probe", weight=unit(2)),
        {"pairs": 812, "held_out_shift_nats": 0.31, "halves_cosine": None},
    )
    plain = SteeringVector("unlabelled", "gradient", {2: unit(3)}, 2, 0.2, Gate("always"))
    return VectorSet(
        SteeredModel(model_id, revision, WIDTH, LAYERS),
        (1.0, 2.0, 3.5),
        {"self_correction": corrected, "unlabelled": plain},
        {one.pattern: one for one in effects},
        {"dataset": "openai/gsm8k", "search": {"threshold": 0.2, "problems": 400}, "license": "apache-2.0"},
    )


def write_records(directory: Path, rows: int = 3) -> None:
    records = [
        {
            "model_id": "Qwen/Qwen3-0.6B",
            "pivot_token": f" t{i}",
            "prob_delta": 0.3,
            "steering_vector": [0.5, float(i)],
        }
        for i in range(rows)
    ]
    pq.write_table(pa.Table.from_pylist(records), directory / "records.parquet")


def write_vector_set(directory: Path, vectors: VectorSet | None = None, rows: int = 3) -> Path:
    save_vectors(vectors or vector_set(), directory)
    if rows:
        write_records(directory, rows)
    (directory / "notes.txt").write_text("mine alone")
    return directory


def write_search_run(directory: Path, findings: int = 2, done: bool = True) -> Path:
    found = SearchResolved("Qwen/Qwen3-0.6B", "b" * 40, "float32", None, "openai/gsm8k", "gsm8k", "math")
    conditions = SearchEnvironment("cpu", None, None, 1)
    with open_run(directory, SEARCH) as run:
        run.write_manifest(
            Manifest(
                SEARCH.name,
                "2026-01-02T03:04:05Z",
                {"search": {"fdr": 0.05, "threshold": 0.2}, "sampling": {"temperature": 0.6, "budget": 96}},
                to_json(found),
                to_json(conditions),
                list_problems(["d0"] if done else ["d0", "d1"]),
                {"pts": "0.1.0"},
            )
        )
        results_journal(run.shard).append(_line(findings))
    searched = read_search(directory)
    write_parquet(directory / "pivotal_tokens.parquet", pivotal_tokens(searched, searched.findings))
    text = json.dumps(to_json(search_summary(searched)), ensure_ascii=False, indent=2) + "\n"
    (directory / "summary.json").write_text(text)
    return directory


def _line(findings: int) -> ShardLine:
    tokens = tuple(f" w|{i}`" for i in range(12))
    candidates = tuple(
        Candidate(0, i, i, tokens[i], 0.4, 0.95, 91, 96, 0.1, 10, 96, 0.51, 1e-9, 1) for i in range(findings)
    )
    trace = SearchedTrace(
        tuple(range(12)), tokens, (0.5,) * 12, "end", True, 12 - findings, 0, 0, 0, 0, 0, findings
    )
    result = ProblemResult(
        "p0",
        "What is 1 + 1 ?",
        "the secret answer",
        0,
        "searched",
        (1, 2),
        0.5,
        12,
        (trace,),
        candidates,
        1,
        2,
        3,
        4,
    )
    contexts = tuple(Context("line one\nthen", token, " after") for token in tokens[:findings])
    return ShardLine("d0", None, result, contexts)
