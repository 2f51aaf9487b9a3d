"""Progress lines: what they say, and that one comes however long the work takes."""

import re
import time

import pytest

from pts.cli import progress
from pts.cli.progress import evaluation_progress, search_progress
from pts.cli.progress_lines import AnswersDone, EvaluationDone, Pace, PhasesDone, SearchDone, time_left
from pts.pivot_search.config import Progress
from pts.stages.evaluate.answers import EvaluationProgress
from pts.stages.search.inputs import SearchInputs


def test_a_pace_is_of_the_last_minute():
    pace = Pace()
    for second in range(300):
        pace.add(second, 10 * second if second < 200 else 2000 + 50 * (second - 200))
    assert pace.rate(299) == pytest.approx(50)
    assert len(pace.samples) < 70
    assert pace.rate(599) < 50 / 4  # Nothing came since.


def test_there_is_no_pace_of_a_moment_and_none_of_nothing():
    pace = Pace()
    assert pace.rate(0.0) is None
    pace.add(0.0, 5)
    pace.add(0.5, 50)
    assert pace.rate(0.5) is None
    assert pace.rate(5.0) == pytest.approx(9)


def searched(done, tokens, in_flight, tokens_in_flight, problems=60, confirmed=0):
    return Progress(tokens, done, confirmed, "screen", "p", in_flight, tokens_in_flight, problems)


def test_a_search_estimates_nothing_before_it_can():
    account = SearchDone()
    assert account.line(0.0) is None
    account.hear(0.0, searched(0, 0, 16, 0))
    assert account.line(9.0) == "0 of 60 problems done, 16 under way, 0 tokens, 0 pivots confirmed, screen of p"
    account.hear(10.0, searched(2, 5000, 16, 4800))
    assert "500 tokens/s" in account.line(10.0)
    assert "done," in account.line(10.0)
    assert "left" not in account.line(10.0)


def test_the_only_problem_of_a_search_says_nothing_of_its_own_cost():
    account = SearchDone()
    account.hear(0.0, searched(0, 0, 1, 0, problems=1))
    account.hear(300.0, searched(0, 9000, 1, 9000, problems=1))
    assert account.line(300.0) == (
        "0 of 1 problems done, 1 under way, 9,000 tokens, 30 tokens/s, 0 pivots confirmed, screen of p"
    )


def test_a_search_estimates_by_tokens_not_by_problems():
    account = SearchDone()
    account.hear(0.0, searched(0, 0, 16, 0))
    # Ten cheap problems are done, sixteen dear ones are under way: 34 more of 3,000 and half of the sixteen.
    account.hear(100.0, searched(10, 50_000, 16, 48_000, confirmed=4))
    assert account.line(100.0) == (
        "10 of 60 problems done, 16 under way, 50,000 tokens, 500 tokens/s, 28% done, about 4 min left, "
        "4 pivots confirmed, screen of p"
    )
    limited = SearchDone(max_tokens=100_000)
    limited.last, limited.pace = account.last, account.pace
    assert "50% done, about 2 min left" in limited.line(100.0)


def test_a_search_of_unknown_length_has_no_end():
    account = SearchDone()
    account.hear(0.0, searched(5, 100, 16, 50, problems=None))
    account.hear(10.0, searched(9, 1100, 16, 50, problems=None))
    assert account.line(10.0).startswith("9 problems done, 16 under way, 1,100 tokens, 100 tokens/s, 0 pivots")


def test_between_bursts_the_pace_is_that_since_the_beginning():
    pace = Pace()
    pace.add(0.0, 0)
    for second in range(300, 310):
        pace.add(float(second), 100 * (second - 299))
    assert pace.rate(310.0) == pytest.approx(1000 / 310)
    assert pace.rate(600.0) == pytest.approx(1000 / 600)
    # Again within a minute of something: that minute's own.
    for second in range(600, 700):
        pace.add(float(second), 1000 + 50 * (second - 599))
    assert pace.rate(700.0) == pytest.approx(50, rel=0.05)


def test_a_phase_in_which_nothing_has_ended_says_so():
    account = PhasesDone()
    account.hear(0.0, "measuring", 0, 0.0)
    assert account.line(300.0) == "measuring: nothing has ended yet"
    account.hear(301.0, "measuring", 90, 0.01)
    assert account.line(310.0) == "measuring: 90 tokens, 0 tokens/s, 1% done, about 9 h left"


def test_phases_say_what_is_left():
    account = PhasesDone()
    # A quarter was done before this process began.
    account.hear(0.0, "calibration", 0, 0.25)
    account.hear(30.0, "calibration", 600, 0.3)
    assert account.line(30.0) == "calibration: 600 tokens, 20 tokens/s, 30% done, about 7 min left"
    account.hear(60.0, "calibration", 600, 0.45)
    assert account.line(60.0) == "calibration: 1,200 tokens, 20 tokens/s, 45% done, about 3 min left"
    account.hear(61.0, "harvest", 5, 0.5)
    assert account.line(61.0) == "harvest: 5 pairs, 50% done"


def test_an_evaluation_counts_its_pace_from_the_first_answer():
    account = EvaluationDone()
    account.hear(1.0, EvaluationProgress(1, 900, 0, None))
    account.hear(20.0, EvaluationProgress(900, 900, 0, None))
    assert account.line(20.0) == "900 of 900 prompts read"
    account.hear(100.0, EvaluationProgress(1, 1800, 50, "full"))
    account.hear(120.0, EvaluationProgress(101, 1800, 5050, "nothink"))
    assert account.line(120.0) == (
        "101 of 1,800 answers, 5,050 tokens, 250 tokens/s, about 6 min left, nothink"
    )


def test_answers():
    account = AnswersDone(40)
    assert account.line(5.0) is None
    account.hear(0.0, 0, 0)
    account.hear(20.0, 10, 800)
    assert account.line(20.0) == "10 of 40 answers, 800 tokens, 40 tokens/s, about 1 min left"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "1 s"), (25, "25 s"), (3000, "50 min"), (5 * 3600, "5 h"), (80 * 3600, "3 days")],
)
def test_time_left_in_words(seconds, said):
    assert time_left(seconds) == f"about {said} left"


def test_a_line_comes_without_any_rollout(capsys, monkeypatch):
    monkeypatch.setattr(progress, "PLAIN_EVERY", 0.05)
    with search_progress(SearchInputs(problems=9), quiet=False) as observe:
        time.sleep(0.3)
        observe(searched(1, 70, 2, 9))
        time.sleep(0.3)
    lines = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"pts: reading model and problems \(\d s\)", lines[0])
    assert lines[-1].startswith("pts: 1 of 60 problems done, 2 under way, 70 tokens, ")
    time.sleep(0.15)
    assert capsys.readouterr().err == ""


def test_quiet_says_nothing(capsys, monkeypatch):
    monkeypatch.setattr(progress, "PLAIN_EVERY", 0.01)
    with evaluation_progress(quiet=True) as observe:
        observe(EvaluationProgress(1, 1, 1, "full"))
        time.sleep(0.1)
    assert capsys.readouterr().err == ""
