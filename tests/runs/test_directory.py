import json
import os

import pytest

from pts.errors import RunError
from pts.runs.directory import RunKind, find_run, open_run
from pts.runs.manifest import Manifest, differences, list_problems

KIND = RunKind("search", "problems.jsonl", ("summary.json",))


def manifest(**asked):
    return Manifest("search", "2026-01-01T00:00:00Z", asked, {}, {}, list_problems(["d"]), {"pts": "0"})


def make_run(path, **asked):
    with open_run(path, KIND) as directory:
        directory.write_manifest(manifest(**asked))


def test_nothing_is_left_where_no_manifest_was_written(tmp_path):
    with pytest.raises(ZeroDivisionError), open_run(tmp_path / "a" / "b", KIND):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_no_utf8_is_refused_by_writers_and_readers(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9")
    said = r"the directory name .*caf\\xe9 is not UTF-8 text \(byte 0xe9"
    with pytest.raises(RunError, match=said), open_run(path, KIND):
        pass
    assert not path.exists()
    with pytest.raises(RunError, match=said):
        find_run(path)


def test_a_directory_with_other_files_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("words")
    with (
        pytest.raises(RunError, match=r"holds files that are not a run \(thesis.tex\)"),
        open_run(tmp_path, KIND),
    ):
        pass
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("text", ["{", '{"name": "my app"}', "[]"])
def test_somebody_elses_manifest_is_refused(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(RunError, match="not a run"), open_run(tmp_path, KIND):
        pass
    assert [entry.name for entry in tmp_path.iterdir()] == ["manifest.json"]


def test_another_kind_of_run_is_refused(tmp_path):
    make_run(tmp_path / "run")
    other = RunKind("harvest", "vectors.jsonl", ())
    with (
        pytest.raises(RunError, match=r"another kind of run \(search, not harvest\)"),
        open_run(tmp_path / "run", other),
    ):
        pass


def test_a_newer_schema_is_named(tmp_path):
    make_run(tmp_path / "run")
    path = tmp_path / "run" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 99}))
    with pytest.raises(RunError, match="newer version of pts"), open_run(tmp_path / "run", KIND):
        pass


def test_a_file_as_output_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="is a file"), open_run(tmp_path / "file", KIND):
        pass


def test_a_second_writer_is_told_whose_it_is(tmp_path):
    with open_run(tmp_path / "run", KIND) as directory:
        directory.write_manifest(manifest())
        pid = os.fork()
        if pid == 0:
            try:
                with open_run(tmp_path / "run", KIND):
                    os._exit(0)
            except RunError as error:
                os._exit(7 if f"in use by process {os.getppid()}" in str(error) else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    with open_run(tmp_path / "run", KIND):
        pass


def test_clear_deletes_the_runs_own_files_only(tmp_path):
    make_run(tmp_path / "run")
    (tmp_path / "run" / "problems.jsonl").write_text("")
    (tmp_path / "run" / "notes.txt").write_text("mine")
    with open_run(tmp_path / "run", KIND) as directory:
        directory.clear()
        directory.write_manifest(manifest(seed=1))
    assert not (tmp_path / "run" / "problems.jsonl").exists()
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"


def test_a_manifest_comes_back_and_differences_name_keys_and_values(tmp_path):
    make_run(tmp_path / "run", sampling={"top_k": 20}, levels=(1, 2))
    with open_run(tmp_path / "run", KIND) as directory:
        assert differences(directory.manifest.settings, {"sampling": {"top_k": 20}, "levels": (1, 2)}) == []
        with pytest.raises(RunError, match=r"sampling.top_k 20 → 0; levels \[1, 2\] → \[1\]"):
            directory.require_same(
                "configuration", directory.manifest.settings, {"sampling": {"top_k": 0}, "levels": [1]}
            )
