"""What a search's report says: the figures of the run, its texts cut into tokens, examples from the journal."""

import json
import re
import shutil

import pytest

from pts.errors import ConfigError, RunError
from pts.report.continuations import example_continuations
from pts.report.one_file import unpack
from pts.report.search_data import search_data
from pts.report.write_report import write_report
from pts.runs.run_tokenizer import load_run_detokenizer
from pts.runs.search_run import read_search
from pts.stages.search.inputs import SearchInputs
from pts.stages.search.run import run_search


@pytest.fixture(scope="module")
def run(searched):
    return read_search(searched)


@pytest.fixture(scope="module")
def data(run):
    return search_data(run)


def packed(path):
    text = path.read_text(encoding="utf-8")
    return unpack(re.search(r'id="data">([A-Za-z0-9+/=]+)<', text)[1])


def test_the_events_are_the_candidates_and_the_findings_of_the_run(run, data):
    events = [event for problem in data.problems for trace in problem.traces for event in trace.events]
    candidates = [candidate for result in run.results for candidate in result.candidates]
    assert sorted(event.delta for event in events) == sorted(candidate.delta for candidate in candidates)
    reported = {(event.delta, event.low, event.high, event.q_value) for event in events if event.reported}
    assert reported == {(f.candidate.delta, f.ci_low, f.ci_high, f.q_value) for f in run.findings}
    assert run.findings


def test_the_tokens_of_a_trace_are_its_text(run, data):
    decode = load_run_detokenizer(run)
    for result, problem in zip(run.results, data.problems, strict=True):
        for searched, trace in zip(result.traces, problem.traces, strict=True):
            assert trace.text == decode(searched.completion)
            assert sum(trace.lengths) == len(trace.text.encode("utf-16-le")) // 2
            assert len(trace.lengths) == len(searched.completion) == len(trace.probs) == len(trace.fates)


def test_the_thinking_ends_with_its_tag(data):
    thinking = [trace for problem in data.problems for trace in problem.traces if trace.thinking]
    assert thinking
    for trace in thinking:
        assert trace.text[: sum(trace.lengths[: trace.thinking])].endswith("</think>")


def test_the_value_before_lies_between_those_after_and_instead(data):
    events = [event for problem in data.problems for trace in problem.traces for event in trace.events]
    for event in events:
        sides = sorted((event.after.value, event.instead.value))
        assert sides[0] <= event.before.value <= sides[1]
        assert event.before.low <= event.before.value <= event.before.high
        assert event.after.value - event.before.value == pytest.approx(event.delta)


def test_examples_are_of_the_confirmation_and_of_both_sides(run):
    examples = example_continuations(run, load_run_detokenizer(run))
    assert examples.keys() == {
        (f.problem.problem_id, f.candidate.trace, f.candidate.position, None) for f in run.findings
    }
    for finding in run.findings:
        candidate = finding.candidate
        shown = examples[finding.problem.problem_id, candidate.trace, candidate.position, None]
        for one in shown:
            # The token alone may lack the space before it.
            assert (one.first.strip() == candidate.token.strip()) == one.taken
        for taken, successes, n in (
            (True, candidate.value_successes, candidate.value_n),
            (False, candidate.off_trace_successes, candidate.off_trace_n),
        ):
            drawn = {one.success for one in shown if one.taken == taken}
            possible = {True for _ in range(successes)} | {False for _ in range(n - successes)}
            # One that stays on the trace is the trace itself, which nothing draws again.
            assert drawn == possible if not taken else drawn <= possible


def test_the_same_run_gives_the_same_file(searched, report, tmp_path):
    again = write_report(searched, output=tmp_path / "again.html")
    assert again.read_bytes() == report.read_bytes()


def test_the_file_names_nothing_to_fetch_and_holds_what_was_packed(report, data):
    text = report.read_text(encoding="utf-8")
    # The one address is the name of SVG's elements, which nothing fetches.
    assert set(re.findall(r"https?://[^\s\"')]+", text)) == {"http://www.w3.org/2000/svg"}
    assert packed(report)["runs"][0]["problems"][0]["id"] == data.problems[0].id


def test_hostile_texts_are_no_markup(hostile, tmp_path):
    text = write_report(hostile, output=tmp_path / "hostile.html").read_text(encoding="utf-8")
    assert "<img" not in text
    assert text.count("<script") == 2


def test_an_unfinished_run_is_shown_and_says_so(searched, tmp_path):
    part = tmp_path / "part"
    part.mkdir()
    for name in ("manifest.json", "problems.jsonl"):
        (part / name).write_bytes((searched / name).read_bytes())
    lines = (part / "problems.jsonl").read_text().splitlines(keepends=True)
    (part / "problems.jsonl").write_text("".join(lines[:2]))
    text = write_report(part, output=tmp_path / "part.html").read_text(encoding="utf-8")
    assert "This run is not complete: 2 problems of 4 are still to be searched." in text


def test_a_run_of_an_earlier_version_is_shown_without_its_curve(searched, tmp_path):
    old = tmp_path / "old"
    old.mkdir()
    (old / "manifest.json").write_bytes((searched / "manifest.json").read_bytes())
    lines = [json.loads(line) for line in (searched / "problems.jsonl").read_text().splitlines()]
    for line in lines:
        for trace in line["result"]["traces"]:
            del trace["details"]
    (old / "problems.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    written = write_report(old, output=tmp_path / "old.html")
    assert "there is no value curve" in written.read_text(encoding="utf-8")
    traces = [trace for problem in packed(written)["runs"][0]["problems"] for trace in problem["traces"]]
    assert traces
    assert all(trace["values"] is None and sum(trace["lengths"]) for trace in traces)


def test_what_is_no_run_is_an_error_of_one_line(searched, tmp_path):
    with pytest.raises(RunError, match="does not exist"):
        write_report(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match=r"has no manifest\.json"):
        write_report(tmp_path / "empty")
    with pytest.raises(RunError, match="is a file"):
        write_report(searched / "manifest.json")


def test_an_output_that_is_no_report_is_kept(searched, report, tmp_path):
    note = tmp_path / "note.html"
    note.write_text("my own")
    with pytest.raises(ConfigError, match="exists and is not a report"):
        write_report(searched, output=note)
    assert note.read_text() == "my own"
    with pytest.raises(ConfigError, match="is a directory"):
        write_report(searched, output=tmp_path)
    assert write_report(searched, output=report) == report
    with pytest.raises(ConfigError, match=r"note\.html is no directory"):
        write_report(searched, output=note / "page.html")


def test_a_name_that_is_no_utf8_is_shown(searched, tmp_path):
    named = tmp_path / "named"
    shutil.copytree(searched, named)
    manifest = json.loads((named / "manifest.json").read_text())
    manifest["resolved"]["dataset_id"] = "data\udcff"
    (named / "manifest.json").write_text(json.dumps(manifest))
    page = write_report(named, output=tmp_path / "page.html")
    assert "data?" in page.read_text(encoding="utf-8")


def test_two_runs_must_share_a_problem(searched, tmp_path):
    other = tmp_path / "other"
    run_search(SearchInputs(output=other, problems=1, levels=(5,)))
    with pytest.raises(ConfigError, match="no problem in common"):
        write_report(searched, other, output=tmp_path / "both.html")
    with pytest.raises(ConfigError, match="given twice"):
        write_report(searched, searched, output=tmp_path / "both.html")
    with pytest.raises(ConfigError, match="one, or two side by side"):
        write_report(searched, other, searched, output=tmp_path / "three.html")


def test_a_search_of_sentences_is_shown_with_its_sentences(tmp_path, look):
    run_search(SearchInputs(output=tmp_path / "sentences", problems=3, levels=(2, 3), unit="sentence"))
    run = read_search(tmp_path / "sentences")
    data = search_data(run)
    traces = [trace for problem in data.problems for trace in problem.traces]
    events = [(trace, event) for trace in traces for event in trace.events]
    assert any(event.reported for _, event in events)
    assert any(one.taken for _, event in events for one in event.examples)
    assert any(not one.taken for _, event in events for one in event.examples)
    for trace, event in events:
        starts = [*trace.sentences, len(trace.lengths)]
        assert event.end == starts[starts.index(event.position) + 1]
        begins = sum(trace.lengths[: event.position])
        sentence = trace.text[begins : sum(trace.lengths[: event.end])]
        assert sentence.strip() == event.token.strip()
        taken = [one for one in event.examples if one.taken]
        assert event.reported or not event.examples
        assert all(one.first.strip() == sentence.strip() for one in taken)
        assert all(one.first.strip() != sentence.strip() for one in event.examples if not one.taken)
    expected = sorted(len(run.links_of(finding)) for finding in run.findings)
    assert sorted(len(event.links) for _, event in events if event.reported) == expected
    assert not any(event.links for _, event in events if not event.reported)
    page = look(write_report(tmp_path / "sentences", output=tmp_path / "sentences.html"))
    words = page.locator(".lead").inner_text()
    assert re.match(r"At \d+ sentences? this model", words)
    page.locator(".reading .of-sentence").first.click()
    assert "sentence" in page.locator(".event").inner_text()
    plain = page.locator(".reading .t[style]").count()
    page.get_by_label("Coloured by").select_option("sentence")
    assert page.locator(".reading .t[style]").count() >= plain


def test_tokens_and_sentences_of_one_run_are_told_apart(searched, tmp_path, look):
    shutil.copytree(searched, tmp_path / "both")
    run_search(SearchInputs(output=tmp_path / "both", problems=4, levels=(2, 3), unit="both"))
    run = read_search(tmp_path / "both")
    path = write_report(tmp_path / "both", output=tmp_path / "both.html")
    # A sentence that begins with a finding has an address of its own.
    sentence = next(
        finding
        for finding in run.findings
        if finding.candidate.end is not None
        and any(
            other.candidate.end is None
            and other.problem is finding.problem
            and (other.candidate.trace, other.candidate.position)
            == (finding.candidate.trace, finding.candidate.position)
            for other in run.findings
        )
    )
    candidate, problem = sentence.candidate, sentence.problem.problem_id
    start = f"#{problem}/{candidate.trace}/{candidate.position}"
    page = look(path, f"{start}-{candidate.end}")
    assert "writes this sentence" in page.locator(".event").inner_text()
    page = look(path, start)
    assert "takes it with probability" in page.locator(".event").inner_text()
    page.get_by_role("link", name=candidate.token.strip()[:20]).last.click()
    assert "writes this sentence" in page.locator(".event").inner_text()
    assert page.url.endswith(f"{start}-{candidate.end}")
    both = page.locator(".reading .found").count()
    page.get_by_label("Coloured by").select_option("token")
    tokens = page.locator(".reading .found").count()
    page.get_by_label("Coloured by").select_option("sentence")
    assert 0 < tokens < both
    assert page.locator(".reading .found.of-sentence").count() > 0
    # What became of the tokens counts tokens alone, and each once.
    label = page.get_by_role("img", name="What became of the tokens").get_attribute("aria-label")
    counts = [
        int(each.rsplit(" ", 1)[1].replace(",", ""))
        for each in label.split(": ", 1)[1].split(", ")
        if each[-1].isdigit()
    ]
    assert min(counts) >= 0
    assert sum(counts) == sum(len(trace.completion) for result in run.results for trace in result.traces)
