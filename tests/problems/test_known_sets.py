"""The data sets of the field, a row of each: what is asked, what is right, and which rows are refused."""

import json
import logging

import pytest

from pts.errors import DataError, GraderError
from pts.graders import make_grader
from pts.problems import ProblemSource, load_problems
from pts.stages.shared.recorded_grader import graded_by

C = ["red", "green", "blue", "grey"]
LETTERED = "A) red\nB) green\nC) blue\nD) grey"
ABCD = {"text": C, "label": ["A", "B", "C", "D"]}
NUMBERED = {"text": C, "label": ["1", "2", "3", "4"]}
BY_LETTER = dict(zip("ABCD", C, strict=True))
COLUMNS = {"A": "red", "B": "green", "C": "blue", "D": "grey"}
MEDMCQA = {"question": "q", "opa": "red", "opb": "green", "opc": "blue", "opd": "grey", "exp": "for x"}
SIQA = {"context": "c", "question": "q", "answerA": "red", "answerB": "green", "answerC": "blue"}
AQUA = ["A)21", "B)21.5", "C)22", "D)22.5", "E)23"]
BLOOD = {"question": "q", "options": ["B", "AB", "A", "O"]}
NUMBERS = {"question": "q", "choices": ["4", "2", "0", "6"]}
DROP = {"passage": "p", "question": "q"}


def load(tmp_path, *rows, **settings):
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_problems(ProblemSource(str(path), **settings))


@pytest.mark.parametrize(
    ("row", "grader", "query", "answer"),
    [
        # Labels of the row's own: ARC, CommonsenseQA, OpenBookQA, QASC, MedQA.
        ({"question": "q", "choices": ABCD, "answerKey": "C"}, "choice", f"q\n\n{LETTERED}", "C"),
        ({"question": "q", "choices": NUMBERED, "answerKey": "2"}, "choice", f"q\n\n{LETTERED}", "B"),
        ({"question": "q", "choices": NUMBERED, "answerKey": 2.0}, "choice", f"q\n\n{LETTERED}", "B"),
        (
            {"question": "q", "choices": {"text": C, "label": ["(A)", "(B)", "(C)", "(D)"]}, "answerKey": "B"},
            *("choice", f"q\n\n{LETTERED}", "B"),
        ),
        (
            {"question": "q", "options": [{"key": k, "value": v} for k, v in BY_LETTER.items()], "answer": "C"},
            *("choice", f"q\n\n{LETTERED}", "C"),
        ),
        ({"question": "q", "choices": C, "answer": "C) blue"}, "choice", f"q\n\n{LETTERED}", "C"),
        # An index, from 0 or from 1: COPA, SWAG, ReClor.
        (
            {"premise": "It fell.", "choice1": "red", "choice2": "green", "question": "cause", "label": 1},
            *("choice", "It fell. What was the cause?\n\nA) red\nB) green", "B"),
        ),
        (
            {"startphrase": "q", "label": 2} | {f"ending{n}": text for n, text in enumerate(C)},
            *("choice", f"q\n\n{LETTERED}", "C"),
        ),
        (
            {f"input_sentence_{n}": str(n) for n in (1, 2, 3, 4)}
            | {"sentence_quiz1": "red", "sentence_quiz2": "green", "answer_right_ending": 1},
            *("choice", "1\n2\n3\n4\n\nA) red\nB) green", "A"),
        ),
        (
            {"context": "c", "question": "q", "answers": C, "label": 3, "id_string": "t_1"},
            *("choice", f"c\nq\n\n{LETTERED}", "D"),
        ),
        ({"question": "q", "answer": None, "answer_number": 18, "equation_solution": None}, "math", "q", "18"),
        (
            {"question": "q", "context": {"contexts": ["c", "d"]}, "long_answer": "l", "final_decision": "yes"},
            *("exact", "c\n\nd\n\nq", "yes"),
        ),
        ({"question_stem": "q", "choices": ABCD, "answerKey": "D"}, "choice", f"q\n\n{LETTERED}", "D"),
        (
            {
                "question": {
                    "stem": "q",
                    "choices": [{"text": t, "label": n} for t, n in zip(C, "ABCD", strict=True)],
                },
                "answerKey": "B",
            },
            *("choice", f"q\n\n{LETTERED}", "B"),
        ),
        (
            {"question": "q", "answer": "green", "options": BY_LETTER | {"E": None}, "answer_idx": "B"},
            *("choice", f"q\n\n{LETTERED}", "B"),
        ),
        # A letter is a letter, an index is an index, and text comes last.
        (BLOOD | {"answer": "B", "answer_index": 1}, "choice", "q\n\nA) B\nB) AB\nC) A\nD) O", "B"),
        (BLOOD | {"answer": "(b)."}, "choice", "q\n\nA) B\nB) AB\nC) A\nD) O", "B"),
        (NUMBERS | {"answer": 2}, "choice", "q\n\nA) 4\nB) 2\nC) 0\nD) 6", "C"),
        (NUMBERS | {"answer": 2.0}, "choice", "q\n\nA) 4\nB) 2\nC) 0\nD) 6", "C"),
        ({"question": "q", "choices": C, "answer": "2"}, "choice", f"q\n\n{LETTERED}", "C"),
        ({"question": "q", "choices": C, "answer": "2.0"}, "choice", f"q\n\n{LETTERED}", "C"),
        ({"question": "q", "choices": C, "answer": "blue"}, "choice", f"q\n\n{LETTERED}", "C"),
        ({"question": "q", "choices": ["he", "I"], "answer": "I"}, "choice", "q\n\nA) he\nB) I", "B"),
        ({"question": "q", "options": json.dumps(C), "answer": "C"}, "choice", f"q\n\n{LETTERED}", "C"),
        ({"question": "q", "options": str(C), "answer": "C"}, "choice", f"q\n\n{LETTERED}", "C"),
        (
            {"question": "q", "options": AQUA, "correct": "E"},
            "choice",
            "q\n\nA) 21\nB) 21.5\nC) 22\nD) 22.5\nE) 23",
            "E",
        ),
        ({"input": "q", **COLUMNS, "target": "C"}, "choice", f"q\n\n{LETTERED}", "C"),
        ({"Question": "q", **COLUMNS, "Answer": "C", "Subject": "s"}, "choice", f"q\n\n{LETTERED}", "C"),
        # A passage belongs to its question.
        (
            {"article": "p", "question": "q", "options": C, "answer": "A"},
            "choice",
            f"p\n\nq\n\n{LETTERED}",
            "A",
        ),
        (
            {"context": "p", "query": "q", "options": C, "correct_option": 1},
            "choice",
            f"p\n\nq\n\n{LETTERED}",
            "B",
        ),
        (
            {"passage": "p", "question": "q", "options": ["(A)x", "(B)y"], "label": "B", "answer": None},
            *("choice", "p\n\nq\n\nA) x\nB) y", "B"),
        ),
        # Indexes that count from 0 or from 1.
        ({"goal": "q", "sol1": "x", "sol2": "y", "label": 1}, "choice", "q\n\nA) x\nB) y", "B"),
        ({"goal": "q", "sol1": "x", "sol2": "y", "label": "0"}, "choice", "q\n\nA) x\nB) y", "A"),
        ({"ctx": "q", "endings": C, "label": "3", "ind": 4}, "choice", f"q\n\n{LETTERED}", "D"),
        ({"sentence": "q", "option1": "1", "option2": "2", "answer": "1"}, "choice", "q\n\nA) 1\nB) 2", "A"),
        (SIQA | {"label": "3"}, "choice", "c\nq\n\nA) red\nB) green\nC) blue", "C"),
        (MEDMCQA | {"cop": 0}, "choice", f"q\n\n{LETTERED}", "A"),
        (MEDMCQA | {"cop": 3.0}, "choice", f"q\n\n{LETTERED}", "D"),
        # Yes and no.
        ({"question": "q", "passage": "p", "answer": True}, "exact", "p\n\nq", "yes"),
        ({"question": "q", "passage": "p", "idx": 4, "label": 0}, "exact", "p\n\nq", "no"),
        ({"question": "q", "passage": "p", "answer": "False"}, "exact", "p\n\nq", "no"),
        ({"question": "q", "answer": False}, "exact", "q", "no"),
        # Answers in lists, with units, in solutions.
        ({"question": "q", "final_answer": ["$2$"], "solution": ["s"], "unit": None}, "math", "q", "$2$"),
        ({"question": "q", "final_answer": ["2", "-3"], "context": "c"}, "math", "c\n\nq", "2, -3"),
        ({"question": "q", "final_answer": "[0, 1]", "difficulty": 3.0}, "math", "q", "[0, 1]"),
        ({"sQuestion": " q", "lSolutions": [5.0]}, "math", "q", "5"),
        ({"question": "q", "final_ans": "7"}, "math", "q", "7"),
        ({"body": "b.", "question": "q", "answer": "9 (apples)"}, "math", "b. q", "9"),
        ({"problem": "q", "solution": "so \\boxed{3}"}, "math", "q", "3"),
        ({"ID": "1983-1", "Question": "q", "Answer": "60", "Year": 1983}, "math", "q", "60"),
        ({"id": 0, "question": "q", "answer": 27.0, "url": "u"}, "math", "q", "27"),
        ({"problem": "q", "expected_answer": "5"}, "math", "q", "5"),
        ({"question": "Capital?", "answer": "Paris"}, "exact", "Capital?", "Paris"),
        ({"question": "Capital?", "answer": ["Paris"]}, "exact", "Capital?", "Paris"),
        (DROP | {"answers_spans": {"spans": ["6", "6"], "types": ["number"] * 2}}, "math", "p\n\nq", "6"),
        (
            {"context": "p", "question": "q", "answers": {"text": ["Rome", "Rome"], "answer_start": [1, 1]}},
            *("exact", "p\n\nq", "Rome"),
        ),
        ({"input": "q", "target": "(B)"}, "choice", "q", "(B)"),
    ],
)
def test_a_row_of_a_known_data_set(tmp_path, row, grader, query, answer):
    loaded = load(tmp_path, row)
    problem = loaded.problems[0]
    assert (problem.query, problem.answer, loaded.grader) == (query, answer, grader)
    make_grader(grader).check_reference(answer)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (NUMBERS | {"answer": "2"}, "the answer '2', which can be read as B or C"),
        (NUMBERS | {"answer": 7}, "'7' of problem 0 is not one of its 4"),
        (NUMBERS | {"answer": -1}, "'-1' of problem 0 is not one of its 4"),
        (NUMBERS | {"answer": 1.5}, "'1.5' of problem 0 is not one of its 4"),
        (NUMBERS | {"answer": True}, "True for its answer"),
        (NUMBERS | {"answer": "E"}, "'E' of problem 0 is not one of its 4"),
        (NUMBERS | {"answer": ""}, "the answer of problem 0 is ''"),
        (BLOOD | {"answer": "B", "answer_index": 0}, "the answer B by one field and A by answer_index"),
        ({"question": "q", "answer": "green", "options": BY_LETTER, "answer_idx": "C"}, "B by one field and C"),
        ({"question": "q", "choices": ABCD, "answerKey": "E"}, "'E' of problem 0 is not one of its 4"),
        ({"question": "q", "choices": NUMBERED, "answerKey": 0}, "'0' of problem 0 is not one of its 4"),
        ({"question": "q", "choices": ABCD, "answerKey": ""}, "the answer of problem 0 is ''"),
        ({"question": "q", "choices": {"text": C, "label": ["A"] * 4}, "answerKey": "A"}, "one each is needed"),
        ({"question": "q", "choices": {"text": C, "label": ["A"]}, "answerKey": "A"}, "one each is needed"),
        ({"question": "q", "choices": ["a", None], "answer": 0}, "choice B of problem 0 is None"),
        ({"question": "q", "choices": ["a", float("nan")], "answer": 0}, "choice B of problem 0 is nan"),
        ({"question": "q", "choices": ["a", " "], "answer": 0}, "choice B of problem 0 is ' '"),
        ({"question": "q", "choices": ["a", "N/A"], "answer": 0}, "the placeholder 'N/A' for choice B"),
        ({"question": "q", "choices": ["a"], "answer": 0}, "has 1 choices"),
        ({"goal": "q", "sol1": "x", "sol2": "y", "label": -1}, "'-1' for its label"),
        ({"goal": "q", "sol1": "x", "sol2": "y", "label": 2}, "its 2 choices are 0 to 1"),
        ({"ctx": "q", "endings": C, "label": ""}, "the field label of problem 0 is ''"),
        ({"sentence": "q", "option1": "x", "option2": "y", "answer": "0"}, "its 2 choices are 1 to 2"),
        ({"question": "q", "mc1_targets": {"choices": C, "labels": [1, 1, 0, 0]}}, "one of them 1"),
        ({"question": "q", "final_answer": None}, "the field final_answer of problem 0 is None"),
        ({"question": "q", "final_answer": []}, "an empty list for its final_answer"),
        ({"question": "q", "answer": ["a", "b"]}, "answer_field='answer.0'"),
        ({"question": "q", "answer": {"aliases": ["a"], "value": "A"}}, "answer_field='answer.value'"),
        (DROP | {"answers_spans": {"spans": ["a", "b"]}}, "2 accepted answers in answers_spans.spans"),
        ({"problem": "q", "solution": "We prove it. " * 20}, "marks no answer by \\boxed{} or ####"),
        ({"problem": "q", "answer": "proof", "question_type": "proof"}, "no row that is a problem"),
        (
            {"prompt": [{"content": "q"}], "reward_model": {}},
            "question_field= and answer_field=. Its fields are: prompt",
        ),
        ({"Problem": "q", "options": "a ) 38 , b ) 27", "correct": "a"}, "name them with question_field="),
        ({"question": "q \ud83d", "answer": "1"}, "field question of problem 0 holds half of a surrogate pair"),
        ({"question": "q", "answer": "1 \ud83d"}, "field answer of problem 0 holds half of a surrogate pair"),
        ({"id": "\ud83d", "question": "q", "answer": "1"}, "holds half of a surrogate pair"),
        ({"id": None, "question": "q", "answer": "1"}, "The field id of row 0 is None"),
        ({"id": True, "question": "q", "answer": "1"}, "The field id of row 0 is True"),
        ({"question": True, "answer": "1"}, "the field question of problem 0 is True"),
        ({"question": "nan", "answer": "1"}, "the field question of problem 0 is 'nan'"),
    ],
)
def test_a_row_that_cannot_be_graded_is_named(tmp_path, row, said):
    with pytest.raises(DataError) as error:
        load(tmp_path, row)
    message = str(error.value)
    assert said in message
    assert "\n" not in message
    assert "line 1" in message or "data.jsonl" in message


def test_a_bad_row_is_named_by_its_line_in_the_file(tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_text('{"question": "q", "answer": "1"}\n\n{"question": "r", "answer": NaN}\n')
    with pytest.raises(DataError, match=r"d.jsonl line 3: the field answer of problem 1 is nan"):
        load_problems(ProblemSource(str(path)))
    with pytest.raises(DataError, match=r"occurs twice in .*data.jsonl \(line 1 and line 2\)"):
        load(tmp_path, *[{"id": n, "question": "q", "answer": "1"} for n in (7, "7")])


def test_what_nothing_reads_may_be_anything(tmp_path):
    row = {"question": "q", "answer": "1", "note": "\ud83d", "score": float("nan"), "bound": float("inf")}
    assert load(tmp_path, row).problems[0].metadata == {}


@pytest.mark.parametrize(
    ("row", "right"),
    [
        (
            {
                "question": "q",
                "correct_answer": "right",
                "distractor1": "a",
                "distractor2": "b",
                "distractor3": "c",
            },
            4,
        ),
        ({"question": "q", "mc1_targets": {"choices": ["right", *"abcdefgh"], "labels": [1] + [0] * 8}}, 9),
    ],
)
def test_choices_whose_right_one_is_told_apart_are_shuffled_by_id(tmp_path, row, right):
    problems = load(tmp_path, *[row | {"id": n} for n in range(60)]).problems
    assert all(f"\n{problem.answer}) right" in problem.query for problem in problems)
    assert len({problem.answer for problem in problems}) == right
    assert load(tmp_path, row | {"id": 7}).problems[0] == problems[7]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"answer": 2}, "'2', which can be read as B or C"),
        ({"answer": "2"}, "'2', which can be read as B or C"),
        ({"answer": "B", "choices": ["B", "AB"]}, "'B', which can be read as A or B"),
    ],
)
def test_where_no_schema_tells_readings_that_disagree_are_an_error(tmp_path, row, said):
    with pytest.raises(DataError, match=said):
        load(tmp_path, NUMBERS | row, choices_field="choices")


def test_fields_inside_fields_can_be_named(tmp_path):
    row = {"prompt": [{"role": "user", "content": "q"}], "reward": {"truth": 34}}
    loaded = load(tmp_path, row, question_field="prompt.0.content", answer_field="reward.truth")
    assert (loaded.problems[0].query, loaded.problems[0].answer) == ("q", "34")
    with pytest.raises(DataError, match=r"no field 'reward.nope'"):
        load(tmp_path, row, question_field="prompt.0.content", answer_field="reward.nope")


def test_rows_that_the_data_set_calls_wrong_are_left_out_and_do_not_count(tmp_path, caplog):
    rows = [
        {"question": f"q{n}", "choices": C, "answer": 1, "error_type": kind, "correct_answer": None}
        for n, kind in enumerate(["ok", "wrong_groundtruth", "ok", "bad_question_clarity", "ok"])
    ]
    with caplog.at_level(logging.WARNING, "pts"):
        loaded = load(tmp_path, *rows, limit=2)
    assert [problem.id for problem in loaded.problems] == ["0", "2"]
    assert "the first is line 2: error_type wrong_groundtruth" in caplog.text


@pytest.mark.parametrize(
    ("row", "query"),
    [
        (
            {"prompt": "def f(x):", "test": "def check(f):\n    assert f(1) == 2", "entry_point": "f"},
            "def f(x):",
        ),
        (
            {"text": "Add one.", "test_list": ["assert f(1) == 2"], "code": "x"},
            "Add one.\nYour code should pass",
        ),
        ({"question": "Add one.", "tests": "assert f(1) == 2"}, "Add one."),
    ],
)
def test_tasks_with_unit_tests_load_and_are_graded_only_where_the_user_asks(tmp_path, row, query):
    loaded = load(tmp_path, row)
    assert loaded.problems[0].query.startswith(query)
    grader = make_grader("code")
    grader.check_reference(loaded.problems[0].answer)
    with pytest.raises(GraderError, match="give grader='code'"):
        graded_by(None, None, loaded.grader)
    assert graded_by("code", None, loaded.grader) == "code"
