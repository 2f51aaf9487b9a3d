"""Shards of a search, put together: the run that one process writes, or a line that says why not."""

import json
import shutil
from dataclasses import replace

import pytest

from pts.errors import ConfigError, DataError, RunError
from pts.runs.manifest import read_manifest, write_manifest
from pts.runs.rollout_journal import rollout_totals
from pts.runs.search_run import read_search
from pts.runs.search_summary import search_summary
from pts.stages.merge.inputs import MergeInputs
from pts.stages.merge.run import run_merge
from pts.stages.merge.stage import STAGE
from pts.stages.search.inputs import SearchInputs
from pts.stages.search.reload import searched_inputs, untouched_problems
from pts.stages.search.run import run_search
from pts.stages.search.share import Share, read_share
from pts.stages.stage import Context
from tests.stages.search.test_search_stage import counted

WHOLE = SearchInputs(problems=7, levels=(2, 3), threshold=0.4, traces=1, verify=False)
SHARES = 3


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    run = replace(WHOLE, output=tmp_path_factory.mktemp("whole") / "run")
    run_search(run)
    return run.output


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    runs = [replace(WHOLE, shard=f"{i}/{SHARES}", output=folder / str(i)) for i in range(1, SHARES + 1)]
    for run in runs:
        run_search(run)
    return [run.output for run in runs]


def copies(shards, folder):
    paths = [folder / path.name for path in shards]
    for path, copy in zip(shards, paths, strict=True):
        shutil.copytree(path, copy)
    return paths


def merged(shards, folder, **more):
    inputs = MergeInputs(tuple(shards), folder / "merged", **more)
    return run_merge(inputs), inputs.output


def change(path, **parts):
    write_manifest(path, replace(read_manifest(path), **parts))


@pytest.mark.slow
def test_the_merged_run_is_that_of_one_process(whole, shards, tmp_path):
    summary, path = merged(shards[::-1], tmp_path)
    alone, together = read_search(whole), read_search(path)
    assert summary == search_summary(alone)
    assert (summary.status, summary.problems, summary.done) == ("complete", 7, 7)
    assert summary.candidates > summary.findings > 0
    assert counted(path) == counted(whole)
    assert [(f.problem.problem_id, f.candidate.position) for f in together.findings] == [
        (f.problem.problem_id, f.candidate.position) for f in alone.findings
    ]
    # Over the whole run: the shards' own q-values are of fewer candidates.
    assert [f.q_value for f in together.findings] == pytest.approx([f.q_value for f in alone.findings])
    assert rollout_totals(path / "rollouts") == rollout_totals(whole / "rollouts")
    settings, resolved = read_manifest(whole).settings, read_manifest(whole).resolved
    assert (read_manifest(path).settings, read_manifest(path).resolved) == (settings, resolved)
    assert read_manifest(path).problems == read_manifest(whole).problems
    assert not list(path.glob("rollouts/*.tail"))


@pytest.mark.slow
def test_each_shard_is_a_run_of_its_own_problems(whole, shards):
    everything = list(read_search(whole).latest)
    parts = [set(read_search(path).latest) for path in shards]
    assert [len(part) for part in parts] == [3, 2, 2]
    assert set.union(*parts) == set(everything)
    with pytest.raises(RunError, match=r'shard "1/3" → "2/3"'):
        run_search(replace(WHOLE, shard="2/3", output=shards[0]))
    # What a vector is tested on is of no shard.
    untouched = untouched_problems(read_search(shards[0]), 2, 2)
    assert not {problem.id for part in untouched for problem in part} & set(everything)
    assert searched_inputs(read_search(shards[0])).shard == "1/3"


@pytest.mark.slow
def test_a_merged_run_goes_on_and_grows_like_any_other(shards, tmp_path):
    _, path = merged(shards, tmp_path)
    grown = run_search(replace(WHOLE, problems=8, output=path))
    at_once = run_search(replace(WHOLE, problems=8, output=tmp_path / "at-once"))
    assert grown == at_once
    with pytest.raises(RunError, match="searched on after it was merged"):
        merged(shards, tmp_path)
    again, _ = merged(shards, tmp_path, fresh=True)
    assert again.problems == 7


@pytest.mark.slow
def test_shards_that_grew_are_merged_again_and_equal_ones_left(shards, tmp_path):
    paths = copies(shards, tmp_path)
    inputs = MergeInputs(tuple(paths), tmp_path / "merged")
    assert STAGE.plan(inputs, Context()).text == f"merge: writes {inputs.output}."
    run_merge(inputs)
    written = {path: path.stat().st_mtime_ns for path in inputs.output.rglob("*.*") if path.name[0] != "."}
    assert STAGE.plan(inputs, Context()).idle
    run_merge(inputs)
    assert {path: path.stat().st_mtime_ns for path in written} == written
    for i, path in enumerate(paths, start=1):
        run_search(replace(WHOLE, problems=9, shard=f"{i}/{SHARES}", output=path))
    assert "again, with what the shards have more" in STAGE.plan(inputs, Context()).text
    assert run_merge(inputs).problems == 9


@pytest.mark.slow
def test_what_is_left_of_a_shard_is_searched_in_the_merged_run(whole, shards, tmp_path, caplog):
    paths = copies(shards, tmp_path)
    lines = (paths[1] / "problems.jsonl").read_bytes().splitlines(keepends=True)
    (paths[1] / "problems.jsonl").write_bytes(lines[0] + lines[1][:50])
    summary, path = merged(paths, tmp_path)
    assert (summary.status, summary.done) == ("partial", 6)
    assert "1 of its 2 problems are done" in caplog.text
    told = []
    finished = run_search(replace(WHOLE, output=path), told.append)
    assert told == []  # Every rollout was recorded: none is drawn again.
    assert finished == search_summary(read_search(whole))


@pytest.mark.slow
def test_a_limit_is_shared_out_and_added_up(whole, tmp_path, caplog):
    alone = search_summary(read_search(whole))
    limit = alone.tokens_generated // 2
    runs = [
        replace(WHOLE, shard=f"{i}/2", max_tokens=limit, output=tmp_path / str(i), batch_rows=8) for i in (1, 2)
    ]
    shards = [run_search(run) for run in runs]
    assert [summary.status for summary in shards] == ["spent", "spent"]
    assert all(limit // 2 <= summary.tokens_generated < 0.75 * limit for summary in shards)
    summary, path = merged([run.output for run in runs], tmp_path)
    assert (summary.status, summary.problems) == ("spent", 7)
    assert summary.tokens_generated == sum(each.tokens_generated for each in shards)
    assert read_search(path).environment.max_tokens == limit
    assert "its part of max_tokens= is spent" in caplog.text
    told = []
    # Nothing is left of the limit; without one the whole is that of one process, and nothing is drawn twice.
    assert run_search(replace(WHOLE, max_tokens=limit, output=path), told.append).status == "spent"
    assert told == []
    assert run_search(replace(WHOLE, output=path)).tokens_generated == alone.tokens_generated
    assert counted(path) == counted(whole)


@pytest.mark.slow
def test_shards_that_do_not_belong_together_are_refused(whole, shards, tmp_path):
    paths = copies(shards, tmp_path)
    with pytest.raises(RunError, match=r"1 of 3 shards are missing \(2/3\).*shard='2/3'"):
        merged([paths[0], paths[2]], tmp_path)
    with pytest.raises(RunError, match="are both shard 1/3"):
        merged([*paths, shards[0]], tmp_path)
    with pytest.raises(RunError, match="is no shard"):
        merged([*paths[:2], whole], tmp_path)
    with pytest.raises(ConfigError, match="is one of the shards"):
        MergeInputs(tuple(paths), paths[0])
    manifest = read_manifest(paths[1])
    change(paths[1], settings={**manifest.settings, "suffix": "Be brief."})
    with pytest.raises(RunError, match=r'other settings.*suffix null → "Be brief."'):
        merged(paths, tmp_path)
    change(paths[1], settings={**manifest.settings, "shard": "2/4"})
    with pytest.raises(RunError, match="shards 3 → 4"):
        merged(paths, tmp_path)
    change(paths[1], settings=manifest.settings, resolved={**manifest.resolved, "model_revision": "other"})
    with pytest.raises(RunError, match=r"another model or data.*model_revision"):
        merged(paths, tmp_path)
    change(paths[1], resolved=manifest.resolved, whole=replace(manifest.whole, count=9))
    with pytest.raises(RunError, match=r"a shard of 7 problems and .* of 9"):
        merged(paths, tmp_path)
    change(paths[1], whole=replace(manifest.whole, fingerprint="0"))
    with pytest.raises(RunError, match="the data changed"):
        merged(paths, tmp_path)
    change(paths[1], whole=manifest.whole)
    assert not (tmp_path / "merged").exists()
    with pytest.raises(RunError, match="holds another run than these shards"):
        run_merge(MergeInputs(tuple(paths), copies([shards[0]], tmp_path / "x")[0]))


@pytest.mark.slow
def test_other_dates_of_one_prompt_and_other_machines_are_merged(shards, tmp_path, caplog):
    paths = copies(shards, tmp_path)
    manifest = read_manifest(paths[2])
    change(
        paths[2],
        resolved={**manifest.resolved, "prompt_date": "2026-01-01T00:00:00"},
        environment={**manifest.environment, "device": "cuda:0"},
        versions={**manifest.versions, "torch": "1"},
    )
    merged(paths, tmp_path)
    assert "device cpu → cuda" in caplog.text
    assert '→ "1"' in caplog.text


def test_a_share_is_every_kth_problem():
    items = list(range(11))
    parts = [Share(i, 4).of(items) for i in range(1, 5)]
    assert sorted(item for part in parts for item in part) == items
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert all(Share(i, 4).of(range(20))[: len(part)] == part for i, part in enumerate(parts, start=1))


@pytest.mark.parametrize("text", ["", "3", "0/4", "5/4", "a/b", "1/0", "-1/4", "1/4/2"])
def test_what_is_no_share_is_refused(text):
    with pytest.raises(ConfigError, match="the I-th of K shards"):
        read_share(text)


def test_a_shard_names_its_directory_and_has_its_part_of_the_limit(tmp_path):
    assert replace(WHOLE, shard="2/4").directory().name == "demo-shard-2-of-4"
    parts = [replace(WHOLE, shard=f"{i}/3", max_tokens=1000).token_limit for i in (1, 2, 3)]
    assert (sum(parts), max(parts) - min(parts)) == (1000, 1)
    with pytest.raises(ConfigError, match=r"max_tokens=3 limits all 4 shards .* less than a token for each"):
        replace(WHOLE, shard="2/4", max_tokens=3)
    with pytest.raises(DataError, match="9 shards of 7 problems"):
        run_search(replace(WHOLE, shard="9/9", output=tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_commands_search_shards_and_merge_them(tmp_path, monkeypatch, capsys):
    from pts.cli import run
    from tests.cli.one_line import complaint

    monkeypatch.chdir(tmp_path)
    search = ["search", "--problems", "2", "--levels", "2", "--traces", "1", "--no-verify", "--quiet"]
    for i in (1, 2):
        assert run([*search, "--shard", f"{i}/2"]) == 0
    capsys.readouterr()
    names = ["runs/demo-shard-1-of-2", "runs/demo-shard-2-of-2"]
    assert "--shard 2/2" in complaint(capsys, "merge", names[0], "--output", "runs/demo")
    assert run(["merge", *names, "--output", "runs/demo", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["summary"]["problems"] == 2
    assert "--max-tokens 1 limits" in complaint(capsys, *search, "--shard", "1/2", "--max-tokens", "1")
    (tmp_path / "r.yaml").write_text(
        f"stages:\n  - stage: merge\n    runs: [{', '.join(names)}]\n    output: runs/demo\n"
    )
    assert run(["run", "r.yaml"]) == 0
    assert "merge: runs/demo is complete (2 of 2 problems done)" in capsys.readouterr().err
