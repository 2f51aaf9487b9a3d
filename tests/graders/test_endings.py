"""A table of endings in the shapes that models write, each with its reference and whether it is right."""

import json
from functools import cache
from pathlib import Path

import pytest

from pts.graders import make_grader

ENDINGS = [
    json.loads(line)
    for line in Path(__file__).with_name("endings.jsonl").read_text(encoding="utf-8").splitlines()
]


@cache
def grader(name):
    return make_grader(name, pattern=r"ANSWER=(\w+)" if name == "regex" else None)


@pytest.mark.parametrize("name", sorted({ending["grader"] for ending in ENDINGS}))
def test_endings(name):
    grade = grader(name)
    misread = []
    for ending in ENDINGS:
        if ending["grader"] == name:
            grade.check_reference(ending["reference"])
            if grade(ending["completion"], ending["reference"]) is not ending["right"]:
                misread.append(ending)
    assert not misread


def test_the_table_is_large_and_has_both_verdicts():
    right = sum(ending["right"] for ending in ENDINGS)
    assert len(ENDINGS) >= 150
    assert min(right, len(ENDINGS) - right) >= 75


UNITS = [
    "\\boxed{", "*", "A is ", "Question: ", "\n\nQuestion: a", "(", "The answer is 5, ", "$", " ", "\n", "5,",
    "answer: \\text{", "1", "choose ", "1 ", "12 345 ", "1,", "1,234,", "{,}", "-", "x = ", "answer ",
    "The answer is not 5. ", "<answer>", '"answer": "', "####", "5 or ", "5...no,", "\\frac{", "1:",
    "? ", "no, ",
    "'", "éa", "答", "1.234.", "2^", "$1 ", "answer is ", "\\", "(A) or ", "5 and ",
]  # fmt: skip


@pytest.mark.parametrize("name", ["math", "numeric", "choice", "exact"])
def test_long_hostile_completions_take_time_in_proportion(name):
    """At quadratic cost or worse one of these would take minutes, and the suite would not end."""
    reference = "B" if name == "choice" else "7"
    for unit in UNITS:
        make_grader(name)((unit * (30_000 // len(unit) + 1))[:30_000], reference)
