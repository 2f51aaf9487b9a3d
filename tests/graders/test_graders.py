import subprocess
import sys

import pytest

from pts.errors import GraderError
from pts.graders import GRADER_NAMES, CallableGrader, make_grader
from pts.graders.statements import last_boxed, last_statement


@pytest.mark.parametrize(
    ("completion", "letter"),
    [
        ("(B)", "B"),
        ("B)", "B"),
        ("B", "B"),
        ("B.", "B"),
        ("b", "B"),
        ("**B**", "B"),
        ("**B) green**", "B"),
        ("The answer is B", "B"),
        ("The answer is B because A is too small.", "B"),
        ("The answer is A because B is too small.", "A"),
        ("The answer is (A).", "A"),
        ("The correct answer is option C.", "C"),
        ("The correct choice is **D**", "D"),
        ("answer: b", "B"),
        ("Answer: A", "A"),
        (r"\boxed{B}", "B"),
        (r"\boxed{\text{(B)}}", "B"),
        (r"$\boxed{\text{B}}$", "B"),
        ("The answer is A. Wait, no: the answer is C.", "C"),
        (r"First \boxed{A}, then \boxed{D}", "D"),
        ("A) red is wrong.\nB) green is right.\nThe answer is B", "B"),
        ("(A) is too small, so it must be (C)", "C"),
        ("So it has to be C", "C"),
        ("I would go with option D here.", "D"),
        ("A dog barks, so B", "B"),
    ],
)
def test_choices(completion, letter):
    grade = make_grader("choice")
    assert grade(completion, letter)
    assert grade(completion, f"({letter})")
    assert not grade(completion, "E")


@pytest.mark.parametrize(
    "completion",
    [
        "A dog is an animal.",
        "The answer is a matter of taste.",
        "The answer is A dog.",
        "I think so.",
        "",
        "Apple",
    ],
)
def test_an_article_or_a_pronoun_is_no_choice(completion):
    grade = make_grader("choice")
    assert not any(grade(completion, letter) for letter in "ABCDEFGHIJ")


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        ("Paris", "paris"),
        ("It is in France.\n\n**Paris.**\n", "Paris"),
        ("So the answer is Paris.", "Paris"),
        ("The answer is Rome. No: the answer is Paris.", "Paris"),
        (r"\boxed{\text{Paris}}", "Paris"),
        ("one\ntwo", "One\nTwo"),
        ("Answer: Yes", "Yes"),
    ],
)
def test_exact_right(completion, answer):
    assert make_grader("exact")(completion, answer)


@pytest.mark.parametrize(
    "completion", ["Paris\nRome", "The answer is Paris. The answer is Rome.", "Parisian", ""]
)
def test_exact_wrong(completion):
    assert not make_grader("exact")(completion, "Paris")


@pytest.mark.parametrize(
    ("completion", "answer", "right"),
    [
        ("first 3, then 7", "7", True),
        ("first 7, then 3", "7", False),
        ("about 1,234.5 m", "1234.5", True),
        ("3.1415927", "3.14159265", True),
        ("3.1416", "3.14159265", False),
        ("it fell to -5", "-5", True),
        ("it fell to −5.", "-5", True),
        ("1.5e3", "1500", True),
        ("it is .5", "0.5", True),
        ("18.", "18", True),
        ("0.0000001", "0", False),
        ("none", "0", False),
        ("$18", "18", True),
    ],
)
def test_numeric(completion, answer, right):
    assert make_grader("numeric")(completion, answer) is right


def test_regex_takes_the_last_match():
    grade = make_grader("regex", pattern=r"ANSWER=(\w+)")
    assert grade("ANSWER=x ANSWER=y", "y")
    assert not grade("ANSWER=x ANSWER=y", "x")
    assert not grade("y", "y")


@pytest.mark.parametrize("pattern", [None, "", "(", "no group", "(a)(b)"])
def test_a_pattern_that_cannot_serve_is_refused(pattern):
    with pytest.raises(GraderError):
        make_grader("regex", pattern=pattern)


@pytest.mark.parametrize(
    ("completion", "right"),
    [
        ("<think> The answer is 9 . </think> The answer is 35 .", True),
        ("The answer is 35 . <|im_end|>", True),
        ("12 + 23 = 35 .</think>\nThe answer is 35 .", True),
        ("The answer is 35 . The answer is 36 .", False),
        ("The answer is 36 . </think> The answer is 35", True),
        ("<think> The answer is 35 . </think> so", False),
        ("The answer is -35 .", False),
        ("The answer is 350 .", False),
        ("35", False),
        ("The answer is", False),
        ("", False),
    ],
)
def test_demo(completion, right):
    assert make_grader("demo")(completion, "35") is right


def test_demo_negative_reference():
    assert make_grader("demo")("The answer is -4 .", "-4")


def test_only_what_follows_the_thinking_is_graded():
    grade = make_grader("math", think_end="</think>")
    assert grade("maybe 5 </think> no </think> 7", "7")
    assert not grade("<think> 7 </think> 5", "7")
    assert grade("7", "7"), "no thinking at all"
    required = make_grader("math", think_end="</think>", think_required=True)
    assert not required("<think> it is 7", "7")
    assert required("<think> it is </think> 7", "7")


@pytest.mark.parametrize(
    ("completion", "answer", "right"),
    [
        ("so it is (C)", "C", True),
        ("so it is (B)", "C", False),
        ("The answer is Yes.", "Yes", True),
        ("The answer is No.", "Yes", False),
        ("The answer is 1,080 apples.", "1080", True),
        (r"\boxed{\frac{1}{2}}", "0.5", True),
        ("the 3 laws of motion are true", "the 3 laws of motion are true", True),
    ],
)
def test_mixed_references_are_graded_by_kind(completion, answer, right):
    grade = make_grader("mixed")
    grade.check_reference(answer)
    assert grade(completion, answer) is right


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("choice", "42"),
        ("choice", "Apple"),
        ("choice", ""),
        ("exact", " "),
        ("numeric", "Paris"),
        ("numeric", "3/4"),
        ("demo", "3.5"),
        ("mixed", ""),
    ],
)
def test_unreadable_references_are_refused_in_one_line_with_the_value(name, answer):
    with pytest.raises(GraderError) as error:
        make_grader(name).check_reference(answer)
    assert repr(answer) in str(error.value)
    assert "\n" not in str(error.value)


def test_unknown_names_and_unused_options_are_refused():
    with pytest.raises(GraderError) as error:
        make_grader("maths")
    assert all(name in str(error.value) for name in GRADER_NAMES)
    with pytest.raises(GraderError, match="for the regex grader"):
        make_grader("math", pattern="(x)")
    with pytest.raises(GraderError, match="end tag is unknown"):
        make_grader("math", think_required=True)


def test_a_function_becomes_a_grader():
    grade = CallableGrader(lambda completion, answer: answer in completion)
    grade.check_reference("anything")
    assert grade("so Paris it is", "Paris")
    assert not grade("Rome", "Paris")


@pytest.mark.parametrize(
    ("text", "content"),
    [
        (r"\boxed{\frac{1}{\sqrt{2}}} done", r"\frac{1}{\sqrt{2}}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\fbox{ 3 }", "3"),
        (r"\boxed 5.", "5"),
        (r"\boxed{1}, \boxed{2} and \boxed{3}", "1,2,3"),
        (r"$\boxed{1}$ and $\boxed{2}$", "1,2"),
        (r"\boxed{1}. So \boxed{2}", "2"),
        (r"\boxed{1} \boxed{2", ""),
        ("no box", None),
    ],
)
def test_last_boxed(text, content):
    assert last_boxed(text) == content


@pytest.mark.parametrize(
    ("text", "stated"),
    [
        ("The answer is 5. The answer is 7. And so on", "7"),
        ("The answer to question 3 is 7.", "7"),
        ("Final answer:\n\n**7**\n", "7**"),
        ("Answer = 7 cm", "7 cm"),
        ("#### 1.5", "1.5"),
        ("The answer is: $$\nx\n$$ done", "$$\nx\n$$"),
        ("We answer in order.", None),
    ],
)
def test_last_statement(text, stated):
    assert last_statement(text) == stated


def test_importing_the_graders_is_light():
    code = (
        "import sys, pts.graders; assert not {'torch', 'sympy', 'math_verify', 'datasets'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
