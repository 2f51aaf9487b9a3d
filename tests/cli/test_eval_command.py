"""`pts eval`: what it prints, how it stops and goes on, and one line for bad input."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pts.cli import run

REPOSITORY = Path(__file__).resolve().parents[2]
SHORT = ("--problems", "2", "--levels", "1", "--seeds", "1", "--device", "cpu")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def complaint(capsys, *arguments):
    """The one line that a command line ends with, its exit code being 2."""
    assert run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("pts: ")
    assert captured.err.count("\n") == 1
    return captured.err


def test_the_tables_and_the_files(capsys, tmp_path):
    arguments = ("eval", *SHORT, "--strategies", "full,min:8", "--sweep", "0.2", "--output", "out", "--quiet")
    assert run(arguments) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "demo on demo: 2 problems × 1 seed, graded by demo, at most 96 tokens." in printed.out
    assert "above fixed budgets?  min:8" in printed.out
    assert "McNemar's exact test" in " ".join(printed.out.split())
    files = {path.name for path in (tmp_path / "out").iterdir() if not path.name.startswith(".")}
    assert files == {"manifest.json", "items.jsonl", "summary.json", "report.html", "frontier.png"}
    assert run((*arguments, "--json")) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["run"] == "out"
    assert [line["name"] for line in found["lines"]] == ["full", "min:8", "nothink", "budget:19"]
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert {**summary, "run": "out"} == found


def test_a_file_in_a_named_sets_place_is_named(capsys, tmp_path):
    (tmp_path / "own.jsonl").write_text('{"question": "What is 2 + 5 ?", "answer": "Easy. #### 7"}\n')
    data = ("--dataset", "gsm8k", "--data", "own.jsonl", "--budget", "48")
    assert run(("eval", *data, "--strategies", "full", "--no-baselines", "--seeds", "1", "--quiet")) == 0
    printed = capsys.readouterr().out
    assert "demo on own.jsonl (read as gsm8k): 1 problem ×" in printed
    assert " p: " not in printed  # nothing is compared


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--strategies", ""), "no strategy to evaluate"),
        (("--strategies", "bugdet:64"), "no strategy 'bugdet': did you mean budget?"),
        (("--strategies", "budget:0"), "whole number above 0"),
        (("--strategies", "full,full"), "full is named twice"),
        (("--dataset", "mmlu-por"), "did you mean mmlu-pro?"),
        (("--dataset", "no/such-data"), "no/such-data"),
        (("--dataset", "gpqa-diamond", "--data", "nowhere.jsonl"), "nowhere.jsonl"),
        (("--vectors", "nowhere"), "nowhere does not exist"),
        (("--vectors", "demo", "--pattern", "nothing"), "no pattern nothing"),
        (("--vectors", "demo", "--pattern", "x=much"), "'much' is not a number"),
        (("--pattern", "x"), "give one by --vectors"),
        (("--seeds", "0"), "seeds is 0"),
        (("--problems", "0"), "must be at least 1"),
        (("--budget", "500"), "positions"),
        (("--sweep", "1.5"), "1.5 of the total"),
        (("--sweep", "some"), "--sweep"),
        (("--model", "./nowhere"), "./nowhere does not exist"),
        (("--think-start", "<a>"), "only one think tag"),
        (
            ("--exit-threshold", "0.5"),
            "--exit-threshold has no effect on the strategies full, nothink: leave it out",
        ),
        (("--strategies", "auto", "--router", "oracle"), "no router 'oracle'"),
        (("--strategies", "escalate"), "--second-model"),
        (("--where", "context"), "give one by --vectors"),
    ],
)
def test_bad_input(capsys, tmp_path, arguments, said):
    assert said in complaint(capsys, "eval", "--output", "out", *arguments)
    assert list(tmp_path.iterdir()) == []


def test_another_configuration_and_another_kind_of_run(capsys, tmp_path):
    small = ("eval", *SHORT, "--strategies", "nothink", "--no-baselines", "--output", "out", "--quiet")
    assert run(small) == 0
    capsys.readouterr()
    before = (tmp_path / "out" / "items.jsonl").read_bytes()
    assert "temperature 0.6 → 1.0" in complaint(capsys, *small, "--temperature", "1")
    assert "--fresh" in complaint(capsys, *small, "--seed", "3")
    assert (tmp_path / "out" / "items.jsonl").read_bytes() == before
    assert "another kind of run" in complaint(capsys, "search", "--output", "out")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("words")
    assert "thesis.tex" in complaint(capsys, *small, "--output", "mine")


def test_an_interrupt_keeps_what_is_done_and_the_same_command_goes_on(tmp_path):
    command = (sys.executable, "-m", "pts", "eval", "--levels", "4", "--problems", "10", "--strategies", "full")
    command += ("--no-baselines", "--seeds", "24", "--quiet", "--batch-rows", "4", "--output", "out")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    started = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    shard = tmp_path / "out" / "items.jsonl"
    deadline = time.monotonic() + 90
    while not shard.exists():
        assert started.poll() is None, started.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    started.send_signal(signal.SIGINT)
    _, said = started.communicate(timeout=120)
    assert started.returncode == 130
    kept = shard.read_bytes()
    count = kept.count(b"\n")
    assert 0 < count < 240
    assert said == f"pts: stopped; {count} answers are kept in out; the same command continues.\n"
    # In larger batches, which change no answer.
    assert run((*command[3:], "--batch-rows", "256")) == 0
    assert shard.read_bytes().startswith(kept)
    assert shard.read_bytes().count(b"\n") == 240
