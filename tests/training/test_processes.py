"""A training on several processes of a launcher: its arithmetic, and what is said where one of them fails."""

import json
import os
import subprocess
import sys

import pytest

from pts.cli import run, train
from pts.errors import ConfigError, RunError
from pts.training.processes import LostProcess, process_count, require_known_launcher, told_of_lost_ones

pytest.importorskip("trl")

COMMAND = ("train", "shorten", "--steps", "3", "--problems", "24", "--samples", "4", "--examples", "4")


@pytest.mark.parametrize(
    "environment",
    [
        {"ACCELERATE_USE_CPU": "True", "MASTER_ADDR": "127.0.0.1"},
        {"OMPI_COMM_WORLD_SIZE": "2"},
        {"PMI_SIZE": "2"},
    ],
)
def test_several_processes_that_cannot_know_of_each_other_are_refused(environment):
    with pytest.raises(ConfigError, match="torchrun --nproc-per-node"):
        require_known_launcher(environment)
    require_known_launcher({**environment, "WORLD_SIZE": "2"})


def test_one_process_of_a_launcher_is_none_to_refuse():
    require_known_launcher({})
    require_known_launcher({"ACCELERATE_USE_CPU": "True"})
    require_known_launcher({"OMPI_COMM_WORLD_SIZE": "1"})


def test_a_lost_process_is_one_line_and_other_errors_stay_what_they_are(monkeypatch):
    lost = RuntimeError("[gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:43166")
    with pytest.raises(RuntimeError, match="closed by peer"), told_of_lost_ones():
        raise lost
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(LostProcess, match="the same command again"), told_of_lost_ones():
        raise lost
    with pytest.raises(RuntimeError, match="shapes"), told_of_lost_ones():
        raise RuntimeError("the shapes differ")


@pytest.mark.parametrize(
    ("error", "said"), [(RunError("no room."), "pts: process 1: no room.\n"), (LostProcess("gone."), "")]
)
def test_another_process_reports_its_own_errors_alone(monkeypatch, capsys, error, said):
    def fail(*_, **__):
        raise error

    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(train, "run_stage", fail)
    monkeypatch.setattr(train, "_PATIENCE", 0)
    assert run(list(COMMAND)) == 2
    assert capsys.readouterr() == ("", said)


@pytest.mark.slow
def test_a_shortening_by_two_processes_is_that_by_one(tmp_path):
    """Their gradients are summed in another order, and nothing else differs."""
    kept = ("--completions", str(tmp_path / "completions"), "--json")
    assert process_count() == 1
    assert run([*COMMAND, *kept, "--output", str(tmp_path / "one")]) == 0
    code = "from pts.cli import main; main()"
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    launched = (*launcher, "--no-python", sys.executable, "-c", code, *COMMAND, *kept)
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(
        [*launched, "--output", str(tmp_path / "two")], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    # One report, and nothing but progress beside it.
    assert json.loads(done.stdout)["steps"] == 3
    assert json.loads((tmp_path / "two" / "manifest.json").read_text())["environment"]["processes"] == 2
    one, two = (
        [json.loads(line) for line in (tmp_path / name / "curves.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    )
    assert [point["step"] for point in two] == [0, 1, 2]
    for left, right in zip(one, two, strict=True):
        assert left["tokens"] == right["tokens"]
        assert left["loss"] == pytest.approx(right["loss"], rel=1e-4)
        assert left["grad_norm"] == pytest.approx(right["grad_norm"], rel=1e-3)
