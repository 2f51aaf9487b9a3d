"""`pts run` on the bundled demo model: what is skipped, continued, made again, refused and said first."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from pts.cli import run
from pts.steering.vector_files import load_vectors
from tests.cli.one_line import complaint
from tests.publishing.hub_repository import WRITE
from tests.publishing.hub_server import Hub

pytestmark = pytest.mark.slow

RECIPE = """
stages:
  - {stage: search, problems: 18, levels: [2, 3, 4], thinking: true, output: run}
  - stage: extract-vectors
    output: set
    methods: [contrast]
    gates: [always]
    layers: [2]
    strengths: [0.4]
    calibration_problems: 4
    samples: 1
    test_problems: 4
    test_samples: 1
    random: 1
  - {stage: publish, license: mit}
"""


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A directory in which the whole recipe has run, and what it printed."""
    home, before = tmp_path_factory.mktemp("first"), os.getcwd()
    os.chdir(home)
    try:
        (home / "r.yaml").write_text(RECIPE)
        done = subprocess.run(
            [sys.executable, "-m", "pts", "run", "r.yaml"], capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        return home, done
    finally:
        os.chdir(before)


@pytest.fixture
def made(first, tmp_path, monkeypatch):
    """A copy of that directory, as the working directory."""
    shutil.copytree(first[0], tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture
def empty(tmp_path, monkeypatch):
    (tmp_path / "r.yaml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def content(folder):
    kept = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {str(path.relative_to(folder)): path.read_bytes() for path in kept}


def words(printed):
    """What is printed, in one line however wide the report was."""
    return " ".join(printed.split())


def refusal(capsys, *arguments):
    return complaint(capsys, "run", "r.yaml", *arguments)


def done(capsys, *arguments):
    """What is said, progress left out, and what is printed, the exit code being 0."""
    assert run(["run", "r.yaml", *arguments]) == 0
    captured = capsys.readouterr()
    return [line for line in captured.err.splitlines() if " tokens/s" not in line], captured.out


def test_the_whole_recipe_from_search_to_card(first):
    home, printed = first
    assert printed.stderr.splitlines()[:3] == [
        "pts: search: writes run.",
        "pts: extract-vectors: writes set.",
        "pts: publish: shows files and card of set, and sends nothing.",
    ]
    assert "18 searched" in printed.stdout
    assert "Effect on 4 test problems × 1" in printed.stdout
    assert "bytes  vectors.safetensors" in printed.stdout
    assert "license: mit" in printed.stdout
    assert printed.stdout.endswith(
        "Nothing was sent; --set publish.push=true --set publish.repo_id=OWNER/NAME publishes this.\n"
    )
    assert load_vectors(home / "set").model.id == "demo"


def test_a_second_run_leaves_everything_as_it_is(made, capsys):
    before = content(made)
    said, printed = done(capsys, "--until", "calibrate")
    assert "search: run is complete (18 of 18 problems done" in said[0]
    assert said[1:] == ["pts: extract-vectors: set is complete: nothing to do."]
    assert "18 searched" not in printed
    assert "Effect on 4 test problems" in printed
    assert content(made) == before


def test_changed_settings_of_the_extraction_say_so_and_make_it_again(made, capsys):
    search, calibration = content(made / "run"), (made / "set" / "calibration.jsonl").read_bytes()
    said, printed = done(capsys, "--until", "calibrate", "--set", "samples=2", "--quiet")
    assert said == [
        "pts: extract-vectors: set was made with other settings (samples 1 → 2); what is there (a finished "
        "vector set) is deleted and made again."
    ]
    assert "Effect" in printed
    assert (made / "set" / "calibration.jsonl").read_bytes() != calibration
    assert content(made / "run") == search
    said, _ = done(capsys, "--until", "calibrate", "--set", "samples=2")
    assert "nothing to do" in said[1]


def test_what_changes_nothing_that_is_compared_makes_nothing_again(made, capsys):
    before = content(made)
    done(
        capsys, "--set", "search.batch_rows=8", "--set", "extract-vectors.batch_rows=8", "--until", "calibrate"
    )
    assert content(made) == before


def test_a_changed_search_is_refused_before_anything_is_done(made, capsys):
    before = content(made)
    said = refusal(capsys, "--set", "search.seed=1", "--set", "samples=2")
    assert "run holds a search with other settings (search.seed 0 → 1): 18 of 18 problems done" in said
    assert "--fresh" in said
    assert "--set search.output=" in said
    assert content(made) == before


def test_fresh_says_what_it_deletes_and_replaces_the_search_and_what_follows(made, capsys):
    search = content(made / "run")
    small = ("--set", "search.seed=1", "--set", "problems=2", "--until", "search")
    said, printed = done(capsys, *small, "--fresh", "--quiet")
    assert len(said) == 1
    assert "search: deletes run (18 of 18 problems done, " in said[0]
    assert "0 to do; 2 in all" in words(printed)
    assert content(made / "run") != search
    assert "nothing to do" in done(capsys, *small)[0][0]
    with_set = refusal(capsys, *small[:4], "--from", "extract-vectors")
    assert "vectors need at least 24 of 8" in with_set or "no pivotal token" in with_set


def test_a_search_that_spent_its_limit_is_as_complete_as_it_can_be(empty, capsys):
    short = ("--until", "search", "--set", "problems=4", "--set")
    done(capsys, *short, "max_tokens=4000")
    before = content(empty)
    said, _ = done(capsys, *short, "max_tokens=4000")
    assert "of 4 problems done" in said[0]
    assert "all that max_tokens allowed): nothing to do" in said[0]
    assert content(empty) == before
    assert "--from skips search, which is not complete" in refusal(
        capsys, "--from", "harvest", *short[2:], "max_tokens=9000"
    )
    assert "search: continues run" in done(capsys, *short, "max_tokens=9000")[0][0]


def test_a_longer_search_makes_the_vectors_again(made, capsys):
    pairs = (made / "set" / "manifest.json").read_text().split('"pairs"')[1][:60]
    said, printed = done(capsys, "--set", "problems=20", "--until", "calibrate")
    assert "search: continues run (18 of 18 problems done" in said[0]
    assert "set (a finished vector set), that is deleted and made again" in said[1]
    assert "0 to do; 20 in all" in words(printed)
    assert "Effect" in printed
    assert (made / "set" / "manifest.json").read_text().split('"pairs"')[1][:60] != pairs


def test_the_parts_of_an_extraction_one_by_one(made, capsys):
    shutil.rmtree(made / "set")
    assert "set does not exist" in refusal(capsys, "--from", "cluster")
    said, printed = done(capsys, "--until", "harvest")
    assert said[1] == "pts: extract-vectors, until harvest: writes set."
    assert printed == "harvest: the activations are in set\n"
    assert not (made / "set" / "patterns.json").exists()
    assert "--from skips extract-vectors up to cluster, which is not complete" in refusal(
        capsys, "--from", "calibrate"
    )
    before = content(made)
    assert "nothing to do" in done(capsys, "--until", "harvest")[0][1]
    assert content(made) == before
    said, printed = done(capsys, "--from", "cluster", "--until", "cluster")
    assert len(said) == 1
    assert printed.startswith("cluster: ")
    assert not (made / "set" / "calibration.jsonl").exists()
    said, printed = done(capsys, "--from", "calibrate")
    assert "continues set" in said[0]
    assert "Effect" in printed
    assert "Nothing was sent" in printed
    said = refusal(capsys, "--from", "publish", "--set", "samples=2")
    assert "was made with other settings (samples 1 → 2)" in said


def test_from_needs_what_comes_before_it(empty, made, monkeypatch, capsys):
    said = refusal(capsys, "--from", "publish", "--set", "problems=19")
    assert "--from skips search, which is not complete" in said
    assert "run has 18 of 18 problems done" in said
    monkeypatch.chdir(empty)
    assert "run does not exist. Leave --from out" in refusal(capsys, "--from", "harvest")
    assert [path.name for path in empty.iterdir() if path.is_file()] == ["r.yaml"]


def test_every_stage_is_looked_at_before_the_first(empty, capsys):
    nowhere = ("--set", "publish.push=true", "--set", "repo_id=me/it", "--set", "token_from_env=PTS_NO_TOKEN")
    assert "PTS_NO_TOKEN holds no token" in refusal(capsys, *nowhere)
    (empty / "set").mkdir()
    (empty / "set" / "thesis.tex").write_text("words")
    said = refusal(capsys)
    assert "(thesis.tex); give another extract-vectors.output." in said
    assert "by --set extract-vectors.output=VALUE" in said
    shutil.rmtree(empty / "set")
    said = refusal(capsys, "--set", "search.levels=[9]", "--set", "search.dataset=d.jsonl")
    assert "leave search.levels out" in said
    assert "Did you mean extract-vectors.samples" in refusal(capsys, "--set", "extract-vectors.sample=1")
    assert not (empty / "run").exists()


def test_push_sends_the_set_and_a_second_push_nothing(made, monkeypatch, capsys):
    push = ("--from", "publish", "--set", "push=true", "--set", "repo_id=me/it", "--set", "token_from_env=MINE")
    monkeypatch.setenv("MINE", WRITE)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    # Whichever test imported the client first may have done so offline, which it remembers.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with Hub() as hub:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
        said, printed = done(capsys, *push)
        assert said == ["pts: publish: pushes set to dataset me/it."]
        assert "commit " in printed
        assert "tag v1\n" in printed
        assert "the same content was there already" in done(capsys, *push)[1]


def test_an_interrupt_leaves_a_recipe_that_goes_on(empty):
    short = ("--until", "search", "--set", "problems=3", "--set", "traces=1", "--set", "levels=[2]")
    command = [sys.executable, "-m", "pts", "run", "r.yaml", "--quiet", *short]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300
    shard = empty / "run" / "problems.jsonl"
    while not shard.exists() or not shard.stat().st_size:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (130, "")
    assert "generated tokens kept in run; the same command continues." in err
    again = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert again.returncode == 0
    assert "0 to do; 3 in all" in words(again.stdout)


def test_a_recipe_evaluates_leaves_what_is_complete_and_keeps_what_others_made(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "e.yaml").write_text(
        "stages: [{stage: eval, problems: 2, levels: [1], seeds: 1, strategies: [nothink, auto], "
        "vectors: demo, baselines: false, device: cpu, output: out}]"
    )
    assert run(["run", "e.yaml"]) == 0
    first = capsys.readouterr()
    assert "eval: writes out." in first.err
    assert "2 problems × 1 seed" in first.out
    items = (tmp_path / "out" / "items.jsonl").read_bytes()
    assert run(["run", "e.yaml"]) == 0
    assert "eval: continues out" in capsys.readouterr().err
    assert run(["run", "e.yaml", "--set", "top_p=0.5"]) == 2
    assert "sampling.top_p 0.95 → 0.5" in capsys.readouterr().err
    assert (tmp_path / "out" / "items.jsonl").read_bytes() == items
    assert run(["run", "e.yaml", "--set", "top_p=0.5", "--fresh"]) == 0
    assert "eval: deletes out and starts again." in capsys.readouterr().err
