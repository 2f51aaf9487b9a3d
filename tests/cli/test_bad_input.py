"""Bad input is one line on stderr and exit code 2, and nothing is written or lost."""

import json

import pytest

from pts.cli import run
from tests.cli.one_line import complaint

QUESTIONS = [{"id": "a", "question": "What is 2 + 3 ?", "answer": "5"}]


pytestmark = pytest.mark.usefixtures("elsewhere")


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--model", "./nowhere"), "./nowhere does not exist"),
        (("--model", "no/such-model"), "use a local"),
        (("--dataset", "nowhere.jsonl"), "nowhere.jsonl"),
        (("--dataset", "no/such-data"), "no/such-data"),
        (("--threshold", "0"), "threshold is 0.0; it must be in (0, 1]"),
        (("--threshold", "1.5"), "threshold is 1.5; it must be in (0, 1]"),
        (("--range", "0.8", "0.2"), "range is 0.8 to 0.2"),
        (("--temperature", "0"), "temperature 0"),
        (("--dataset", "nowhere.jsonl", "--levels", "3"), "leave --levels out"),
        (("--top-p", "0"), "top-p is 0.0"),
        (("--problems", "0"), "problems is 0"),
        (("--problems", "many"), "--problems"),
        (("--no-such-option",), "--no-such-option"),
        (("--traces-from", "nowhere.jsonl"), "nowhere.jsonl cannot be read"),
        (("--think-start", "<a>", "--think-end", "<b>"), "think tag"),
        (("--grader", "regex", "--grader-pattern", "("), "attern"),
        (("--levels", "3,x"), "--levels"),
    ],
)
def test_bad_settings(capsys, tmp_path, arguments, said):
    assert said in complaint(capsys, "search", "--output", "out", *arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_field_that_is_not_in_the_data_lists_those_that_are(capsys, tmp_path):
    data = write_jsonl(tmp_path / "d.jsonl", QUESTIONS)
    line = complaint(capsys, "search", "--output", "out", "--dataset", data, "--question-field", "prompt")
    assert "prompt" in line
    assert "question" in line
    assert "answer" in line
    assert not (tmp_path / "out").exists()


def test_an_empty_data_set(capsys, tmp_path):
    data = write_jsonl(tmp_path / "d.jsonl", [])
    assert "empty" in complaint(capsys, "search", "--output", "out", "--dataset", data)
    assert not (tmp_path / "out").exists()


def test_an_answer_that_the_grader_cannot_read(capsys, tmp_path):
    data = write_jsonl(tmp_path / "d.jsonl", [*QUESTIONS, {"id": "b", "question": "Why?", "answer": "because"}])
    assert "because" in complaint(capsys, "search", "--output", "out", "--dataset", data, "--grader", "numeric")
    assert not (tmp_path / "out").exists()


def test_a_model_without_a_chat_template(capsys, tmp_path):
    import shutil

    from pts.demo.registration import demo_model_dir

    shutil.copytree(demo_model_dir(), tmp_path / "model")
    (tmp_path / "model" / "chat_template.jinja").unlink()
    said = complaint(capsys, "search", "--output", "out", "--model", "./model", "--problems", "1")
    assert "--no-chat-template" in said
    assert not (tmp_path / "out").exists()


def test_an_output_directory_with_other_files(capsys, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("words")
    for fresh in ((), ("--fresh",)):
        assert "thesis.tex" in complaint(capsys, "search", "--output", "out", *fresh)
    assert [entry.name for entry in (tmp_path / "out").iterdir()] == ["thesis.tex"]


def test_show_of_what_is_no_run(capsys, tmp_path):
    assert "does not exist" in complaint(capsys, "show", "nowhere")
    assert "is not a run" in complaint(capsys, "show", str(tmp_path))


def test_report_of_what_is_no_run(capsys, tmp_path):
    assert "does not exist" in complaint(capsys, "report", "nowhere")
    assert "is not a run" in complaint(capsys, "report", str(tmp_path))
    note = tmp_path / "note.txt"
    note.write_text("mine")
    assert "is a file" in complaint(capsys, "report", str(note))
    assert "exists and is not a report" in complaint(capsys, "report", str(tmp_path), "--output", str(note))
    assert note.read_text() == "mine"


def test_traces_of_unknown_problems(capsys, tmp_path):
    data = write_jsonl(tmp_path / "d.jsonl", QUESTIONS)
    traces = write_jsonl(tmp_path / "t.jsonl", [{"id": "z", "completion": "5"}])
    said = complaint(capsys, "search", "--output", "out", "--dataset", data, "--traces-from", traces)
    assert "problem z" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("stages: [{stage: dance}]", "the stages are search, merge, extract-vectors, fit-router"),
        ("stages: [{stage: search, tempo: 1}]", "no key tempo; search knows model"),
        ("stages: [{stage: search, top_p: high}]", "top_p: wanted a number, found 'high'"),
        ("stages: [{stage: search, top_p: 3}]", "top-p is 3"),
        ("steps: []", "one key, stages"),
        ("stages: [", "cannot be read"),
    ],
)
def test_a_bad_recipe(capsys, tmp_path, text, said):
    (tmp_path / "r.yaml").write_text(text)
    assert said in complaint(capsys, "run", "r.yaml")


def test_an_unknown_recipe_lists_the_bundled_ones(capsys):
    assert "demo-search" in complaint(capsys, "run", "nothing")


def test_no_command_prints_the_help_in_its_lines(capsys):
    assert run([]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("Usage: pts")
    assert "\n  search " in captured.err


def test_report_of_a_directory_whose_manifest_is_of_something_else(capsys, tmp_path):
    (tmp_path / "manifest.json").write_text("{")
    for command in ("report", "show"):
        said = complaint(capsys, command, str(tmp_path))
        assert "is not a run that can be read (manifest.json: " in said
        # The output of a report is the page: another one would not help.
        assert "--output" not in said
