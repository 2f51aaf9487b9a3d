"""What real files hold, read row by row: good rows are given, bad ones named, and none stops the others."""

import csv
import datetime
import decimal
import json
import math

import pytest

from pts.data_files import BadRow, field_text, good_rows, json_line, read_rows, read_text, text_fault
from pts.errors import DataError


def read(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(read_rows(path))


def told(rows):
    """Good rows as their fields, bad ones as place and reason."""
    return [f"{row.place} {row.reason}" if isinstance(row, BadRow) else dict(row.fields) for row in rows]


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x1c", "\x0b"])
def test_a_line_ends_at_a_line_feed_and_nowhere_else(tmp_path, separator):
    text = f"one{separator if separator > ' ' else json.dumps(separator)[1:-1]}line"
    content = f'{{"a": "{text}"}}\n{{"a": "next"}}\n'
    rows = read(tmp_path, "d.jsonl", content)
    assert [row.fields["a"] for row in rows] == [f"one{separator}line", "next"]
    assert [row.number for row in rows] == [1, 2]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_marks_line_ends_and_blank_lines_are_no_rows(tmp_path, mark, end):
    rows = read(tmp_path, "d.jsonl", mark + end.join(['{"a": 1}', "", "  ", '{"a": 2}', ""]))
    assert [(row.number, row.fields) for row in rows] == [(1, {"a": 1}), (4, {"a": 2})]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"not json", "is not JSON ("),
        (b'{"a": 1, "a": 2}', "has the field 'a' more than once"),
        (b'{"a": {"b": 1, "b": 1}}', "has the field 'b' more than once"),
        (b'{"a": "\xff"}', "is not UTF-8 text (byte 7 of the line)"),
        (b'{"a": ' + b"9" * 5000 + b"}", "a number of more than 4300 digits"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        (b"[1]", "is not a JSON object with fields; a file that is one JSON list is named .json"),
        (b"3", "is not a JSON object with fields"),
        (b'{"a": 1} {"a": 2}', "is not JSON (Extra data)"),
        (b"{'a': 1}", "is not JSON ("),
    ],
)
def test_a_bad_line_is_named_and_the_lines_beside_it_are_read(tmp_path, line, reason):
    before, bad, after = read(tmp_path, "d.jsonl", b'{"a": 0}\n' + line + b'\n{"a": 3}\n')
    assert (before.fields, after.fields) == ({"a": 0}, {"a": 3})
    assert isinstance(bad, BadRow)
    assert bad.place == "line 2"
    assert reason in bad.reason


def test_a_last_line_that_was_cut_says_so(tmp_path):
    *_, bad = read(tmp_path, "d.jsonl", '{"a": 1}\n{"a": "half of')
    assert "line 2" in bad.place
    assert "cut short" in bad.reason


def test_numbers_that_only_python_writes_and_half_pairs_are_left_to_whoever_reads_them(tmp_path):
    (row,) = read(tmp_path, "d.jsonl", '{"a": NaN, "b": -Infinity, "c": "x \\ud83d", "d": 1}\n')
    assert math.isnan(row.fields["a"])
    assert row.fields["b"] == -math.inf
    assert row.fields["d"] == 1
    for field, said in (("a", "is nan"), ("b", "is -inf"), ("c", "surrogate pair (\\ud83d at character 2)")):
        with pytest.raises(DataError) as error:
            field_text(row.fields[field], "the field")
        assert said in str(error.value)
        str(error.value).encode()


def test_whole_pairs_are_characters(tmp_path):
    (row,) = read(tmp_path, "d.jsonl", '{"a": "\\ud83d\\ude00"}\n')
    assert row.fields["a"] == "\U0001f600"
    assert text_fault(row.fields["a"]) is None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"a": "ä"}\n'.encode("utf-16"), "UTF-16"),
        ('{"a": "ä"}\n'.encode("utf-16-le"), "UTF-16"),
        ('{"a": "ä"}\n'.encode("utf-32"), "UTF-32"),
        (b"\x1f\x8b\x08\x00\x00\x00\x00\x00", "gzip"),
        (b"PK\x03\x04\x00\x00\x00\x00", "zip"),
        (b"PAR1\x00\x00\x00\x00", "Parquet"),
        (b'[\n{"a": 1},\n{"a": 2}\n]\n', "name it .json"),
        (b'[{"a": 1},\n{"a": 2}]\n', "name it .json"),
    ],
)
def test_a_file_of_another_kind_is_named_as_a_whole(tmp_path, content, said):
    with pytest.raises(DataError, match=said):
        read(tmp_path, "d.jsonl", content)


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        ("[]", []),
        ('\ufeff [ {"a": "x\u2028"} , {"a": 2} ] \n', [{"a": "x\u2028"}, {"a": 2}]),
        ('[{"a": 1}, 2]', [{"a": 1}, "row 2 is not a JSON object with fields"]),
    ],
)
def test_a_json_list(tmp_path, content, rows):
    assert told(read(tmp_path, "d.json", content)) == rows


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"a": 1}\n{"a": 2}\n', r"name the file .jsonl"),
        ('[{"a": 1},\n{"a": 1, "a": 2}]', "line 2 has the field 'a' more than once"),
        ('[{"a": 1},\n{"a": 2}', "line 2 is not JSON"),
        ('[{"a": 1},]', "line 1 is not JSON"),
        ('[{"a": 1}] 2', "more follows the list"),
        ("", "is not JSON"),
    ],
)
def test_a_json_file_that_is_no_list(tmp_path, content, said):
    with pytest.raises(DataError, match=said):
        read(tmp_path, "d.json", content)


def test_csv_with_what_spreadsheets_and_solutions_hold(tmp_path):
    long = "x" * 200_000
    path = tmp_path / "d.csv"
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file)
        writer.writerow(["", "question", "answer"])
        writer.writerow(["0", 'a "quoted", line\nand another\u2028', long])
        writer.writerow([])
        writer.writerow(["1", "q", "2"])
    before = csv.field_size_limit()
    first, second = read_rows(path)
    assert csv.field_size_limit() == before
    assert first.fields == {"question": 'a "quoted", line\nand another\u2028', "answer": long}
    assert (first.place, second.place) == ("line 2", "line 5")


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_csv_by_the_delimiter_of_its_header(tmp_path, delimiter):
    path = tmp_path / "d.csv"
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows([["question", "answer"], [f"a{delimiter}b", "1"]])
    assert told(read_rows(path)) == [{"question": f"a{delimiter}b", "answer": "1"}]


def test_bad_rows_of_csv_are_named_and_the_others_read(tmp_path):
    rows = read(tmp_path, "d.csv", b'q,a\n1,2\n1\n1,2,3\n"a"b,2\nx\0y,2\n3,4\n"cut,5\n')
    assert [str(row).split(";")[0] for row in told(rows)] == [
        "{'q': '1', 'a': '2'}",
        "line 3 has not as many values (1) as the header has fields (2)",
        "line 4 has not as many values (3) as the header has fields (2)",
        "line 5 is not CSV (',' expected after '\"')",
        "line 6 is bad: the field q holds a NUL character",
        "{'q': '3', 'a': '4'}",
        "line 8 is not CSV (unexpected end of data)",
    ]


def test_what_is_not_utf8_is_an_error_of_the_field_that_is_read(tmp_path):
    (row,) = read(tmp_path, "d.csv", "question,name\nfine,café\n".encode("latin-1"))
    assert field_text(row.fields["question"], "it") == "fine"
    with pytest.raises(DataError, match=r"not UTF-8 text \(byte 0xe9 at character 3\)"):
        field_text(row.fields["name"], "it")


@pytest.mark.parametrize(
    ("header", "said"), [("a,b,a", "names the field 'a' twice"), ("a,,b", "does not name column 2")]
)
def test_a_header_that_cannot_be_told_apart(tmp_path, header, said):
    with pytest.raises(DataError, match=said):
        read(tmp_path, "d.csv", f"{header}\n1,2,3\n")


def test_parquet_values_are_plain(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table(
        {
            "none": pa.array([None], pa.string()),
            "nan": pa.array([float("nan")]),
            "single": pa.array([0.1], pa.float32()),
            "whole": pa.array([decimal.Decimal("7.00")], pa.decimal128(10, 2)),
            "decimal": pa.array([decimal.Decimal("7.25")], pa.decimal128(10, 2)),
            "date": pa.array([datetime.date(2024, 2, 1)]),
            "category": pa.array(["red"]).dictionary_encode(),
            "large": pa.array(["text"], pa.large_string()),
            "bytes": pa.array([b"text"], pa.binary()),
            "image": pa.array([b"\xff\xd8"], pa.binary()),
            "struct": pa.array([{"text": ["a", None], "label": ["A", "B"]}]),
            "map": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())),
        }
    )
    pq.write_table(table, tmp_path / "d.parquet")
    (row,) = read_rows(tmp_path / "d.parquet")
    fields = dict(row.fields)
    assert math.isnan(fields.pop("nan"))
    assert fields == {
        **{
            "none": None,
            "single": 0.1,
            "whole": 7,
            "decimal": 7.25,
            "date": "2024-02-01",
            "category": "red",
            "large": "text",
        },
        **{"bytes": "text", "image": b"\xff\xd8", "struct": {"text": ["a", None], "label": ["A", "B"]}},
        "map": {"k": 1},
    }
    assert row.place == "row 1"


def test_a_bad_value_of_parquet_is_named_and_the_rows_beside_it_are_read(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = pa.array([b"good", b"\xff\xfe", b"fine"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"q": texts}), tmp_path / "d.parquet")
    assert told(read_rows(tmp_path / "d.parquet")) == [
        {"q": "good"},
        "row 2 is bad: the field q is not UTF-8 text",
        {"q": "fine"},
    ]


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + b"\0" * 40 + b"PAR1", b'{"a": 1}\n'])
def test_what_is_no_parquet_file(tmp_path, content):
    with pytest.raises(DataError, match="not a Parquet file"):
        read(tmp_path, "d.parquet", content)


def test_two_columns_of_a_name(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"]), tmp_path / "d.parquet")
    with pytest.raises(DataError, match="two columns named 'a'"):
        list(read_rows(tmp_path / "d.parquet"))


def test_a_file_that_is_needed_whole_is_one_error(tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_text('{"a": 1}\n{"a": 1, "a": 2}\n')
    with pytest.raises(DataError, match=r"d.jsonl line 2 has the field 'a' more than once; fix or remove it"):
        list(good_rows(path))
    for missing in (tmp_path / "gone.jsonl", tmp_path):
        with pytest.raises(DataError):
            list(good_rows(missing, ".jsonl"))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((7, "7"), (7.0, "7"), (-0.0, "0"), (0.1, "0.1"), (1e-7, "0.0000001"), (1e22, "1" + "0" * 22)),
        *((True, "yes"), (False, "no"), (" x ", "x"), ("None", "None")),
    ],
)
def test_a_value_as_text(value, text):
    assert field_text(value, "it") == text


@pytest.mark.parametrize(
    "value", [None, "", " \n", "nan", "NaN", "<NA>", math.nan, math.inf, [], ["a"], {"a": 1}, b"\xff", "\udcff"]
)
def test_a_value_that_is_no_text(value):
    with pytest.raises(DataError, match=r"^the field q (is|holds)"):
        field_text(value, "the field q")


def test_lines_that_are_written_hold_no_separators():
    line = json_line({"a": "x\u2028y\u2029z\x85"})
    assert line.splitlines() == [line]
    assert json.loads(line) == {"a": "x\u2028y\u2029z\x85"}


def test_text_without_its_mark(tmp_path):
    (tmp_path / "t.txt").write_bytes(b"\xef\xbb\xbfa: [b]\r\n")
    assert read_text(tmp_path / "t.txt") == "a: [b]\r\n"
