"""Every data set by name, on small files of the same schema."""

import json

import pytest

from pts.errors import ConfigError
from pts.evaluation.benchmarks import (
    BENCHMARKS,
    benchmark_problems,
    benchmark_source,
    chance_level,
    find_benchmark,
)
from pts.graders import make_grader
from pts.graders.readable import is_readable
from pts.problems import ProblemSource

ROWS = {
    "gsm8k": [
        {"question": "Tom has 3 pens and buys 4. How many?", "answer": "He has 3 + 4 = <<3+4=7>>7.\n#### 7"},
        {"question": "Ann had $1,200 and spent 200.", "answer": "1200 - 200 = 1000\n#### 1,000"},
    ],
    "math500": [
        {
            "problem": "What is $\\frac12 + \\frac14$?",
            "solution": "It is $\\boxed{\\frac{3}{4}}$.",
            "answer": "\\frac{3}{4}",
            "subject": "Prealgebra",
            "level": 1,
            "unique_id": "test/prealgebra/1.json",
        }
    ],
    "aime24": [
        {
            "id": 60,
            "problem": "Find the remainder.",
            "solution": "Thus \\boxed{204}.",
            "answer": "204",
            "url": "u",
            "year": "2024",
        }
    ],
    "gpqa-diamond": [
        {
            "Record ID": f"rec{n}",
            "Question": "Which particle is it?",
            "Correct Answer": "the muon",
            "Incorrect Answer 1": "the pion",
            "Incorrect Answer 2": "the kaon",
            "Incorrect Answer 3": "the gluon",
        }
        for n in range(3)
    ],
    "mmlu": [
        {
            "question": f"Which is right, {n}?",
            "subject": f"s{n // 4}",
            "choices": ["a", "b", "c", "d"],
            "answer": 2,
        }
        for n in range(12)
    ],
    "mmlu-pro": [
        {
            "question_id": 70 + n,
            "question": "Which holds?",
            "options": [f"option {k}" for k in range(size)],
            "answer": "C",
            "answer_index": 2,
            "category": "business",
        }
        for n, size in enumerate((10, 4))
    ],
    "svamp": [
        {
            "ID": "chal-1",
            "Body": "Each pack costs 76 dollars and 25 are taken off",
            "Question": "What is a pack?",
            "Equation": "( 76.0 - 25.0 )",
            "Answer": "51",
            "Type": "Subtraction",
            "question_concat": "Each pack costs 76 dollars and 25 are taken off. What is a pack?",
        }
    ],
}
RIGHT = {
    "gsm8k": r"So \boxed{7}.",
    "math500": r"\boxed{0.75}",
    "aime24": r"It is \boxed{204}.",
    "mmlu": r"\boxed{C}",
    "mmlu-pro": r"So \boxed{C}.",
    "svamp": r"\boxed{51}",
}


def load(tmp_path, name, rows, limit=None):
    path = tmp_path / "some.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    benchmark = BENCHMARKS[name]
    source = benchmark_source(benchmark, str(path), ProblemSource("unused", limit=limit))
    return benchmark, benchmark_problems(benchmark, source)


@pytest.mark.parametrize("name", ROWS)
def test_a_file_of_the_same_schema_is_read_graded_and_asked_for(tmp_path, name):
    benchmark, loaded = load(tmp_path, name, ROWS[name])
    assert loaded.grader == benchmark.grader
    grader = make_grader(benchmark.grader)
    for problem in loaded.problems:
        grader.check_reference(problem.answer)
    first = loaded.problems[0]
    right = RIGHT.get(name, rf"\boxed{{{first.answer}}}")
    assert grader(right, first.answer)
    assert is_readable(benchmark.grader, right)
    assert not grader("I cannot say.", first.answer)
    assert not is_readable(benchmark.grader, "I cannot say.")
    assert "boxed" in benchmark.suffix


def test_every_name_has_a_test_here():
    assert {*ROWS, "demo"} == set(BENCHMARKS)


@pytest.mark.parametrize(
    ("name", "chance"),
    [
        ("gsm8k", None),
        ("gpqa-diamond", 0.25),
        ("mmlu", 0.25),
        ("mmlu-pro", (1 / 10 + 1 / 4) / 2),
        ("svamp", None),
    ],
)
def test_chance_is_that_of_each_problems_own_choices(tmp_path, name, chance):
    benchmark, loaded = load(tmp_path, name, ROWS[name])
    assert chance_level(loaded.problems, benchmark.grader) == pytest.approx(chance)


def test_choices_that_the_question_only_quotes_are_not_counted(tmp_path):
    rows = [{"question": "Given\n\nA) x\nB) y\nC) z", "choices": ["one\nA) odd", "two"], "answer": 0}]
    _, loaded = load(tmp_path, "mmlu", rows)
    assert chance_level(loaded.problems, "choice") == 0.5


def test_a_part_of_a_data_set_by_subjects_mixes_them_and_more_begin_with_fewer(tmp_path):
    _, few = load(tmp_path, "mmlu", ROWS["mmlu"], limit=6)
    _, more = load(tmp_path, "mmlu", ROWS["mmlu"], limit=9)
    assert more.problems[:6] == few.problems
    assert len({problem.metadata["subject"] for problem in few.problems}) == 3


def test_the_hubs_own_place_and_what_the_user_says_instead():
    gpqa = BENCHMARKS["gpqa-diamond"]
    source = benchmark_source(gpqa, None, ProblemSource("gpqa-diamond", limit=5))
    assert (source.dataset, source.config, source.split) == ("Idavidrein/gpqa", "gpqa_diamond", "train")
    other = benchmark_source(BENCHMARKS["gsm8k"], None, ProblemSource("gsm8k", split="train"))
    assert (other.dataset, other.split) == ("openai/gsm8k", "train")


def test_demo_problems_are_those_of_the_test_split():
    benchmark = BENCHMARKS["demo"]
    source = benchmark_source(benchmark, None, ProblemSource("demo", limit=7))
    problems = benchmark_problems(benchmark, source).problems
    assert [problem.id for problem in problems[:2]] == ["demo-test-0-0", "demo-test-0-1"]


def test_an_unknown_name_has_the_nearest():
    with pytest.raises(ConfigError, match="did you mean gpqa-diamond"):
        find_benchmark("gpqa-dimond")
    with pytest.raises(ConfigError, match="there are demo, gsm8k"):
        find_benchmark("xyzzy")
    assert find_benchmark("owner/name") is None
    assert find_benchmark("./here.jsonl") is None
