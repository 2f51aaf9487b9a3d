"""Progress lines: what they say, and from when on the pace is counted."""

import pytest

from pts.cli.progress import answer_progress, evaluation_progress, phase_progress, search_progress
from pts.pivot_search.config import Progress
from pts.stages.evaluate.answers import EvaluationProgress
from pts.stages.search.inputs import SearchInputs


@pytest.fixture
def clock(monkeypatch):
    """Sets the times that are read next, in their order."""

    def set_to(*times):
        left = iter(times)
        monkeypatch.setattr("pts.cli.progress.time.monotonic", lambda: next(left))

    return set_to


def test_phases_say_what_is_left(capsys, clock):
    clock(0.0, 0.0, 30.0, 60.0)
    with phase_progress(quiet=False) as observe:
        # A quarter was done before this process began.
        for more, share in ((0, 0.25), (600, 0.3), (600, 0.45)):
            observe("calibration", more, share)
    assert capsys.readouterr().err.splitlines() == [
        "pts: calibration: 600 tokens, 20 tokens/s, 30% done, about 7 min left",
        "pts: calibration: 1,200 tokens, 20 tokens/s, 45% done, about 3 min left",
    ]


def test_an_evaluation_counts_its_pace_from_the_first_answer(capsys, clock):
    clock(0.0, 1.0, 20.0, 100.0, 105.0, 120.0)
    with evaluation_progress(quiet=False) as observe:
        for done, total, tokens, line in (
            (1, 900, 0, None),
            (900, 900, 0, None),
            (1, 1800, 50, "full"),
            (2, 1800, 100, "full"),
            (101, 1800, 5050, "nothink"),
        ):
            observe(EvaluationProgress(done, total, tokens, line))
    assert capsys.readouterr().err.splitlines() == [
        "pts: 900 of 900 prompts read",
        "pts: 2 of 1,800 answers, 100 tokens, 10 tokens/s, full, about 2.5 h left",
        "pts: 101 of 1,800 answers, 5,050 tokens, 250 tokens/s, nothink, about 6 min left",
    ]


def test_answers_and_a_search(capsys, clock):
    clock(0.0, 0.0, 20.0)
    with answer_progress(quiet=False, total=40) as observe:
        observe(10, 800)
    clock(0.0, 5.0, 15.0)
    with search_progress(SearchInputs(problems=9), quiet=False) as observe:
        observe(Progress(1000, 1, 0, "range", "a"))
        observe(Progress(3000, 3, 2, "confirm", "b"))
    assert capsys.readouterr().err.splitlines() == [
        "pts: 10 of 40 answers, 800 tokens, 40 tokens/s, about 1 min left",
        "pts: 3 of 9 problems, 3,000 tokens, 200 tokens/s, 2 pivots confirmed, confirm of b, about 30 s left",
    ]


def test_quiet_says_nothing(capsys, clock):
    clock()
    with evaluation_progress(quiet=True) as observe:
        observe(EvaluationProgress(1, 1, 1, "full"))
    assert capsys.readouterr().err == ""
