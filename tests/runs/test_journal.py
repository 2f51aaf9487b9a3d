"""The one journal: whole records after any cut, headers, and what is said of a line that cannot be read."""

import pytest

from pts.errors import RunError
from pts.records import Completions
from pts.runs.journal import Journal

ONE, TWO = Completions(5, 1), Completions(7, 2)


def test_every_length_to_which_a_kill_may_cut_the_file_reads_as_whole_records(tmp_path):
    whole = Journal(tmp_path / "whole", Completions)
    whole.append(ONE)
    first = whole.path.stat().st_size
    whole.append(TWO)
    data = whole.path.read_bytes()
    for length in range(len(data) + 1):
        cut = tmp_path / "cut"
        cut.write_bytes(data[:length])
        journal = Journal(cut, Completions)
        kept = [ONE, TWO][: (length >= first) + (length >= len(data))]
        assert journal.read() == kept
        assert cut.read_bytes() == data[:length]  # Reading changes nothing.
        journal.append(TWO)
        assert Journal(cut, Completions).read() == [*kept, TWO]


def test_a_header_says_what_the_journal_is_of_and_is_no_record(tmp_path):
    journal = Journal(tmp_path / "j", Completions, headed=True)
    assert journal.header() is None
    journal.begin({"model": "demo", "levels": (1, 2)})
    journal.append(ONE)
    again = Journal(tmp_path / "j", Completions, headed=True)
    assert again.header() == {"model": "demo", "levels": [1, 2]}
    assert again.read() == [ONE]


@pytest.mark.parametrize("text", ["", "half", "[1]\n", '{"a": 1}'])
def test_a_first_line_that_says_nothing_is_no_header(tmp_path, text):
    (tmp_path / "j").write_text(text)
    assert Journal(tmp_path / "j", Completions, headed=True).header() is None


def test_a_line_that_cannot_be_read_is_named_with_the_remedy(tmp_path):
    journal = Journal(tmp_path / "j", Completions, remedy="delete the file")
    journal.append(ONE)
    with journal.path.open("a") as file:
        file.write('{"drawn": "many"}\n')
    with pytest.raises(RunError, match=r"line 2 cannot be read .*: delete the file\."):
        journal.read()
