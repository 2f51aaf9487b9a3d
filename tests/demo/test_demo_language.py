import random
from dataclasses import replace
from itertools import pairwise

import pytest

from pts.demo.drill import write_drill
from pts.demo.expressions import draw_expression
from pts.demo.grader import DemoGrader
from pts.demo.problems import demo_problems, expression_of
from pts.demo.reading import StepError, read_thought, step_errors
from pts.demo.vocabulary import ORDERING_WORDS, THINK_END, TURN_END, vocabulary
from pts.demo.writer import BUDGET, WritingRates, write_answer, write_thinking
from pts.records import Problem

CAREFUL = WritingRates(slip=0.0, drop=0.0)
PROBLEM = Problem("demo-test-0-0", "What is 27 + 8 - 9 ?", "26", {"level": 2})


def _text(words: list[str]) -> str:
    return " ".join(word for word in words if word != TURN_END)


def test_a_careful_writer_is_always_right_and_has_no_errors() -> None:
    rng = random.Random(0)
    for problem in demo_problems("train", 300, 0):
        text = _text(write_thinking(expression_of(problem), rng, CAREFUL))
        assert DemoGrader()(text, problem.answer)
        assert step_errors(text, problem) == ()


def test_a_wrong_answer_always_has_an_unmended_error() -> None:
    rng = random.Random(1)
    wrong = 0
    for problem in demo_problems("train", 1000, 1):
        text = _text(write_thinking(expression_of(problem), rng, WritingRates()))
        errors = step_errors(text, problem)
        assert not any(error.kind in ("unreadable", "value") for error in errors)
        if not DemoGrader()(text, problem.answer):
            wrong += 1
            assert any(not error.mended for error in errors)
    assert wrong > 200


def test_every_word_is_in_the_vocabulary_and_fits_the_budget() -> None:
    rng, known = random.Random(2), set(vocabulary())
    busy = replace(WritingRates(), wait=0.4, alternative=0.3, check=0.3, alternative_after_right=0.6)
    for index in range(3000):
        expression = draw_expression(rng, index % 5 + 1)
        words = write_thinking(expression, rng, busy if index % 2 else WritingRates())
        assert len(words) <= BUDGET
        assert set(words) | set(write_answer(expression, rng, busy)) <= known
        assert words[-7] == THINK_END
    assert len(known) == len(vocabulary())


def test_openers_decide_how_often_a_trace_succeeds() -> None:
    rng = random.Random(3)
    success: dict[bool, list[bool]] = {True: [], False: []}
    for _ in range(2000):
        expression = draw_expression(rng, 4)
        words = write_thinking(expression, rng, WritingRates())
        success[words[0] in ORDERING_WORDS].append(words[-3] == str(expression.result))
    rate = {ordered: sum(hits) / len(hits) for ordered, hits in success.items()}
    assert rate[True] > rate[False] + 0.2


@pytest.mark.parametrize(
    ("thought", "errors"),
    [
        ("27 + 8 = 35 . 35 - 9 = 26 .", ()),
        ("First , Split 8 : 27 + 3 = 30 , 30 + 5 = 35 . Finally , 35 - 9 = 26 .", ()),
        ("27 + 8 = 25 . 25 - 9 = 16 .", (StepError(0, "arithmetic"),)),
        (
            "27 + 8 = 25 . Wait , that is wrong . 27 + 8 = 35 . 35 - 9 = 26 .",
            (StepError(0, "arithmetic", mended=True),),
        ),
        (
            "27 + 8 = 25 . Check : 25 - 8 = 17 , wrong , it is 35 . 35 - 9 = 26 .",
            (StepError(0, "arithmetic", mended=True),),
        ),
        (
            "27 + 8 = 25 . Check : 25 - 8 = 27 , right . 25 - 9 = 16 .",
            (StepError(0, "arithmetic"), StepError(1, "arithmetic")),
        ),
        (
            "27 + 8 = 25 . Alternatively , 27 + 10 - 2 = 35 . 35 - 9 = 26 .",
            (StepError(0, "arithmetic", mended=True),),
        ),
        ("27 + 8 = 35 . 35 + 9 = 44 .", (StepError(1, "operation"),)),
        ("27 + 8 = 35 .", (StepError(1, "operation"),)),
        ("27 + 8 = 35 . 34 - 9 = 25 .", (StepError(1, "value"),)),
        ("27 + = 35 . 27 + 8 = 35 . 35 - 9 = 26 .", (StepError(0, "unreadable"),)),
    ],
)
def test_errors_are_found_where_they_are(thought: str, errors: tuple[StepError, ...]) -> None:
    assert step_errors(f"{thought} </think> The answer is 26 .", PROBLEM) == errors


def test_a_reading_says_where_statements_are() -> None:
    text = "First , 27 + 8 = 25 . Wait , that is wrong . 27 + 8 = 35 . Finally , 35 - 9 = 26 . </think>"
    direct, correction, last = read_thought(text)
    assert (direct.kind, direct.first, direct.last, direct.ordered) == ("direct", 2, 7, True)
    assert (correction.kind, text.split()[correction.first]) == ("correction", "Wait")
    assert (last.value, last.stated, last.wrong) == (35, 26, False)


def test_the_drill_doubts_every_wrong_step_and_no_right_one() -> None:
    rng = random.Random(4)
    waits = wrong_steps = 0
    for _ in range(300):
        words = [word for word, _ in write_drill(rng, 100)][2:]
        statements = read_thought(" ".join(words))
        for statement, after in pairwise(statements):
            if statement.kind != "direct":
                continue
            wrong_steps += statement.wrong
            assert (after.kind in ("correction", "alternative", "check")) or not statement.wrong
            if after.kind == "correction":
                waits += 1
                assert statement.wrong
    assert wrong_steps > 300
    assert waits > wrong_steps / 3


def test_the_drill_never_teaches_a_wrong_result() -> None:
    rng = random.Random(5)
    for _ in range(200):
        row = write_drill(rng, 100)
        words, learned = [word for word, _ in row[2:]], [mark for _, mark in row[2:]]
        for statement in read_thought(" ".join(words)):
            if statement.kind == "direct" and statement.wrong:
                assert not learned[statement.last - 1]
