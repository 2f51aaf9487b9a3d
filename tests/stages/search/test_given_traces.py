"""Completions that a user gives: from any of the formats, by ids that are those of the problems."""

import pytest

from pts.errors import DataError
from pts.records import Sampling
from pts.stages.search.given_traces import encode_traces, read_traces


def write(tmp_path, content, name="t.jsonl"):
    path = tmp_path / name
    path.write_bytes(content.encode())
    return path


def test_ids_repeat_and_numbers_are_the_ids_of_problems(tmp_path):
    lines = ['{"id": 7.0, "completion": "a\u2028b"}', "", '{"id": "7", "completion_ids": [1, 2]}']
    text = "\n".join([*lines, '{"id": "x", "completion": "c"}'])
    traces, digest = read_traces(write(tmp_path, text))
    assert traces == {"7": ["a\u2028b", (1, 2)], "x": ["c"]}
    assert read_traces(write(tmp_path, text.replace("\n", "\r\n")))[1] == digest
    assert read_traces(write(tmp_path, "\ufeff" + text))[0] == traces


def test_csv_and_parquet(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    assert read_traces(write(tmp_path, "id,completion\n1,one\n", "t.csv"))[0] == {"1": ["one"]}
    pq.write_table(pa.table({"id": [1], "completion_ids": [[5, 6]]}), tmp_path / "t.parquet")
    assert read_traces(tmp_path / "t.parquet")[0] == {"1": [(5, 6)]}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"completion": "a"}', "t.jsonl line 2 has no id"),
        ('{"id": null, "completion": "a"}', "t.jsonl line 2: the field id is None"),
        ('{"id": NaN, "completion": "a"}', "t.jsonl line 2: the field id is nan"),
        ('{"id": "a"}', "t.jsonl line 2 needs either completion"),
        ('{"id": "a", "completion": "a", "completion_ids": [1]}', "t.jsonl line 2 needs either completion"),
        ('{"id": "a", "completion_ids": [1, true]}', "t.jsonl line 2 needs either completion"),
        ('{"id": "a", "completion": "\\ud83d"}', "t.jsonl line 2: the field completion holds half"),
        ('{"id": "a", "id": "b", "completion": "a"}', "t.jsonl line 2 has the field 'id' more than once"),
        ("[1]", "t.jsonl line 2 is not a JSON object"),
    ],
)
def test_a_bad_line_is_one_error_that_names_it(tmp_path, line, said):
    with pytest.raises(DataError) as error:
        read_traces(write(tmp_path, f'{{"id": "g", "completion": "a"}}\n{line}\n'))
    assert said in str(error.value)


def test_token_ids_that_the_model_has_not(demo_policy):
    with pytest.raises(DataError, match=r"problem a has the token id 999999; the model's are 0 to"):
        encode_traces({"a": [(999999,)]}, demo_policy, Sampling(budget=96))


@pytest.fixture
def demo_policy():
    from pts.models.load import load_model
    from pts.models.options import ModelOptions
    from pts.policies.transformers import TransformersPolicy

    return TransformersPolicy(load_model(ModelOptions("demo")))
