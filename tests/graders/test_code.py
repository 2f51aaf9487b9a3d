# ruff: noqa: E501 (programs, a string each)
import sys

import pytest

from pts.errors import GraderError
from pts.graders import make_grader
from pts.graders.code import held_in_by
from pts.graders.code_program import program_of
from pts.graders.code_tests import CodeTests, Example, row_tests

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="resource limits are needed")

HUMAN_EVAL = {
    "task_id": "X/0",
    "prompt": "from typing import List\n\ndef twice(x):\n    return 2 * x\n\n"
    'def total(xs: List[int]) -> int:\n    """The sum of the doubled numbers.\n    >>> total([1])\n    2\n    """\n',
    "entry_point": "total",
    "canonical_solution": "    return sum(twice(x) for x in xs)\n",
    "test": "\n\nMETADATA = {}\n\n\ndef check(candidate):\n    assert candidate([1, 2]) == 6\n    assert candidate([]) == 0\n",
}
MBPP = {
    "task_id": 1,
    "text": "Write a function that adds one.",
    "code": "def inc(x):\n    return x + 1",
    "test_setup_code": "",
    "test_list": ["assert inc(1) == 2", "assert inc(-1) == 0"],
}


def answer(row: dict[str, object]) -> str:
    tests = row_tests(row)
    assert tests is not None
    return tests.to_answer()


@pytest.mark.parametrize(
    ("completion", "right"),
    [
        ("    return sum(twice(x) for x in xs)\n", True),
        ("    return sum(twice(x) for x in xs)\n\nprint('and an unfinished\n", True),
        ("```python\ndef total(xs: List[int]) -> int:\n    return sum(twice(x) for x in xs)\n```", True),
        ("First try:\n```python\ndef total(xs): return 0\n```\nBetter:\n```python\n"
         "def total(xs):\n    return sum(2 * x for x in xs)\n```\nUse:\n```python\nprint(total([1]))\n```", True),
        ("```\n    return sum(twice(x) for x in xs)\n```", True),
        ("```python\nreturn sum(twice(x) for x in xs)\n```", True),
        ("```python\ndef total(xs):\n    return sum(2 * x for x in xs)", True),
        ("~~~py\ndef total(xs):\n    return sum(2 * x for x in xs)\n~~~", True),
        ("```bash\npip install x\n```\n```python\ntotal = lambda xs: sum(2 * x for x in xs)\n```", True),
        ("```python\ndef twice(x):\n    return x\ndef total(xs):\n    return sum(twice(x) for x in xs)\n```", False),
        ("    return 6\n", False),
        ("The answer is 6.", False),
        ("", False),
        ("```python\ndef other(xs):\n    return 6\n```", False),
        ("```python\ndef total(xs):\n    return sum(2 * x for x in xs\n```", False),
        ("    return sum(twice(x) for x in xs)\n\ndef check(candidate):\n    pass\n", True),
        ("    return 7\n\ndef check(candidate):\n    pass\n", False),
    ],
)  # fmt: skip
def test_completions_of_a_prompt_that_begins_a_function(completion: str, right: bool) -> None:
    grader = make_grader("code")
    grader.check_reference(answer(HUMAN_EVAL))
    assert grader(completion, answer(HUMAN_EVAL)) is right


@pytest.mark.parametrize(
    ("row", "right", "wrong"),
    [
        (MBPP, "def inc(x):\n    return x + 1", "def inc(x):\n    return 2"),
        ({"tests": "assert f(1) == 2"}, "def f(x): return x + 1", "def f(x): return x"),
        ({"tests": ["assert f(1) == 2", "assert f(2) == 3"]}, "def f(x): return x + 1", "def f(x): return 2"),
        ({"tests": [{"input": "2\n", "output": "4\n"}, {"input": "3", "output": "6"}]},
         "print(int(input()) * 2)", "print(4)"),
        ({"tests": {"inputs": ["1 2\n"], "outputs": ["1\n2"]}}, "print(*input().split(), sep='\\n')", "print('1 2')"),
        ({"input_output": '{"fn_name": "f", "inputs": [[1, 2]], "outputs": [[3]]}'},
         "class Solution:\n    def f(self, a, b):\n        return a + b", "def f(a, b): return a * b"),
        ({"test": "def check(candidate):\n    assert candidate(1) == 2", "entry_point": "f", "prompt": "Add one."},
         "def f(x): return x + 1", "def f(x): return x"),
        ({"test_list": ["assert math.isclose(half(1), 0.5)"], "test_imports": ["import math"]},
         "def half(x): return x / 2", "def half(x): return x"),
    ],
)  # fmt: skip
def test_the_forms_that_tests_come_in(row: dict[str, object], right: str, wrong: str) -> None:
    grader = make_grader("code")
    grader.check_reference(answer(row))
    assert grader(f"Here it is.\n```python\n{right}\n```", answer(row))
    assert grader(right, answer(row))
    assert not grader(f"```python\n{wrong}\n```", answer(row))


def test_tests_survive_the_text_that_carries_them() -> None:
    tests = CodeTests(("assert f() == '\u2028'",), (Example("é", "1"),), "p", "import re", "f")
    assert CodeTests.from_answer(tests.to_answer()) == tests


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("17", "has no tests"),
        ("{}", "no tests"),
        ('{"tests": ["assert ("]}', "not Python"),
        ('{"tests": ["f(1)"]}', "asserts nothing"),
        (
            '{"tests": ["def check(candidate):\\n    assert candidate(1) == 2"]}',
            "check of the tests needs arguments",
        ),
        ('{"tests": ["def test_f(one):\\n    assert f(one) == 2"]}', "test_f of the tests needs arguments"),
        ('{"tests": ["class TestF:\\n  def test_f(self, one):\\n    assert f(one) == 2"]}', "needs arguments"),
        ('{"tests": [], "examples": [{"input": "1"}]}', "has no tests"),
    ],
)
def test_a_reference_that_no_program_could_fail_is_refused(reference: str, says: str) -> None:
    with pytest.raises(GraderError, match=says):
        make_grader("code").check_reference(reference)


def test_a_list_of_tests_may_be_the_text_of_a_cell() -> None:
    found = row_tests({"text": "Write f", "test_list": "['assert f(1) == 2', 'assert f(2) == 3']"})
    assert found is not None
    assert found.tests == ("assert f(1) == 2", "assert f(2) == 3")


@pytest.mark.parametrize(
    "value", [{"inputs": ["1"], "outputs": []}, [1, 2], [{"input": "1"}], {"inputs": [], "outputs": []}]
)
def test_tests_of_no_known_form_are_refused(value: object) -> None:
    with pytest.raises(GraderError):
        row_tests({"tests": value})


def test_a_row_without_tests_has_none() -> None:
    assert row_tests({"question": "1 + 1?", "answer": "2"}) is None


def test_a_grader_says_what_holds_programs_in() -> None:
    held = held_in_by(make_grader("code", think_end="</think>"))
    assert held is not None
    assert "resource limits" in held
    assert held_in_by(make_grader("math")) is None


def test_the_last_block_with_a_function_is_the_program() -> None:
    tests = CodeTests(("assert f(1) == 1",))
    text = "```python\ndef f(x):\n    return x\n```\nFor example:\n```python\nprint(f(1))\n```"
    assert program_of(text, tests) == "def f(x):\n    return x\n"
