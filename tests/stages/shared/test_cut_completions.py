"""What a budget cuts is counted in every phase that draws, kept, shown, and said where it is too much."""

import json
import logging

import pytest
from click.testing import CliRunner

from pts.cli.commands import cli
from pts.evaluation.outcomes import Outcomes
from pts.records import Completions
from pts.runs.search_run import read_search
from pts.runs.search_summary import search_summary
from pts.stages.decode.answer_file import answer_file
from pts.stages.decode.decoder import open_decoder
from pts.stages.decode.inputs import DecodeInputs
from pts.stages.evaluate.inputs import EvaluateInputs
from pts.stages.evaluate.run import run_evaluation
from pts.stages.measure.inputs import MeasureInputs
from pts.stages.measure.run import measure_set
from pts.stages.search.inputs import SearchInputs
from pts.stages.search.run import run_search
from pts.stages.shared.cut_completions import cut_of, cut_sentence, is_too_much

PHASES = ("range", "traces", "screen", "confirm", "audit")


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.WARNING)
    return caplog


@pytest.fixture(scope="module")
def cut(tmp_path_factory):
    """A run whose budget cuts everything, and what it said."""
    output = tmp_path_factory.mktemp("cut") / "run"
    shown = CliRunner().invoke(
        cli,
        ["search", "--problems", "6", "--levels", "2,3", "--budget", "6", "--output", str(output)],
        catch_exceptions=False,
    )
    assert shown.exit_code == 0
    return output, shown


def test_a_budget_that_cuts_everything_is_said_and_kept(cut):
    output, shown = cut
    summary = json.loads((output / "summary.json").read_text())
    assert summary["cut_share"] == 1.0
    assert summary["cut_shares"] == {
        "range": 1.0,
        "traces": None,
        "screen": None,
        "confirm": None,
        "audit": None,
    }
    assert summary["budget"] == 6
    drawn = summary["completions"]["range"]
    assert drawn["cut"] == drawn["drawn"] >= 6 * 12
    said = " ".join(shown.stdout.split())  # wrapped where the terminal ends
    assert "No pivotal tokens were found" in said
    assert "Cut by the budget of 6 tokens: 100% of" in said
    assert "larger --budget" in said
    assert shown.stderr.count("were cut by the budget of 6 tokens") == 1
    assert "room for the whole of the thinking" in " ".join(shown.stderr.split())
    assert "--no-thinking" in shown.stderr


def test_a_problem_counts_completions_and_not_rows(tmp_path):
    output = tmp_path / "run"
    run_search(SearchInputs(problems=2, levels=(2,), threshold=0.4, traces=2, thinking=True, output=output))
    searched = read_search(output)
    for result in searched.results:
        assert set(result.completions) == set(PHASES)
        assert result.completions["range"].drawn >= 12
    found = [result for result in searched.results if result.status == "searched"]
    assert found, "no problem in range to count the other phases of"
    for result in found:
        assert result.completions["traces"].drawn == 2
        taken = sum(candidate.value_n for candidate in result.candidates)
        avoided = sum(candidate.off_trace_n for candidate in result.candidates)
        # Rollouts that never leave the trace count for the value and need not be drawn.
        assert avoided <= result.completions["confirm"].drawn <= taken + avoided
    total = sum((counted for each in searched.results for counted in each.completions.values()), Completions())
    assert search_summary(searched).cut_share == pytest.approx(total.cut / total.drawn)
    assert search_summary(searched).cut_share < 0.2


def test_a_run_that_did_not_count_says_unknown(cut, tmp_path):
    output, _ = cut
    folder = tmp_path / "old"
    folder.mkdir()
    (folder / "manifest.json").write_bytes((output / "manifest.json").read_bytes())
    lines = [json.loads(line) for line in (output / "problems.jsonl").read_text().splitlines()]
    for line in lines:
        del line["result"]["completions"]
        del line["paid"]  # as before there was a journal of rollouts
    (folder / "problems.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    summary = search_summary(read_search(folder))
    assert (summary.completions, summary.cut_share, summary.cut_shares) == (None, None, None)
    shown = CliRunner().invoke(cli, ["show", str(folder)], catch_exceptions=False)
    assert "Cut by the budget: unknown" in shown.stdout


def test_measuring_a_set_says_what_was_cut(log, monkeypatch):
    import pts.stages.search.reload as again

    budget = again.SearchInputs.sampling
    monkeypatch.setattr(
        again.SearchInputs, "sampling", lambda run: type(budget(run))(run.temperature, budget=6)
    )
    measured = measure_set(MeasureInputs("demo", problems=2, samples=2))
    assert measured.unsteered.cut_share == measured.steered.cut_share == 1.0
    assert "8 of 8 completions (100%) were cut by the budget of 6 tokens" in log.text
    assert "search again" in log.text


def test_an_evaluation_and_a_file_of_answers_say_what_was_cut(log, tmp_path):
    run_evaluation(
        EvaluateInputs(
            strategies=("full",), baselines=False, seeds=1, problems=4, budget=6, output=tmp_path / "e"
        )
    )
    assert "system full: 4 of 4 completions (100%) were cut" in log.text
    log.clear()
    questions = tmp_path / "q.jsonl"
    questions.write_text('{"question": "What is 27 + 8 - 9 ?"}\n' * 3)
    run = DecodeInputs(budget=6)
    answer_file(run, open_decoder(run), questions, tmp_path / "a.jsonl")
    assert "a.jsonl: 3 of 3 completions (100%) were cut" in log.text
    shown = CliRunner().invoke(cli, ["decode", "What is 27 + 8 - 9 ?", "--budget", "6"], catch_exceptions=False)
    assert "an answer was cut by its limit" in shown.stderr


def test_a_fifth_is_not_too_much_and_more_is():
    assert not is_too_much(Completions())
    assert not is_too_much(Completions(10, 2))
    assert is_too_much(Completions(10, 3))
    assert Completions().cut_share is None
    thinking = cut_sentence(Completions(1000, 310), 512, thinks=True)
    assert thinking.startswith("310 of 1,000 completions (31%) were cut by the budget of 512 tokens")
    assert "thinking=False" in thinking
    assert "thinking" not in cut_sentence(Completions(10, 3), 512, thinks=False)


def test_outcomes_count_every_sample():
    import numpy as np

    zeros = np.zeros(3, dtype=np.int64)
    outcomes = Outcomes(4, zeros, zeros, np.array([4, 1, 0]))
    assert cut_of([outcomes, outcomes]) == Completions(24, 10)
    assert outcomes.cut_share == pytest.approx(5 / 12)
