"""What is written survives a crash: its bytes, and the name that it has in its directory."""

import os
import stat

import pytest

from pts.errors import RunError
from pts.runs.files import append_bytes, make_directories, replace_text


@pytest.fixture
def synced(monkeypatch):
    """The files and directories that were put on the disk, by their inode, in the order of the calls."""
    calls, fsync = [], os.fsync

    def record(descriptor):
        there = os.fstat(descriptor)
        calls.append((stat.S_ISDIR(there.st_mode), there.st_ino))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    return calls


def directory(path):
    return True, path.stat().st_ino


def test_the_first_line_of_a_file_puts_its_name_on_the_disk_too(tmp_path, synced):
    append_bytes(tmp_path / "shard", b"one\n")
    assert directory(tmp_path) in synced
    assert (False, (tmp_path / "shard").stat().st_ino) in synced
    synced.clear()
    append_bytes(tmp_path / "shard", b"two\n")
    assert synced == [(False, (tmp_path / "shard").stat().st_ino)]
    assert (tmp_path / "shard").read_bytes() == b"one\ntwo\n"


def test_a_replaced_file_puts_its_name_on_the_disk(tmp_path, synced):
    replace_text(tmp_path / "manifest.json", "{}")
    assert synced[-1] == directory(tmp_path)


def test_every_directory_that_is_made_is_put_on_the_disk(tmp_path, synced):
    made = make_directories(tmp_path / "a" / "b")
    assert made == [tmp_path / "a", tmp_path / "a" / "b"]
    assert synced == [directory(tmp_path), directory(tmp_path / "a")]
    assert make_directories(tmp_path / "a" / "b") == []


def test_windows_has_no_directory_to_sync(tmp_path, synced, monkeypatch):
    monkeypatch.setattr("pts.runs.files._WINDOWS", True)
    append_bytes(tmp_path / "shard", b"one\n")
    replace_text(tmp_path / "manifest.json", "{}")
    assert directory(tmp_path) not in synced


def test_a_line_in_a_directory_that_is_gone_is_one_error(tmp_path):
    with pytest.raises(RunError, match="could not write"):
        append_bytes(tmp_path / "gone" / "shard", b"one\n")


def test_a_file_that_would_stand_in_a_file_is_one_error(tmp_path):
    (tmp_path / "note").write_text("")
    with pytest.raises(RunError, match="could not write"):
        replace_text(tmp_path / "note" / "page.html", "text")
