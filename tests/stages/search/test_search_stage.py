"""The search stage on the bundled demo model: what is continued, extended, refused and left alone."""

import json
import shutil
from collections import Counter
from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from pts.errors import ConfigError, RunError
from pts.runs.codec import from_json, known_keys
from pts.runs.finding_records import PivotalToken
from pts.runs.search_run import read_search
from pts.stages.search.inputs import SearchInputs
from pts.stages.search.run import run_search

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    output = tmp_path_factory.mktemp("small") / "run"
    return SearchInputs(problems=3, levels=(2, 3), threshold=0.4, traces=1, output=output)


@pytest.fixture(scope="module")
def summary(small):
    return run_search(small)


def files(run):
    paths = (path for path in run.output.rglob("*") if path.is_file())
    return {str(path.relative_to(run.output)): path.read_bytes() for path in paths}


def counted(path):
    """All candidates by what was counted: q may differ in the seventh digit with what shared the batch."""
    return {
        (result.problem_id, each.trace, each.position, each.token_id): (
            *(each.value_successes, each.value_n, each.off_trace_successes, each.off_trace_n),
            result.tokens_generated,
        )
        for result in read_search(path).results
        for each in result.candidates
    }


def copied(run, output):
    """The same run in another directory, as a copy of the files."""
    shutil.copytree(run.output, output)
    return replace(run, output=output)


def test_what_a_run_writes(small, summary):
    assert summary.status == "complete"
    assert summary.done == summary.problems == 3
    assert sum(summary.token_shares.values()) == pytest.approx(1.0)
    assert summary.tokens_generated > 0
    text = (small.output / "pivotal_tokens.jsonl").read_text().splitlines()
    records = [from_json(PivotalToken, json.loads(line)) for line in text]
    assert len(records) == summary.findings
    table = pq.read_table(small.output / "pivotal_tokens.parquet")
    assert table.column_names == known_keys(PivotalToken)
    assert [from_json(PivotalToken, row) for row in table.to_pylist()] == records
    for record in records:
        assert record.pivot_context.startswith("<|im_start|>")
        assert record.query.split()[2] in record.pivot_context
        assert record.ci_low <= record.prob_delta <= record.ci_high
        assert record.prob_delta == pytest.approx(record.prob_after - record.prob_before)
    manifest = json.loads((small.output / "manifest.json").read_text())
    assert manifest["kind"] == "search"
    assert manifest["settings"]["search"]["threshold"] == 0.4
    assert manifest["resolved"]["model_revision"]
    assert manifest["versions"]["torch"]


def test_what_is_kept_of_each_token(small, summary):
    run = read_search(small.output)
    letters = Counter()
    for key, line in run.latest.items():
        for index, trace in enumerate(line.result.traces):
            fates = run.fates(key, index)
            found = {f.candidate.position for f in run.findings_of(key) if f.candidate.trace == index}
            assert {i for i, fate in enumerate(fates) if fate == "found"} == found
            letters.update(fates)
            # Tokens by their offsets are the tokens' own texts, but for the spaces between them.
            assert len(trace.details.offsets) == len(trace.details.values) == len(trace.completion)
            assert list(trace.details.offsets) == sorted(trace.details.offsets)
    assert letters["found"] == summary.findings
    assert letters["excluded_exact"] == round(summary.token_shares["excluded_exact"] * summary.trace_tokens)


def test_a_second_run_does_nothing(small, summary):
    before, observed = files(small), []
    written = {
        path: path.stat().st_mtime_ns for path in small.output.iterdir() if not path.name.startswith(".")
    }
    assert run_search(small, observed.append) == summary
    assert observed == []
    del before[".lock-owner"]
    after = files(small)
    del after[".lock-owner"]
    assert after == before
    assert all(path.stat().st_mtime_ns == time for path, time in written.items())


def test_what_may_differ_continues_and_what_may_not_is_refused(small, summary):
    assert run_search(replace(small, batch_rows=8, max_tokens=10**9, problems=2)) == summary
    before = files(small)
    with pytest.raises(RunError, match=r"temperature 0.6 → 0.7; search.seed 0 → 1"):
        run_search(replace(small, temperature=0.7, seed=1))
    with pytest.raises(RunError, match="thinking null → true"):
        run_search(replace(small, thinking=True))
    after = files(small)
    del before[".lock-owner"], after[".lock-owner"]
    assert after == before


def test_derived_files_that_a_kill_prevented_are_written(small, summary):
    before = files(small)
    for name in ("summary.json", "pivotal_tokens.parquet"):
        (small.output / name).unlink()
    assert run_search(small) == summary
    assert files(small)["summary.json"] == before["summary.json"]


def test_more_problems_extend_a_run_to_what_one_run_finds(small, summary, tmp_path):
    longer = replace(copied(small, tmp_path / "grown"), problems=4)
    observed = []
    grown = run_search(longer, observed.append)
    at_once = run_search(replace(longer, output=tmp_path / "at-once"))
    assert grown == at_once
    assert {progress.problem_id for progress in observed} == {"demo-train-0-3"}
    assert read_search(longer.output).findings == read_search(tmp_path / "at-once").findings


def test_a_spending_limit_ends_a_run_and_a_larger_one_continues_it(small, summary, tmp_path):
    cut = replace(small, max_tokens=200, output=tmp_path / "cut")
    first = run_search(cut)
    assert first.status == "spent"
    size = (cut.output / "problems.jsonl").stat().st_size
    assert run_search(cut) == first
    assert (cut.output / "problems.jsonl").stat().st_size == size
    full = run_search(replace(cut, max_tokens=None))
    assert full.status == "complete"
    assert full == replace(summary, tokens_reused=full.tokens_reused)
    assert full.tokens_reused >= first.tokens_generated > 0
    assert read_search(cut.output).findings == read_search(small.output).findings


def test_a_lower_threshold_pays_only_for_rollouts_that_are_not_there(small, summary, tmp_path, caplog):
    lower = replace(copied(small, tmp_path / "lower"), threshold=0.3)
    again = run_search(lower)
    assert "threshold 0.4 → 0.3" in caplog.text
    at_once = run_search(replace(lower, output=tmp_path / "at-once"))
    assert counted(lower.output) == counted(tmp_path / "at-once")
    assert again.status == "complete"
    drawn = again.tokens_generated - summary.tokens_generated
    assert again.tokens_reused == at_once.tokens_generated - drawn
    assert again.tokens_reused > at_once.tokens_range + at_once.tokens_traces
    assert run_search(lower) == again


def test_more_traces_keep_the_first_ones(small, summary, tmp_path):
    more = replace(copied(small, tmp_path / "more"), traces=2)
    again = run_search(more)
    at_once = run_search(replace(more, output=tmp_path / "at-once"))
    assert counted(more.output) == counted(tmp_path / "at-once")
    assert 0 < again.tokens_reused < at_once.tokens_generated


def test_an_audit_may_be_added_and_draws_only_its_own(small, tmp_path):
    without = replace(small, audit=0.0, output=tmp_path / "run")
    first = run_search(without)
    assert (first.tokens_audit, first.recall) == (0, None)
    with_audit = replace(without, audit=1.0)
    again = run_search(with_audit)
    assert again.tokens_audit > 0
    assert again.tokens_generated == first.tokens_generated + again.tokens_audit
    at_once = run_search(replace(with_audit, output=tmp_path / "at-once"))
    assert counted(with_audit.output) == counted(tmp_path / "at-once")
    assert again.recall == at_once.recall
    # Back to none: what the audit drew is no candidate any more.
    assert run_search(without).candidates == first.candidates


def test_another_false_discovery_rate_draws_nothing(small, summary, tmp_path):
    other = replace(copied(small, tmp_path / "fdr"), fdr=0.5)
    observed = []
    again = run_search(other, observed.append)
    assert observed == []
    assert again.findings >= summary.findings
    assert (again.candidates, again.tokens_generated) == (summary.candidates, summary.tokens_generated)
    assert read_search(other.output).fdr == 0.5
    # Back to what was: the same files.
    assert run_search(replace(other, fdr=small.fdr)) == summary


def test_a_run_of_an_earlier_version_is_read_and_extended_but_not_searched_otherwise(small, summary, tmp_path):
    old = copied(small, tmp_path / "old")
    shutil.rmtree(old.output / "rollouts")
    lines = [json.loads(line) for line in (old.output / "problems.jsonl").read_text().splitlines()]
    for line in lines:
        del line["paid"], line["search"]
    (old.output / "problems.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert run_search(old) == summary
    with pytest.raises(RunError, match="earlier version, which recorded no rollouts"):
        run_search(replace(old, threshold=0.3))
    longer = run_search(replace(old, problems=4))
    assert longer == run_search(replace(small, problems=4, output=tmp_path / "at-once"))


def test_fresh_starts_anew_and_keeps_what_is_not_the_runs(small, summary, tmp_path):
    run = replace(small, problems=1, output=tmp_path / "run")
    run_search(run)
    (run.output / "notes.txt").write_text("mine")
    run_search(replace(run, seed=5, fresh=True))
    assert json.loads((run.output / "manifest.json").read_text())["settings"]["search"]["seed"] == 5
    assert (run.output / "notes.txt").read_text() == "mine"
    assert [result.problem_id for result in read_search(run.output).results] == ["demo-train-5-0"]


def test_given_traces_are_what_is_searched(tmp_path):
    file = tmp_path / "traces.jsonl"
    run = SearchInputs(problems=2, levels=(2,), range=(0.0, 1.0), threshold=0.6, output=tmp_path / "run")
    file.write_text(json.dumps({"id": "demo-train-0-1", "completion": "<think> First"}) + "\n")
    run_search(replace(run, traces_from=file))
    (result,) = read_search(run.output).results
    assert result.problem_id == "demo-train-0-1"
    (trace,) = result.traces
    assert trace.tokens[0].strip() == "<think>"
    file.write_text(json.dumps({"id": "demo-train-0-1", "completion": "<think> Next"}) + "\n")
    with pytest.raises(RunError, match="traces_from"):
        run_search(replace(run, traces_from=file))


def test_settings_are_checked_at_once():
    with pytest.raises(ConfigError, match="threshold is 2"):
        SearchInputs(threshold=2)
