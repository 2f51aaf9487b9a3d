"""`pts decode` and `pts eval` on vLLM answer as on the engine transformers: the demo model, in float32."""

import json
import os
import subprocess
import sys

import pytest

from pts.cli import run
from pts.policies.vllm.installed import installed_version
from pts.stages.verify.inputs import VerifyInputs
from pts.stages.verify.inside_vllm import checked_inside_vllm

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(installed_version() is None, reason="vLLM is not installed in this environment"),
]
QUESTIONS = ["What is 17 + 5 - 4 ?", "What is 28 - 13 + 7 ?", "What is 8 + 9 ?"]


def answers(path):
    found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for entry in found:
        del entry["ledger"]["seconds"], entry["ledger"]["router_seconds"]
    return found


def test_a_file_is_answered_as_by_transformers(tmp_path):
    source = tmp_path / "questions.jsonl"
    source.write_text("".join(json.dumps({"question": text}) + "\n" for text in QUESTIONS), encoding="utf-8")
    given = ["decode", "--model", "demo", "--vectors", "demo", "--strategy", "budget:20", "--quiet"]
    given += ["--input", str(source)]
    assert run([*given, "--output", str(tmp_path / "transformers.jsonl")]) == 0
    # In a process of its own, as a user does it.
    own = [*given, "--engine", "vllm", "--output", str(tmp_path / "vllm.jsonl")]
    done = subprocess.run([sys.executable, "-m", "pts", *own], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert answers(tmp_path / "vllm.jsonl") == answers(tmp_path / "transformers.jsonl")


def test_an_evaluation_has_the_answers_of_transformers(one_engine, tmp_path):
    strategies = "full,nothink,budget:20,min:24,early-exit,auto,best-of:3"
    given = ["eval", "--model", "demo", "--problems", "4", "--seeds", "1", "--vectors", "demo", "--quiet"]
    given += ["--strategies", strategies, "--no-baselines"]
    summaries = []
    for engine in ("transformers", "vllm"):
        assert run([*given, "--engine", engine, "--output", str(tmp_path / engine)]) == 0
        summaries.append(json.loads((tmp_path / engine / "summary.json").read_text()))
    for summary in summaries:
        for system in summary["lines"]:
            system.pop("seconds", None)
    assert summaries[0]["lines"] == summaries[1]["lines"]
    manifest = json.loads((tmp_path / "vllm" / "manifest.json").read_text())
    assert manifest["resolved"]["attention"] == "vllm V1"
    assert manifest["settings"]["engine"] == "vllm"


def test_a_verification_checks_steering_in_a_process_of_its_own():
    found = checked_inside_vllm(VerifyInputs(engine="vllm"))
    assert {result.status for result in found.values()} == {"passed"}, [one.line() for one in found.values()]
    assert found["steering"].seconds > 0


def test_a_model_runner_that_cannot_run_here_is_one_line():
    given = ["decode", QUESTIONS[0], "--model", "demo", "--engine", "vllm"]
    done = subprocess.run(
        [sys.executable, "-m", "pts", *given],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "VLLM_USE_V2_MODEL_RUNNER": "1"},
    )
    assert done.returncode == 2
    assert "Model Runner V2 requires Triton" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
