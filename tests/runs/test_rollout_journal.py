"""The journal of rollouts: what it gives back, after any cut, over parts, and what it costs."""

import numpy as np
import pytest

from pts.errors import RunError
from pts.pivot_search.values import GradedRollout
from pts.records import Completions, RolloutRequest, Sampling
from pts.runs import rollout_journal
from pts.runs.rollout_journal import RolloutJournal, request_digest, rollout_totals
from pts.runs.rollout_parts import part_paths, read_parts

SAMPLING = Sampling(budget=64)


def request(problem, index, **more):
    prefix = tuple(range(1, 1 + index))
    given = {"prefix": prefix, "avoid": 5, "n": 3, "seed": index, "sampling": SAMPLING, **more}
    return RolloutRequest((7, 8), key=f"{problem}/screen/0/1/{index}", **given)


def drawn(asked, seed=0):
    rng = np.random.default_rng((asked.seed, seed))
    ids = [tuple(int(i) for i in rng.integers(0, 50_000, 4)) for _ in range(2)]
    return [
        GradedRollout(asked, (*asked.prefix, *ids[0]), 2, True),
        GradedRollout(asked, (*asked.prefix, *ids[1]), 1, False, "budget"),
    ]


def record(folder, problems=("a", "b"), each=5):
    journal = RolloutJournal(folder)
    expected = {}
    for problem in problems:
        for index in range(each):
            asked = request(problem, index)
            expected[problem, asked] = drawn(asked)
            journal.record(problem, "screen", expected[problem, asked])
            journal.sync()
    return journal, expected


def require_recalled(folder, expected):
    again = RolloutJournal(folder)
    for (problem, asked), rollouts in expected.items():
        assert again.recall(problem, asked) == rollouts
    return again


def test_what_was_recorded_comes_back_for_the_very_same_request_only(tmp_path):
    journal, expected = record(tmp_path / "r")
    again = require_recalled(tmp_path / "r", expected)
    assert again.tokens == journal.tokens == {"a": 60, "b": 60}
    for changed in ({"seed": 9}, {"n": 4}, {"avoid": 6}, {"force": 5, "avoid": None}, {"prefix": (9,)}):
        assert again.recall("a", request("a", 1, **changed)) is None
    assert again.recall("a", request("a", 1, sampling=Sampling(budget=65))) is None
    assert again.recall("c", request("a", 1)) is None
    assert rollout_totals(tmp_path / "r") == {"screen": (120, Completions(30, 10))}


def test_any_cut_of_the_tail_leaves_whole_requests_and_writing_goes_on(tmp_path, caplog):
    _, expected = record(tmp_path / "r", each=3)
    (tail,) = part_paths(tmp_path / "r")
    data = tail.read_bytes()
    kept = []
    for length in range(0, len(data) + 1, 7):
        tail.write_bytes(data[:length])
        journal = RolloutJournal(tmp_path / "r")
        found = [pair for pair in expected if journal.recall(*pair) is not None]
        assert found == list(expected)[: len(found)]
        for pair in list(expected)[len(found) :]:
            journal.record(pair[0], "screen", expected[pair])
        journal.close()
        require_recalled(tmp_path / "r", expected)
        kept.append(len(found))
    assert sorted(set(kept)) == list(range(len(expected)))
    assert "were cut off; their rollouts are drawn again" in caplog.text


def test_a_byte_that_changed_on_the_disk_is_found_out(tmp_path):
    record(tmp_path / "r")
    (tail,) = part_paths(tmp_path / "r")
    data = bytearray(tail.read_bytes())
    data[len(data) // 2] ^= 1
    tail.write_bytes(data)
    assert 0 < RolloutJournal(tmp_path / "r").tokens.total() < 120


def test_a_long_tail_becomes_parquet_and_a_kill_on_the_way_loses_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(rollout_journal, "PART_BYTES", 600)
    _, expected = record(tmp_path / "r", problems=("b", "a", "c"))
    names = [path.name for path in part_paths(tmp_path / "r")]
    assert len(names) > 2
    assert all(name.endswith(".parquet") for name in names[:-1])
    require_recalled(tmp_path / "r", expected)
    # Killed between the Parquet file and the end of the tail that it replaces: both are there.
    whole = sum(table.num_rows for table in read_parts(tmp_path / "r", ["count"]))
    (tmp_path / "r" / names[0]).with_suffix(".tail").write_bytes(b"left over")
    (tmp_path / "r" / "00009.parquet.tmp").write_bytes(b"half")
    assert sum(table.num_rows for table in read_parts(tmp_path / "r", ["count"])) == whole
    again = require_recalled(tmp_path / "r", expected)
    assert not (tmp_path / "r" / "00009.parquet.tmp").exists()
    again.close(complete=True)
    assert all(path.suffix == ".parquet" for path in part_paths(tmp_path / "r"))
    require_recalled(tmp_path / "r", expected)


def test_a_part_that_cannot_be_read_is_named(tmp_path):
    journal, _ = record(tmp_path / "r")
    journal.close(complete=True)
    (part,) = part_paths(tmp_path / "r")
    part.write_bytes(b"PAR1 no more")
    with pytest.raises(RunError, match=r"00000\.parquet cannot be read"):
        RolloutJournal(tmp_path / "r")


def test_what_a_process_has_flushed_is_in_the_file_without_a_sync(tmp_path, monkeypatch):
    monkeypatch.setattr(rollout_journal, "WRITE_EVERY", 0.0)
    monkeypatch.setattr(rollout_journal, "SYNC_EVERY", 1e9)
    journal = RolloutJournal(tmp_path / "r")
    journal.record("a", "screen", drawn(request("a", 1)))
    assert part_paths(tmp_path / "r") == []
    journal.flush()
    assert RolloutJournal(tmp_path / "r").recall("a", request("a", 1)) is not None


def test_two_requests_never_share_a_digest_over_where_the_prompt_ends(tmp_path):
    one = RolloutRequest((1, 2), (3,), sampling=SAMPLING)
    assert request_digest(one) != request_digest(RolloutRequest((1,), (2, 3), sampling=SAMPLING))
    assert request_digest(one) == request_digest(RolloutRequest((1, 2), (3,), key="x", sampling=SAMPLING))
