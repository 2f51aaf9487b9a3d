import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pts.errors import ConfigError, DataError
from pts.graders import make_grader
from pts.problems import ProblemSource, fingerprint_of, load_problems, problem_digest

SHARED = Path(__file__).parents[3] / "shared" / "data"


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def load(tmp_path, rows, **settings):
    return load_problems(ProblemSource(write_jsonl(tmp_path / "data.jsonl", rows), **settings))


MMLU = {"question": "Which?", "choices": ["red", "green", "blue", "grey"], "answer": 2, "subject": "colours"}
GPQA = {
    "Record ID": "rec1",
    "Question": "Why?",
    "Correct Answer": "right",
    "Incorrect Answer 1": "w1",
    "Incorrect Answer 2": "w2",
    "Incorrect Answer 3": "w3",
}


@pytest.mark.parametrize(
    ("row", "schema", "grader", "query", "answer"),
    [
        ({"question": "q", "answer": "so 3+4=7\n#### 1,007"}, "gsm8k", "math", "q", "1,007"),
        ({"problem": "q", "answer": "\\frac{1}{2}", "level": 3}, "math", "math", "q", "\\frac{1}{2}"),
        ({"problem": "q", "solution": "so \\boxed{\\frac{1}{2}}."}, "math", "math", "q", "\\frac{1}{2}"),
        ({"ID": "a", "Problem": "q", "Answer": 25}, "aime", "math", "q", "25"),
        ({"id": 1, "problem": "q", "answer": "025", "year": "2024"}, "aime", "math", "q", "025"),
        ({"ID": "s", "Body": "b", "Question": "q", "Answer": 7.0}, "svamp", "math", "b. q", "7"),
        (
            {"Body": "b", "Question": "q", "question_concat": "b q", "Answer": "7.5"},
            "svamp",
            "math",
            "b q",
            "7.5",
        ),
        ({"id": "chal-1", "question": "q", "answer": "51", "type": "x"}, "qa", "math", "q", "51"),
        (MMLU, "mmlu", "choice", "Which?\n\nA) red\nB) green\nC) blue\nD) grey", "C"),
        (
            {"question": "q", "options": ["x", "y"], "answer": "B", "answer_index": 1},
            "mmlu-pro",
            "choice",
            "q\n\nA) x\nB) y",
            "B",
        ),
        (
            {"id": "boolq_1f", "category": "boolq", "question": "q", "answer": "Yes", "metadata": {"a": 1}},
            "optillmbench",
            "mixed",
            "q",
            "Yes",
        ),
    ],
)
def test_known_shapes_are_detected(tmp_path, row, schema, grader, query, answer):
    loaded = load(tmp_path, [row])
    problem = loaded.problems[0]
    assert (loaded.schema, loaded.grader, problem.query, problem.answer) == (schema, grader, query, answer)
    make_grader(grader).check_reference(answer)


def test_gpqa_choices_are_shuffled_by_id_and_the_letter_follows(tmp_path):
    rows = [GPQA | {"Record ID": f"rec{n}"} for n in range(40)]
    problems = load(tmp_path, rows).problems
    assert all(f"{problem.answer}) right" in problem.query for problem in problems)
    assert {problem.answer for problem in problems} == set("ABCD")
    assert load(tmp_path, rows[7:8]).problems[0] == problems[7]


def test_ids_and_short_scalars_are_kept(tmp_path):
    row = {"unique_id": "u/1", "problem": "q", "answer": "2", "level": 3, "note": "x" * 201, "tags": ["a"]}
    problem = load(tmp_path, [row]).problems[0]
    assert problem.id == "u/1"
    assert problem.metadata == {"level": 3}


def test_rows_without_an_id_are_numbered(tmp_path):
    assert [p.id for p in load(tmp_path, [{"question": "q", "answer": "1"}] * 3).problems] == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("answers", "grader"),
    [(["A", "C"], "choice"), (["3", "$x$"], "math"), (["Paris", "Rome"], "exact"), (["Paris", "3"], "mixed")],
)
def test_named_fields_and_the_grader_that_fits(tmp_path, answers, grader):
    rows = [{"ask": "q", "truth": answer} for answer in answers]
    loaded = load(tmp_path, rows, question_field="ask", answer_field="truth")
    assert (loaded.schema, loaded.grader) == ("named", grader)
    assert [problem.answer for problem in loaded.problems] == answers


def test_named_choices_take_an_answer_by_its_text(tmp_path):
    row = {"ask": "q", "from": ["x", "y"], "truth": "y"}
    loaded = load(tmp_path, [row], question_field="ask", answer_field="truth", choices_field="from")
    assert (loaded.problems[0].answer, loaded.grader) == ("B", "choice")


def test_one_data_set_is_the_same_in_every_format(tmp_path):
    import pyarrow
    import pyarrow.parquet
    from datasets import Dataset, DatasetDict

    rows = [{"id": f"i{n}", "question": f"q, {n}\n?", "answer": str(n)} for n in range(5)]
    (tmp_path / "d.json").write_text(json.dumps(rows))
    with (tmp_path / "d.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "d.parquet")
    Dataset.from_list(rows).save_to_disk(tmp_path / "saved")
    DatasetDict(train=Dataset.from_list(rows), test=Dataset.from_list(rows[:1])).save_to_disk(tmp_path / "both")
    expected = load(tmp_path, rows).problems
    for name in ("d.json", "d.csv", "d.parquet", "saved"):
        assert load_problems(ProblemSource(str(tmp_path / name))).problems == expected, name
    both = str(tmp_path / "both")
    assert load_problems(ProblemSource(both, split="train", limit=2)).problems == expected[:2]
    with pytest.raises(DataError, match="several splits; choose one with split=: test, train"):
        load_problems(ProblemSource(both))
    with pytest.raises(DataError, match="no split 'dev'; it has test, train"):
        load_problems(ProblemSource(both, split="dev"))


def test_the_first_problems_of_a_longer_list_keep_their_fingerprint(tmp_path):
    rows = [{"question": f"q{n}", "answer": "1"} for n in range(6)]
    whole, part = load(tmp_path, rows), load(tmp_path, rows, limit=4)
    assert part.digests == whole.digests[:4]
    assert fingerprint_of(whole.problems[:4]) == part.fingerprint != whole.fingerprint
    assert fingerprint_of(reversed(whole.problems)) != whole.fingerprint
    changed = load(tmp_path, [*rows[:-1], {"question": "q5", "answer": "2"}])
    assert problem_digest(changed.problems[-1]) != whole.digests[-1]
    assert load(tmp_path, [row | {"note": "x"} for row in rows]).fingerprint == whole.fingerprint


def test_a_limit_leaves_the_rest_of_the_file_unread(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text('{"question": "q", "answer": "1"}\nnot json\n')
    assert len(load_problems(ProblemSource(str(path), limit=1)).problems) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"question": "q", "answer": "1"}\n\n{"question": \n', "line 3 is not JSON"),
        ("[1]\n", "line 1 is not a JSON object"),
        ("", "is empty"),
        ('{"ask": "q", "truth": "1"}\n', "question_field= and answer_field=. Its fields are: ask, truth"),
        ('{"question": " ", "answer": "1"}\n', "field question of problem 0 is ' '"),
        (
            '{"question": "q", "answer": "1"}\n{"question": "q", "answer": null}\n',
            "field answer of problem 1 is None",
        ),
        ('{"id": 7, "question": "q", "answer": "1"}\n' * 2, "id '7' of field id occurs twice"),
        ('{"question": "q", "choices": ["a", "b"], "answer": 2}\n', "'2' of problem 0 is not one of its 2"),
        ('{"question": "q", "choices": "ab", "answer": 0}\n', "'ab' for its choices, not a list"),
    ],
)
def test_bad_data_is_named_in_one_line(tmp_path, text, message):
    path = tmp_path / "data.jsonl"
    path.write_text(text)
    with pytest.raises(DataError) as error:
        load_problems(ProblemSource(str(path)))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("d.csv", b"question,answer\nq,1\nq\n", "line 3 has not as many values"),
        ("d.csv", b'question,answer\n"q,1\n', "is not CSV"),
        ("d.json", b'{"question": "q"}', "not a list of JSON objects"),
        ("d.json", b"[{]", "line 1 is not JSON"),
        ("d.parquet", b"PAR1 not really", "not a Parquet file"),
        ("d.jsonl", b'{"question": "\xff\xfe"}', "not UTF-8"),
        ("d.txt", b"q", "use .jsonl, .json, .csv, .parquet"),
    ],
)
def test_a_malformed_file_is_named_in_one_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as error:
        load_problems(ProblemSource(str(tmp_path / name)))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("field", ["question_field", "answer_field", "id_field", "choices_field"])
def test_a_named_field_that_is_not_there_lists_those_that_are(tmp_path, field):
    with pytest.raises(DataError, match=r"no field 'nope'. Its fields are: question, answer"):
        load(tmp_path, [{"question": "q", "answer": "1"}], **{field: "nope"})


def test_missing_paths_say_so(tmp_path):
    for dataset in (str(tmp_path / "gone.jsonl"), "gone.csv", "./gone", str(tmp_path)):
        with pytest.raises(DataError, match=r"There is no data set at|was not written by"):
            load_problems(ProblemSource(dataset))


def test_settings_that_nothing_would_use_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="must be at least 1"):
        ProblemSource("demo", limit=0)
    with pytest.raises(ConfigError, match="no question field"):
        ProblemSource("demo", question_field="q")
    with pytest.raises(ConfigError, match="has no split"):
        load(tmp_path, [{"question": "q", "answer": "1"}], split="train")


def test_the_demo_generator():
    loaded = load_problems(ProblemSource("demo"))
    assert (len(loaded.problems), loaded.name, loaded.schema, loaded.grader) == (50, "demo", "demo", "demo")
    assert load_problems(ProblemSource("demo", limit=5)).problems == loaded.problems[:5]
    assert load_problems(ProblemSource("demo", seed=1)).fingerprint != loaded.fingerprint
    levels = load_problems(ProblemSource("demo", split="test", limit=6, levels=(3,))).problems
    assert {problem.metadata["level"] for problem in levels} == {3}
    for problem in loaded.problems:
        make_grader("demo").check_reference(problem.answer)


def test_files_are_read_without_the_datasets_library(tmp_path):
    path = write_jsonl(tmp_path / "d.jsonl", [{"question": "q", "answer": "1"}])
    code = (
        "import sys; from pts.problems import ProblemSource, load_problems;"
        f"load_problems(ProblemSource({path!r}));"
        "assert not {'datasets', 'torch', 'pyarrow', 'math_verify'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("settings", [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}])
def test_an_unreachable_hub_says_what_to_do_offline(settings, tmp_path):
    code = (
        "from pts.problems import ProblemSource, load_problems\n"
        "from pts.errors import DataError\n"
        "try: load_problems(ProblemSource('nobody/nothing', split='train'))\n"
        "except DataError as error: print(error)"
    )
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    environment |= settings | {"HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60
    )
    assert "nobody/nothing" in done.stdout, done.stderr
    assert "try a local .jsonl" in done.stdout
    assert "dataset='demo'" in done.stdout
    assert done.stdout.count("\n") == 1


@pytest.mark.skipif(not SHARED.exists(), reason="the trial data are not here")
@pytest.mark.parametrize(
    ("file", "count", "schema"),
    [("svamp", 700, "svamp"), ("gsm8k_train_2000", 2000, "gsm8k"), ("math500_first250", 250, "math")],
)
def test_real_data_sets_load_and_their_references_can_be_graded(file, count, schema):
    loaded = load_problems(ProblemSource(str(SHARED / f"{file}.jsonl")))
    assert (len(loaded.problems), loaded.schema, loaded.grader) == (count, schema, "math")
    grader = make_grader("math")
    for problem in loaded.problems:
        grader.check_reference(problem.answer)


def test_two_fields_that_could_be_the_question_are_an_error_unless_one_holds_the_other(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text('{"question": "What is 4 + 2 ?", "problem": "What is 9 + 9 ?", "answer": "6"}\n')
    with pytest.raises(DataError, match=r"question and problem.*question_field="):
        load_problems(ProblemSource(str(path)))
    assert load_problems(ProblemSource(str(path), question_field="question", answer_field="answer")).problems
    path.write_text('{"question": "What is 4 + 2 ?", "query": "Add: What is 4 +  2 ?", "answer": "6"}\n')
    assert load_problems(ProblemSource(str(path))).problems[0].query.endswith("What is 4 + 2 ?")
