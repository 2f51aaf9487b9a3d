import pytest

from pts.demo.expressions import LEVELS, LOWEST_RESULT, Expression, Operation, parse_expression
from pts.demo.problems import demo_problems, expression_of
from pts.errors import ConfigError


def test_more_problems_of_the_same_seed_extend_the_list() -> None:
    assert demo_problems("test", 60, 3)[:25] == demo_problems("test", 25, 3)


def test_seeds_and_levels_change_the_problems() -> None:
    first = [p.query for p in demo_problems("test", 20, 0, (4,))]
    assert first != [p.query for p in demo_problems("test", 20, 1, (4,))]


def test_splits_share_no_query() -> None:
    queries = {
        split: {p.query for p in demo_problems(split, 400, 0)} for split in ("train", "calibrate", "test")
    }
    assert not queries["train"] & queries["calibrate"]
    assert not queries["train"] & queries["test"]
    assert not queries["calibrate"] & queries["test"]


def test_problems_say_their_level_and_have_unique_ids() -> None:
    problems = demo_problems("test", 40, 17, (3, 1))
    assert problems[17].id == "demo-test-17-17"
    assert len({p.id for p in problems}) == 40
    assert [p.metadata["level"] for p in problems[:4]] == [3, 1, 3, 1]
    assert all(expression_of(p).level == p.metadata["level"] for p in problems)


def test_answers_are_the_left_to_right_results() -> None:
    for problem in demo_problems("calibrate", 200, 0):
        total = 0
        words = ["+", *str(expression_of(problem)).split()]
        for sign, number in zip(words[::2], words[1::2], strict=True):
            total += int(number) if sign == "+" else -int(number)
        assert problem.answer == str(total)
        assert total >= LOWEST_RESULT


def test_expressions_repeat_only_when_a_level_has_no_more() -> None:
    many = [p.query for p in demo_problems("test", 300, 0, (3,))]
    assert len(set(many)) == 300
    few = [p.query for p in demo_problems("test", 80, 0, (1,))]
    assert 40 <= len(set(few)) < 80
    assert len(set(few[:30])) == 30


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("dev", 3, 0), "'dev'"),
        (("test", -1, 0), "-1"),
        (("test", 3, 0, (1, 6)), "[1, 6]"),
        (("test", 3, 0, ()), "[]"),
    ],
)
def test_a_setting_that_does_not_fit_is_named(arguments: tuple, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        demo_problems(*arguments)
    assert said in str(caught.value)


def test_levels_are_one_to_five() -> None:
    assert LEVELS == (1, 2, 3, 4, 5)


@pytest.mark.parametrize(
    ("value", "sign", "operand", "carries", "right", "dropped"),
    [
        (27, "+", 8, True, 35, 25),
        (27, "+", 3, True, 30, 20),
        (27, "+", 2, False, 29, 29),
        (32, "-", 8, True, 24, 34),
        (30, "-", 4, True, 26, 36),
        (38, "-", 8, False, 30, 30),
    ],
)
def test_a_dropped_carry_is_ten_off(value, sign, operand, carries, right, dropped) -> None:
    step = Operation(sign, operand)
    assert (step.carries(value), step.apply(value), step.dropped(value)) == (carries, right, dropped)


def test_an_expression_reads_back_as_it_was_written() -> None:
    expression = Expression(27, (Operation("+", 8), Operation("-", 9)))
    assert str(expression) == "27 + 8 - 9"
    assert parse_expression("27 + 8 - 9") == expression
    with pytest.raises(ValueError, match="27 \\* 8"):
        parse_expression("27 * 8")
