"""What belongs to a publication, and what is refused before anything is sent."""

import json

import pytest

from pts.errors import ConfigError, DataError, PtsError
from pts.publishing.contents import read_contents
from pts.publishing.target import Target
from tests.publishing.artifacts import write_search_run, write_vector_set

HERE = Target("me/set")


def test_a_vector_set_and_nothing_else_of_its_directory(vectors_dir):
    contents = read_contents(vectors_dir, HERE)
    assert set(contents.files) == {"vectors.json", "vectors.safetensors", "records.parquet", "README.md"}
    assert contents.sizes["vectors.json"] == (vectors_dir / "vectors.json").stat().st_size
    assert "me/set" in contents.card
    assert not (vectors_dir / "README.md").exists()


def test_a_search_run_without_answers_traces_and_locks(run_dir):
    contents = read_contents(run_dir, HERE)
    assert set(contents.files) == {"manifest.json", "pivotal_tokens.parquet", "summary.json", "README.md"}
    for name, source in contents.files.items():
        content = source if isinstance(source, bytes) else source.read_bytes()
        assert b"the secret answer" not in content, name


def test_rollouts_of_what_has_none(run_dir, vectors_dir):
    with pytest.raises(DataError, match="no recorded rollouts"):
        read_contents(run_dir, Target("me/run"), rollouts=True)
    with pytest.raises(ConfigError, match="has no rollouts; leave rollouts=True out"):
        read_contents(vectors_dir, Target("me/set"), rollouts=True)


def test_a_run_of_a_version_that_counted_less_is_whole(tmp_path):
    directory = write_search_run(tmp_path / "run")
    summary = json.loads((directory / "summary.json").read_text())
    newer = ("budget", "completions", "cut_share", "cut_shares")
    older = {key: value for key, value in summary.items() if key not in newer}
    (directory / "summary.json").write_text(json.dumps(older))
    assert "not counted" in read_contents(directory, HERE).card
    (directory / "summary.json").write_text(json.dumps({**older, "candidates": 99}))
    with pytest.raises(PtsError, match="not up to date"):
        read_contents(directory, HERE)


def test_a_card_of_ones_own_is_kept(vectors_dir):
    own = "---\nlicense: mit\n---\n# Mine\n"
    (vectors_dir / "README.md").write_text(own)
    assert read_contents(vectors_dir, HERE).card == own


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda d: (d / "vectors.safetensors").write_bytes(b"short"), "cannot be read"),
        (lambda d: (d / "vectors.safetensors").unlink(), "cannot be read"),
        (lambda d: (d / "vectors.json").write_text("{"), "cannot be read"),
        (lambda d: (d / "records.parquet").write_bytes(b"PAR1"), "cannot be read as Parquet"),
        (lambda d: (d / "README.md").write_text("# no header"), "no YAML header"),
        (lambda d: (d / "README.md").write_text("---\na: [\n---\n# x"), "is not YAML"),
        (lambda d: (d / "README.md").write_bytes(b"---\na: 1\n---\n\xff"), "not UTF-8"),
    ],
)
def test_a_broken_vector_set(tmp_path, spoil, said):
    directory = write_vector_set(tmp_path / "set")
    spoil(directory)
    with pytest.raises(PtsError, match=said):
        read_contents(directory, HERE)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda d: (d / "summary.json").unlink(), "not up to date"),
        (lambda d: (d / "pivotal_tokens.parquet").unlink(), "not up to date"),
        (lambda d: (d / "problems.jsonl").write_text(""), "not up to date"),
        (lambda d: (d / "pivotal_tokens.parquet").write_bytes(b"x"), "cannot be read as Parquet"),
    ],
)
def test_a_run_whose_results_are_not_whole(tmp_path, spoil, said):
    directory = write_search_run(tmp_path / "run")
    spoil(directory)
    with pytest.raises(PtsError, match=said):
        read_contents(directory, HERE)


def test_a_table_of_another_run(tmp_path):
    directory = write_search_run(tmp_path / "run")
    other = write_search_run(tmp_path / "other", findings=1)
    (other / "pivotal_tokens.parquet").replace(directory / "pivotal_tokens.parquet")
    with pytest.raises(PtsError, match="does not match the run's 2 findings"):
        read_contents(directory, HERE)


def test_what_is_neither(tmp_path):
    with pytest.raises(PtsError, match="holds neither a vector set nor a search run nor a trained model"):
        read_contents(tmp_path, HERE)
    with pytest.raises(PtsError, match="is no directory"):
        read_contents(tmp_path / "nowhere", HERE)


def test_a_search_run_is_a_data_set(run_dir):
    with pytest.raises(ConfigError, match="leave repo_type='model' out"):
        read_contents(run_dir, Target("me/run", "model"))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"repo_id": "set"}, "lacks its owner"),
        ({"repo_id": "me/a b"}, "cannot be a repository's"),
        ({"repo_id": "me/set/deep"}, "cannot be a repository's"),
        ({"repo_id": "me/x--y"}, "cannot be a repository's"),
        ({"repo_id": "me/set", "tag": "two words"}, "cannot be a tag"),
        ({"repo_id": "me/set", "tag": "a..b"}, "cannot be a tag"),
        ({"repo_id": "me/set", "tag": "v1", "create_pr": True}, "no tag until it is merged"),
        ({"repo_id": "me/set", "revision": "dev", "create_pr": True}, "leave revision= out"),
    ],
)
def test_a_target_that_cannot_be(settings, said):
    with pytest.raises(ConfigError, match=said):
        Target(**settings)
