import random

import pytest

from pts.demo.expressions import LOWEST_RESULT, Operation, draw_expression, parse_expression, split_of
from pts.demo.problems import demo_problems, expression_of
from pts.demo.reading import read_thought, step_errors
from pts.demo.vocabulary import THINK_END, TURN_END, vocabulary
from pts.demo.writer import BUDGET, WritingRates, write_answer, write_thinking
from pts.errors import ConfigError
from pts.graders import make_grader
from pts.records import Problem

FAULTLESS = WritingRates(slip=0.0, drop=0.0, alternative_right=1.0, honest_check=1.0)


def spoken(words: list[str]) -> str:
    return " ".join(word for word in words if word != TURN_END)


def test_splits_share_no_expression() -> None:
    texts = {
        split: {p.query for p in demo_problems(split, 300, seed, (2, 3, 4, 5)) for seed in (0, 1)}
        for split in ("train", "calibrate", "test")
        for seed in (0,)
    }
    assert not texts["train"] & texts["calibrate"]
    assert not texts["train"] & texts["test"]
    assert not texts["calibrate"] & texts["test"]
    for split in texts:
        assert all(split_of(expression_of(p)) == split for p in demo_problems(split, 50, 3))


def test_more_problems_extend_the_list_and_a_seed_repeats_it() -> None:
    assert demo_problems("test", 40, 7)[:15] == demo_problems("test", 15, 7)
    assert demo_problems("test", 15, 8) != demo_problems("test", 15, 7)


def test_answers_and_levels_are_right() -> None:
    for problem in demo_problems("train", 60, 0):
        start, *rest = problem.query.removeprefix("What is ").removesuffix(" ?").split()
        value = int(start)
        for sign, operand in zip(rest[::2], rest[1::2], strict=True):
            value += int(operand) if sign == "+" else -int(operand)
        assert str(value) == problem.answer
        assert problem.metadata["level"] == len(rest) // 2
        assert min(expression_of(problem).running_values[1:]) >= LOWEST_RESULT


@pytest.mark.parametrize(
    "arguments", [("validate", 3, 0), ("test", -1, 0), ("test", 3, 0, (6,)), ("test", 3, 0, ())]
)
def test_bad_requests_for_problems(arguments: tuple) -> None:
    with pytest.raises(ConfigError):
        demo_problems(*arguments)


def test_a_faultless_writer_is_always_right() -> None:
    rng, grade = random.Random(0), make_grader("demo")
    for problem in demo_problems("train", 200, 1):
        text = spoken(write_thinking(expression_of(problem), rng, FAULTLESS))
        assert grade(text, problem.answer), text
        assert step_errors(text, problem) == ()


def test_a_careless_writer_errs_where_the_reader_says_so() -> None:
    rng, grade = random.Random(1), make_grader("demo")
    graded = []
    for problem in demo_problems("train", 300, 2, (3, 4)):
        text = spoken(write_thinking(expression_of(problem), rng, WritingRates()))
        standing = [error for error in step_errors(text, problem) if not error.mended]
        success = grade(text, problem.answer)
        graded.append(success)
        if not success:
            assert standing, text
    assert 0.2 < sum(graded) / len(graded) < 0.8


def test_every_completion_fits_the_budget_and_the_vocabulary() -> None:
    rng, known = random.Random(2), set(vocabulary())
    for _ in range(500):
        expression = draw_expression(rng, rng.randint(1, 5))
        for words in (
            write_thinking(expression, rng, WritingRates()),
            write_answer(expression, rng, WritingRates()),
        ):
            assert len(words) <= BUDGET
            assert set(words) <= known
            assert words[-1] == TURN_END
            assert words[0] != THINK_END


def test_the_reader_on_a_trace_by_hand() -> None:
    problem = Problem("x", "What is 27 + 8 - 9 ?", "26")
    text = "27 + 8 = 25 . Wait , that is wrong . 27 + 8 = 35 . 35 - 9 = 36 . </think> The answer is 36 ."
    direct, correction, last = read_thought(text)
    assert (direct.kind, direct.wrong, direct.step) == ("direct", True, Operation("+", 8))
    assert (correction.kind, correction.wrong) == ("correction", False)
    assert (last.stated, last.wrong) == (36, True)
    assert [(error.kind, error.mended) for error in step_errors(text, problem)] == [
        ("arithmetic", True),
        ("arithmetic", False),
    ]
    skipped = "27 + 8 = 35 . </think> The answer is 35 ."
    assert [error.kind for error in step_errors(skipped, problem)] == ["operation"]


def test_dropped_carries() -> None:
    assert Operation("+", 8).dropped(27) == 25
    assert Operation("-", 9).dropped(35) == 36
    assert Operation("+", 2).dropped(27) == 29
    with pytest.raises(ValueError, match="not an expression"):
        parse_expression("27 times 3")
