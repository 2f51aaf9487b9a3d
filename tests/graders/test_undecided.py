import logging
from dataclasses import replace

import pytest

from pts.graders import make_grader, mathematics
from pts.graders.math_verify_process import PATIENCE, SHORT_LIMIT, MathVerifyProcess
from pts.graders.thinking import AfterThinking
from pts.graders.undecided import undecided_by, warn_undecided
from pts.report.terminal import summary_report
from pts.runs.search_run import read_search
from pts.runs.search_summary import search_summary
from tests.publishing.artifacts import write_search_run

ENDLESS = r"\boxed{9^{9^{9^9}} + x}"


@pytest.fixture
def impatient(monkeypatch):
    process = MathVerifyProcess(time_limit=1.0)
    monkeypatch.setattr(mathematics, "_MATH_VERIFY", process)
    mathematics._agrees.cache_clear()
    warn_undecided.cache_clear()
    yield process
    process.close()
    mathematics._agrees.cache_clear()


def test_what_cannot_be_decided_counts_as_wrong_and_is_counted_and_told_once(impatient, caplog):
    caplog.set_level(logging.WARNING)
    grade = make_grader("mixed", think_end="</think>")
    assert undecided_by(grade) == 0
    assert not grade(ENDLESS, "5")
    assert not grade(ENDLESS, "5"), "one that was undecided is not tried again"
    assert undecided_by(grade) == 2
    impatient._time_limit = 60.0  # a loaded machine may take its time over the rest
    assert grade(r"\boxed{\sqrt{4}}", "2")
    assert not grade(r"\boxed{\sqrt{9}}", "2")
    assert undecided_by(grade) == 2, "a wrong answer was decided"
    assert sum("counts as wrong" in record.message for record in caplog.records) == 1


def test_graders_that_decide_everything_count_nothing():
    assert undecided_by(make_grader("choice")) == 0
    assert undecided_by(AfterThinking(make_grader("exact"), "</think>")) == 0
    assert undecided_by(lambda completion, answer: True) == 0


def test_a_search_says_how_many_of_all_its_sessions_were_not_decided(tmp_path):
    searched = read_search(write_search_run(tmp_path / "run"))
    assert search_summary(searched).undecided == 0
    (line,) = searched.lines
    counted = replace(searched, lines=(replace(line, undecided=2), replace(line, undecided=1)))
    assert search_summary(counted).undecided == 3
    told = [summary_report(search_summary(each)).plain for each in (searched, counted)]
    assert "Not decided: 3 completions" in told[1]
    assert "Not decided" not in told[0]


def test_many_hard_expressions_get_less_time_each(monkeypatch):
    process = MathVerifyProcess()
    limits = []

    def answer(request):
        limits.append(request)
        return ""

    monkeypatch.setattr(process, "_exchange", answer)
    for _ in range(PATIENCE + 1):
        assert process.agrees("a", ["b"]) is None
    assert f'"seconds": {SHORT_LIMIT}' in limits[-1]
    assert f'"seconds": {SHORT_LIMIT}' not in limits[-2]
