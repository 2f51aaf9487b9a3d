"""A run that was stopped at any moment goes on to the findings of one that was not."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from pts.runs.rollout_parts import read_parts

SEARCH = ("search", "--problems", "4", "--levels", "2,3", "--threshold", "0.4", "--traces", "1", "--quiet")
DERIVED = ("pivotal_tokens.jsonl", "summary.json")


def start(output, *more, code=("-m", "pts"), arguments=SEARCH):
    return subprocess.Popen(
        [sys.executable, *code, *arguments, "--output", str(output), *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def finish(process):
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def until(condition, process):
    deadline = time.monotonic() + 90
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def lines(path):
    shard = path / "problems.jsonl"
    return shard.read_bytes().count(b"\n") if shard.exists() else 0


def records(path):
    # The time is the run's own; everything else must be equal.
    created = (path / "manifest.json").read_text().split('"created": "')[1].split('"')[0]
    return [(path / name).read_text().replace(created, "") for name in DERIVED]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "run"
    code, _, err = finish(start(path))
    assert (code, err) == (0, "")
    assert (path / "pivotal_tokens.jsonl").read_text() != ""
    return path


def stop(path, signals, when):
    process = start(path)
    when(process)
    for number in signals:
        process.send_signal(number)
        time.sleep(0.02)
    return finish(process)


@pytest.mark.slow
def test_stopped_again_and_again_it_ends_with_the_same_findings(whole, tmp_path):
    path = tmp_path / "run"
    manifest = path / "manifest.json"
    once, twice = [signal.SIGINT], [signal.SIGINT, signal.SIGINT, signal.SIGINT]
    while_importing = stop(path, twice, lambda _: time.sleep(0.7))
    assert while_importing[0] == 130
    before = stop(path, once, lambda process: until(manifest.exists, process))
    between = stop(path, twice, lambda process: until(lambda: lines(path) >= 1, process))
    done = lines(path)
    terminated = stop(path, [signal.SIGTERM], lambda process: until(lambda: lines(path) > done, process))
    for code, out, err in (while_importing, before, between):
        assert code == 130
        assert out == ""
        assert err.startswith("pts: stopped;")
        assert err.count("\n") == 1
    assert f"{done} of 4 problems are done, and " in between[2]
    assert "generated tokens kept in" in between[2]
    assert terminated[0] == 143
    done = lines(path)
    if done < 4:
        killed = stop(path, [signal.SIGKILL], lambda process: until(lambda: lines(path) > done, process))
        assert killed[0] == -signal.SIGKILL
    code, _, err = finish(start(path))
    assert (code, err) == (0, "")
    assert records(path) == records(whole)


def drawn(path):
    """How many completions were recorded for each request."""
    counts = Counter()
    for part in read_parts(path / "rollouts", ["key", "digest", "count"]):
        for row in part.to_pylist():
            counts[row["key"], row["digest"]] += row["count"]
    return counts


@pytest.mark.slow
def test_killed_in_the_midst_of_its_problems_it_goes_on_and_draws_nothing_twice(whole, tmp_path):
    path = tmp_path / "run"
    kept = []
    for share in (0.2, 0.5, 0.8):
        wanted = share * drawn(whole).total()
        killed = stop(path, [signal.SIGKILL], lambda p, n=wanted: until(lambda: drawn(path).total() >= n, p))
        assert killed[0] == -signal.SIGKILL
        kept.append(drawn(path))
        assert kept[-1].items() <= drawn(whole).items()
    assert lines(path) < 4
    assert kept[0].items() < kept[1].items() < kept[2].items()
    assert finish(start(path))[0] == 0
    assert drawn(path) == drawn(whole)
    assert records(path) == records(whole)


@pytest.mark.slow
def test_a_truncated_last_line_is_searched_again(whole, tmp_path):
    path = tmp_path / "run"
    path.mkdir()
    for name in ("manifest.json", "problems.jsonl"):
        (path / name).write_bytes((whole / name).read_bytes())
    shutil.copytree(whole / "rollouts", path / "rollouts")
    with open(path / "problems.jsonl", "r+b") as shard:
        shard.truncate(os.path.getsize(path / "problems.jsonl") - 20)
    code, _, err = finish(start(path))
    assert (code, err) == (0, "")
    assert records(path) == records(whole)


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_the_run_goes_on(whole, tmp_path):
    path = tmp_path / "run"
    room = (whole / "problems.jsonl").stat().st_size // 2
    code = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room})); "
        "from pts.cli import main; main()"
    )
    failed = finish(start(path, code=("-c", code)))
    assert failed[0] == 2
    assert failed[2].startswith("pts: could not write")
    assert failed[2].count("\n") == 1
    assert all(file.read_bytes().endswith(b"\n") for file in path.glob("problems.jsonl"))
    assert finish(start(path))[0] == 0
    assert records(path) == records(whole)


@pytest.mark.slow
def test_a_directory_in_use_is_refused_and_can_be_read(tmp_path):
    path = tmp_path / "run"
    first = start(path)
    try:
        until((path / "manifest.json").exists, first)
        code, out, err = finish(start(path))
        assert (code, out) == (2, "")
        assert f"in use by process {first.pid}" in err
        assert err.count("\n") == 1
        shown = subprocess.run([sys.executable, "-m", "pts", "show", str(path)], capture_output=True, text=True)
        assert shown.returncode == 0
        assert "partial" in shown.stdout
    finally:
        first.kill()
        first.communicate()
