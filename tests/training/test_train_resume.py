"""A training that is killed, or whose disk is full, goes on; one that cannot learn says so and stops."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from pts.cli import run
from tests.cli.one_line import complaint

pytest.importorskip("trl")

SMALL = ("--problems", "8", "--prompts", "2", "--samples", "4", "--save-every", "2", "--learning-rate", "1e-3")
COMMAND = ("train", "adaptthink", "--reference", "own", "--steps", "6", *SMALL)


def curve(path):
    points = [json.loads(line) for line in (path / "curves.jsonl").read_text().splitlines()]
    return [
        (point["step"], point["reward"], round(point["no_thinking"], 6), point["tokens"]) for point in points
    ]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("train") / "whole"
    assert run([*COMMAND, "--output", str(path), "--quiet"]) == 0
    return path


def start(path, before=""):
    code = f"{before}from pts.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *COMMAND, "--output", str(path), "--quiet"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_a_killed_training_comes_to_what_it_would_have_been(whole, tmp_path):
    path = tmp_path / "killed"
    process = start(path)
    while not (path / "checkpoints" / "checkpoint-4" / "complete").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (path / "config.json").exists()
    # What a kill leaves half-written: a line of the curve, and a checkpoint.
    with open(path / "curves.jsonl", "a") as file:
        file.write('{"step": 9')
    half = path / "checkpoints" / "checkpoint-9"
    half.mkdir()
    assert run([*COMMAND, "--output", str(path), "--quiet"]) == 0
    assert not half.exists()
    assert [step for step, *_ in curve(path)] == list(range(6))
    for found, expected in zip(curve(path), curve(whole), strict=True):
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-5)


@pytest.mark.slow
def test_a_full_disk_at_a_checkpoint_is_one_line(tmp_path):
    path = tmp_path / "full"
    room = 1 << 20
    process = start(
        path,
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room})); ",
    )
    out, err = process.communicate(timeout=300)
    assert (process.returncode, out) == (2, "")
    assert err.startswith("pts: could not write")
    assert err.count("\n") == 1
    assert len((path / "curves.jsonl").read_text().splitlines()) == 2


@pytest.mark.slow
def test_a_resumed_run_with_other_settings_is_refused_and_kept(whole, capsys):
    before = (whole / "curves.jsonl").read_bytes()
    said = complaint(capsys, *COMMAND, "--warmup", "1", "--output", str(whole), "--quiet")
    assert "training.warmup 5 → 1" in said
    assert (whole / "curves.jsonl").read_bytes() == before


@pytest.mark.slow
def test_steps_without_any_difference_in_reward_stop_with_one_line(tmp_path, capsys):
    rows = [{"question": f"What is {n} + 4 ?", "answer": "99"} for n in range(3, 5)]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, rows)))
    small = ["--dataset", str(tmp_path / "p.jsonl"), "--grader", "demo", "--prompts", "1", "--samples", "2"]
    command = ["train", "length", "--alpha", "0", "--steps", "30", *small, "--output", str(tmp_path / "m")]
    said = complaint(capsys, *command, "--quiet")
    assert "all completions of 20 steps in a row had the same reward (success 0.00" in said
    assert len((tmp_path / "m" / "curves.jsonl").read_text().splitlines()) == 19


@pytest.mark.slow
def test_a_loss_that_is_no_number_is_one_line(tmp_path, capsys):
    command = [*COMMAND, "--learning-rate", "1e30", "--warmup", "0", "--output", str(tmp_path / "m"), "--quiet"]
    said = complaint(capsys, *command)
    assert "is not a number: give a lower --learning-rate" in said
