"""`pts decode --input` on files as they come: each bad row is named and left out, the others are answered."""

import csv
import json

import pytest

from pts.cli import run
from pts.decoding.answers import Answer
from pts.errors import RunError
from tests.cli.one_line import complaint

pytestmark = pytest.mark.usefixtures("elsewhere")

ASKED = ["What is 12 + 5 ?", "What is 3 + 5 ?"]


def answered(name="a.jsonl"):
    with open(name, encoding="utf-8", newline="") as lines:
        text = lines.read()
    assert text.count("\n") == len(text.splitlines())  # whatever breaks lines elsewhere is escaped
    return [(entry["line"], entry["id"]) for entry in map(json.loads, text.splitlines())]


def decode(source, *more):
    return run(("decode", "--input", str(source), "--output", "a.jsonl", "--budget", "24", *more))


def test_json_lines_with_all_that_is_found_in_them(capsys, tmp_path):
    lines = [
        '\ufeff{"id": "a\u2028b", "question": "What is 12 + 5 ?", "note": "x\u2028y\x85z\u2029"}\r',
        '{"id": "b", "question": "What is 3 + 5 ? \\ud83d"}',
        '{"id": NaN, "question": "What is 3 + 5 ?"}',
        '{"id": true, "question": "What is 3 + 5 ?"}',
        '{"id": "c", "question": "What is 3 + 5 ?", "question": "What is 4 + 5 ?"}',
        '{"id": "d", "question": NaN}',
        '{"messages": [{"role": "user", "content": "\\ud83d"}]}',
        '{"id": "\\udc00", "question": "What is 3 + 5 ?"}',
        "",
        '{"id": 7.0, "question": "What is 3 + 5 ?", "note": "\\ud83d"}',
        '{"id": 7, "question": "What is 3 + 5 ?"}',
        '{"id": "", "question": "What is 3 + 5 ?"',
    ]
    (tmp_path / "q.jsonl").write_text("\n".join(lines), encoding="utf-8")
    assert decode("q.jsonl", "--quiet") == 1
    said = capsys.readouterr().err.splitlines()
    reasons = {
        2: "its question holds half of a surrogate pair (\\ud83d",
        3: "its id is nan",
        4: "its id is neither text nor a number",
        5: "it has the field 'question' more than once",
        6: "its question is not text",
        7: "the content of its message 1 holds half",
        8: "its id holds half of a surrogate pair",
        12: "it is not JSON",
    }
    assert [line.split(" was left out: ")[0].removeprefix("pts: q.jsonl line ") for line in said] == [
        str(number) for number in reasons
    ]
    for line, reason in zip(said, reasons.values(), strict=True):
        assert reason in line
    assert answered() == [(1, "a\u2028b"), (10, "7"), (11, "7")]


def test_fields_that_nothing_uses_are_named(capsys, tmp_path):
    lines = [
        {"id": "a", "question": ASKED[0], "budget": 9},
        {"question": ASKED[1], "note": "n", "budget": 7},
    ]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert decode("q.jsonl") == 0
    warned = [line for line in capsys.readouterr().err.splitlines() if "nothing uses" in line]
    assert len(warned) == 1
    assert (
        "q.jsonl: fields that nothing uses, and where each is first: budget (line 1), note (line 2)."
        in warned[0]
    )


def test_a_stopped_file_goes_on_by_the_layers_path_that_it_began_with(monkeypatch, tmp_path):
    (tmp_path / "q.jsonl").write_text("".join(json.dumps({"question": one}) + "\n" for one in ASKED))
    steered = ("--vectors", "demo", "--quiet")
    to_json = Answer.to_json
    monkeypatch.setattr(Answer, "to_json", lambda self: (_ for _ in ()).throw(RunError("the disk is full")))
    assert decode("q.jsonl", *steered, "--layers-path", "model.layers") == 2
    monkeypatch.setattr(Answer, "to_json", to_json)
    assert decode("q.jsonl", *steered, "--layers-path", "model.norm") == 2
    assert decode("q.jsonl", *steered) == 0
    assert answered() == [(1, "1"), (2, "2")]


def test_a_stopped_file_whose_text_breaks_lines_elsewhere_goes_on(monkeypatch, tmp_path):
    rows = [{"id": f"{n}\u2028x", "question": question} for n, question in enumerate(ASKED)]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    to_json, calls = Answer.to_json, []

    def stopping(self):
        calls.append(1)
        if len(calls) == 2:
            raise RunError("the disk is full")
        return {**to_json(self), "text": "one\u2028line\x85"}

    monkeypatch.setattr(Answer, "to_json", stopping)
    assert decode("q.jsonl", "--quiet") == 2
    part = tmp_path / "a.jsonl.part"
    assert len(part.read_text(encoding="utf-8").splitlines()) == 2
    assert decode("q.jsonl", "--quiet") == 0
    assert answered() == [(1, "0\u2028x"), (2, "1\u2028x")]
    assert len(calls) == 3


def test_csv_and_parquet_are_read_too(capsys, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    with open("q.csv", "w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file).writerows([["id", "question"], ["x", ASKED[0]], ["y", " "], ["", ASKED[1]]])
    assert decode("q.csv", "--quiet") == 1
    assert "q.csv line 3 was left out: its question is empty" in capsys.readouterr().err
    assert answered() == [(2, "x"), (4, "4")]
    pq.write_table(pa.table({"id": [1, 2, 3], "question": [ASKED[0], None, ASKED[1]]}), "q.parquet")
    assert run(("decode", "--input", "q.parquet", "--output", "b.jsonl", "--budget", "24", "--quiet")) == 1
    assert "q.parquet row 2 was left out: no question" in capsys.readouterr().err
    assert answered("b.jsonl") == [(1, "1"), (3, "3")]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\n \n", "is empty"),
        ('{"question": "q"}\n'.encode("utf-16"), "UTF-16"),
        (b'[\n{"question": "q"}\n]\n', "name it .json"),
    ],
)
def test_a_file_that_is_no_such_file(capsys, tmp_path, content, said):
    (tmp_path / "q.jsonl").write_bytes(content)
    assert said in complaint(capsys, "decode", "--input", "q.jsonl", "--output", "a.jsonl")


@pytest.mark.parametrize(
    "arguments",
    [
        ("What \udcff is",),
        ("What is \ud83d ?",),
        ("What ?", "--system-prompt", "\udcff"),
        ("q", "--suffix", "\ud83d"),
    ],
)
def test_a_prompt_that_is_no_text(capsys, arguments):
    said = complaint(capsys, "decode", *arguments)
    assert "is not UTF-8 text" in said or "half of a surrogate pair" in said
