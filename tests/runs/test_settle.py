"""The manifest of a run that begins, goes on, grows and starts again."""

import json

import pytest

from pts.errors import RunError
from pts.runs.directory import RunKind, open_run
from pts.runs.manifest import list_problems, read_manifest
from pts.runs.settle import settle_manifest

KIND = RunKind("search", "problems.jsonl", ("summary.json",))
SETTINGS = {"seed": 0}


def settle(path, resolved=None, environment=None, problems=("a",), **more):
    with open_run(path, KIND) as directory:
        return settle_manifest(
            directory,
            settings=SETTINGS,
            resolved=resolved or {"dtype": "float32"},
            environment=environment or {"device": "cpu"},
            problems=problems,
            **more,
        )


def edit(path, **parts):
    file = path / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **parts}))


def test_a_run_that_goes_on_keeps_its_time_and_the_longer_list(tmp_path, caplog):
    run = tmp_path / "run"
    settle(run, problems=("a", "b"))
    edit(run, created="2026-01-01T00:00:00Z")
    again = settle(run, environment={"device": "cuda"}, problems=("a",))
    assert again.created == "2026-01-01T00:00:00Z"
    assert again.problems == list_problems(["a", "b"])
    assert again.environment == {"device": "cuda"}
    assert settle(run, problems=("a", "b", "c")).problems == list_problems(["a", "b", "c"])
    assert caplog.text == ""


def test_other_versions_are_logged_and_another_model_is_refused(tmp_path, caplog):
    run = tmp_path / "run"
    settle(run)
    edit(run, versions={"torch": "1.0"})
    settle(run)
    assert 'other versions: torch "1.0"' in caplog.text
    with pytest.raises(RunError, match='another model or data: dtype "float32" → "float16"'):
        settle(run, resolved={"dtype": "float16"})
    # What only one of two versions records is no difference.
    settle(run, resolved={"attention": "eager"})


def test_fresh_deletes_the_run_that_is_there(tmp_path):
    run = tmp_path / "run"
    settle(run)
    (run / "problems.jsonl").write_text("{}\n")
    edit(run, created="2026-01-01T00:00:00Z")
    assert settle(run, resolved={"dtype": "float16"}, fresh=True).created > "2026-01-01T00:00:00Z"
    assert not (run / "problems.jsonl").exists()


def test_a_manifest_of_an_earlier_version_is_read_under_the_names_of_now(tmp_path):
    run = tmp_path / "run"
    new = settle(run)
    data = json.loads((run / "manifest.json").read_text())
    names = {"settings": "asked", "resolved": "found", "environment": "conditions"}
    (run / "manifest.json").write_text(json.dumps({names.get(key, key): value for key, value in data.items()}))
    assert read_manifest(run) == new
    assert settle(run).settings == SETTINGS
