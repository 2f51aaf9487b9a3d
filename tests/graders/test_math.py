import json
import os
import threading
from pathlib import Path

import pytest

from pts.errors import GraderError
from pts.graders import make_grader
from pts.graders.integers import as_integer, closing_integer, leading_integer
from pts.graders.math_verify_process import MathVerifyProcess

SHARED = Path(__file__).parents[3] / "shared" / "data" / "math500_first250.jsonl"

RIGHT = [
    # whole numbers and what surrounds them
    (r"\boxed{18}", "18"),
    (r"\boxed{18.0}", "18"),
    (r"\boxed{18}", "18.0"),
    (r"\boxed{\$18}", "18"),
    (r"\boxed{18 dollars}", "18"),
    (r"\boxed{18\text{ dollars}}", "18"),
    (r"\boxed{18 \text{ cm}^2}", "18"),
    (r"\boxed{18\%}", "18"),
    (r"\boxed{1,234}", "1234"),
    (r"\boxed{1{,}234}", "1,234"),
    (r"\boxed{11,\!111,\!100}", r"11,\! 111,\! 100"),
    ("The answer is 18.", "18"),
    ("The answer is **18**.", "18"),
    ("**Answer:** 18", "18"),
    ("The answer is $18 a day.", "18"),
    ("The answer is $1,234.", "1234"),
    ("#### 1,234", "1,234"),
    ("It costs 18%", "18"),
    ("She has 7 apples.", "7"),
    ("3 + 4 = 7", "7"),
    ("x = -5", "-5"),
    ("**18**", "18"),
    # the last answer wins
    ("The answer is 5. Wait, no. The answer is 7.", "7"),
    (r"\boxed{5}, let me check that sum again: \boxed{7}", "7"),
    ("The answer is clear.\nSo there are 7 apples.", "7"),
    (r"The answer is 6, so \boxed{7}", "7"),
    # the question's number echoed
    ("You asked about 48 clips. The answer is 72 clips.", "72"),
    # LaTeX
    (r"\boxed{\frac{\sqrt{3}}{2}}", r"\frac{\sqrt3}{2}"),
    (r"\boxed{0.5}", r"\frac{1}{2}"),
    (r"\boxed{3/56}", r"\frac{3}{56}"),
    ("so x = 3/4", "3/4"),
    (r"The answer is $\frac{3}{4}$ of the cake.", "3/4"),
    ("The answer is:\n\n$$\\frac{14}{3}$$", r"\frac{14}{3}"),
    ("The answer is:\n\\[\n\\frac{14}{3}\n\\]\n", r"\frac{14}{3}"),
    (r"The answer is (3, \frac{\pi}{2}).", r"\left( 3, \frac{\pi}{2} \right)"),
    ("The answer is x^2 + 2x + 1", "(x+1)^2"),
    (r"\boxed{\{2, 1\}}", r"\{1,2\}"),
    (r"\boxed{1} and \boxed{-2}", "1,-2"),
    (r"\boxed{x=5}", "5"),
    (r"\boxed{5}", "x=5"),
    (r"\boxed{90}", r"90^\circ"),
    (r"The final answer is $\boxed{\frac{3}{56}}$. I hope it is correct.", r"\frac{3}{56}"),
    # words in a mathematical data set
    (r"\boxed{Evelyn}", r"\text{Evelyn}"),
    ("The answer is Evelyn.", r"\text{Evelyn}"),
    (r"\boxed{C}", r"\text{(C)}"),
]

WRONG = [
    (r"\boxed{19}", "18"),
    (r"\boxed{18.5}", "18"),
    (r"\boxed{-18}", "18"),
    ("it is -5.", "5"),
    (r"\boxed{12,340}", "1234"),
    ("The answer is 5. Wait, no. The answer is 7.", "5"),
    (r"\boxed{5}, let me check that sum again: \boxed{7}", "5"),
    ("You asked about 48 clips. The answer is 72 clips.", "48"),
    (r"\boxed{\frac{1}{3}}", "0.333"),
    (r"\boxed{q-p}", "p - q"),
    (r"\boxed{(2, 3)}", "(3, 2)"),
    (r"\boxed{seat}", r"\text{east}"),
    (r"\boxed{12", "12"),
    (r"\boxed{7}, and again \boxed{7", "7"),
    (r"\boxed{}", "0"),
    ("", "5"),
    ("I do not know.", "5"),
]


@pytest.fixture(scope="module")
def grade():
    return make_grader("math")


@pytest.mark.parametrize(("completion", "answer"), RIGHT)
def test_right(grade, completion, answer):
    assert grade(completion, answer)


@pytest.mark.parametrize(("completion", "answer"), WRONG)
def test_wrong(grade, completion, answer):
    assert not grade(completion, answer)


@pytest.mark.parametrize("answer", ["", " ", "???", r"\frac{", "The sky is blue today", "x" * 2000])
def test_references_that_cannot_be_read_are_refused_by_value(grade, answer):
    with pytest.raises(GraderError) as error:
        grade.check_reference(answer)
    assert answer[:20] in str(error.value) or repr(answer)[1:20] in str(error.value)
    assert "\n" not in str(error.value)


def test_whole_numbers_are_graded_as_math_verify_does():
    from math_verify import parse, verify

    def math_verify(text, answer):
        return verify(
            parse(f"\\boxed{{{answer}}}", parsing_timeout=None),
            parse(text, parsing_timeout=None),
            timeout_seconds=None,
        )

    numbers = ["0", "7", "-7", "18", "18.0", "18.00", "1,234", "1234", "007", "12,345,678", "$18"]
    sentences = [
        "He has {} apples",
        "Natalia sold 48 and 24, so {} in all.",
        "3 + 4 = {}",
        "It is $5 and then {}.",
        "So **{}** is right.\n\n",
        "Total: {}\n",
        "10 - 3 is 7 and\nx = {}",
    ]
    compared = 0
    for sentence in sentences:
        for number in numbers:
            text = sentence.format(number)
            found = closing_integer(text)
            if found is None:
                continue
            compared += 1
            for answer in ("18", "7", "-7", "1234", "0", "12345678"):
                assert math_verify(text, answer) == (found == as_integer(answer)), (text, answer)
    assert compared > 50, "too few cases take the quick way"
    for number in numbers:
        for stated in (number, number + " dollars per day", number + "."):
            found = leading_integer(stated)
            assert found is not None
            for answer in ("18", "7", "-7", "1234"):
                assert math_verify(f"The answer is {stated}", answer) == (found == as_integer(answer)), stated


@pytest.mark.parametrize(
    "text",
    ["7 - 2", "18%", "3/4", "(18)", "2^3", "at 10:30", "5 1/2", "x_2", "1.5", "so $\\frac{1}{2}$", "= 3 + 4"],
)
def test_the_quick_way_leaves_expressions_alone(text):
    assert closing_integer(text) is None
    assert leading_integer(text) is None


def test_whole_numbers_need_no_math_verify(grade, monkeypatch):
    def never(*_):
        raise AssertionError("Math-Verify was asked")

    monkeypatch.setattr(MathVerifyProcess, "_ask", never)
    filler = "Let us think about it step by step. " * 50
    completions = [f"{filler}She has {n} and {n} more, so it is {2 * n} apples." for n in range(1000)]
    completions += [f"{filler}The answer is {n} apples." for n in range(1000)]
    assert sum(grade(completion, "1998") for completion in completions) == 1
    with pytest.raises(AssertionError, match="Math-Verify was asked"):
        grade(r"\boxed{\sqrt{3992004}}", "1998")


def test_an_endless_expression_fails_off_the_main_thread_and_leaves_nothing_running():
    process = MathVerifyProcess(time_limit=1.0)
    assert process.agrees(r"\boxed{\frac12}", [r"\boxed{0.5}"])
    child = process._process
    verdicts = []
    thread = threading.Thread(
        target=lambda: verdicts.append(process.agrees(r"\boxed{5}", [r"\boxed{9^{9^{9^9}}}"]))
    )
    thread.start()
    thread.join(timeout=90)
    assert verdicts == [None]
    assert child.poll() is not None, "the process that burned is still there"
    assert process.agrees(r"\boxed{\frac12}", [r"\boxed{0.5}"]), "and the next question has its answer"
    process.close()


def test_many_threads_get_their_own_answers(grade):
    verdicts = {}

    def work(n):
        verdicts[n] = grade(rf"\boxed{{\frac{{{n}}}{{7}}}}", rf"\frac{{{n + n % 2}}}{{7}}")

    threads = [threading.Thread(target=work, args=(n,)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert verdicts == {n: n % 2 == 0 for n in range(20)}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_process_asks_a_math_verify_of_its_own():
    process = MathVerifyProcess()
    assert process.agrees(r"\boxed{\frac12}", [r"\boxed{0.5}"])
    child = os.fork()
    if child == 0:
        right = process.agrees(r"\boxed{\frac13}", [r"\boxed{2/6}"])
        process.close()
        os._exit(0 if right else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert process.agrees(r"\boxed{\frac14}", [r"\boxed{0.25}"])
    process.close()


@pytest.mark.skipif(not SHARED.exists(), reason="the trial data are not here")
def test_every_reference_of_math500_agrees_with_itself(grade):
    answers = [json.loads(line)["answer"] for line in SHARED.read_text(encoding="utf-8").splitlines()]
    for answer in answers:
        grade.check_reference(answer)
        assert grade(f"so \\boxed{{{answer}}}.", answer), answer
        assert not grade("\\boxed{-987654}", answer), answer
