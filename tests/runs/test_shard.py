import subprocess
import sys
from dataclasses import replace

import pytest

from pts.errors import RunError
from pts.pivot_search.results import Alternative, Candidate, ProblemResult, SearchedTrace
from pts.runs.shard import Context, ShardLine, latest_results, results_journal

CANDIDATE = Candidate(
    0, 1, 5, " b", 0.5, 0.9, 9, 10, 0.1, 1, 10, 0.4, 0.01, 3, (Alternative(6, " c", 0.3, 0.125, 8),)
)
TRACE = SearchedTrace((4, 5), ("a", " b"), (1.0, 0.5), "end", True, 1, 0, 0, 0, 0, 0, 1)
RESULT = ProblemResult("p", "q?", "42", 3, "searched", (1, 2), 0.5, 20, (TRACE,), (CANDIDATE,), 10, 20, 30, 40)
LINE = ShardLine("digest", None, RESULT, (Context("a", " b", "…\né"),))


def test_a_line_comes_back_equal(tmp_path):
    journal = results_journal(tmp_path / "s")
    journal.append(LINE)
    journal.append(replace(LINE, digest="other"))
    assert journal.read() == [LINE, replace(LINE, digest="other")]


@pytest.mark.parametrize("keep", [1, 40, -1])
def test_a_truncated_last_line_is_dropped_with_a_warning_and_writing_goes_on(tmp_path, caplog, keep):
    path = tmp_path / "s"
    results_journal(path).append(LINE)
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:keep])
    assert results_journal(path).read() == [LINE]
    assert path.read_bytes() != whole  # Reading changes nothing.
    results_journal(path).append(LINE)
    assert "was cut off after" in caplog.text
    assert results_journal(path).read() == [LINE, LINE]


def test_a_corrupt_line_in_the_middle_is_named(tmp_path):
    path = tmp_path / "s"
    results_journal(path).append(LINE)
    path.write_bytes(path.read_bytes() + b'{"digest": 3\n' + path.read_bytes())
    with pytest.raises(RunError, match=r"line 2 cannot be read"):
        results_journal(path).read()


def test_a_problem_searched_again_counts_by_its_last_line_in_its_first_place():
    cut = replace(LINE, max_tokens=50, result=replace(RESULT, status="spent"))
    other = replace(LINE, result=replace(RESULT, problem_id="z"))
    latest = latest_results([cut, other, LINE, replace(LINE, search="other", result=cut.result)], "mine")
    assert list(latest) == ["p", "z"]
    assert latest["p"] is LINE


@pytest.mark.parametrize(("limit", "settled"), [(50, True), (40, True), (51, False), (None, False)])
def test_a_spent_problem_is_open_again_under_a_larger_limit(limit, settled):
    cut = replace(LINE, max_tokens=50, result=replace(RESULT, status="spent"))
    assert cut.settled(limit) is settled
    assert LINE.settled(limit)


_FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from pts.errors import RunError
from pts.runs.files import append_bytes, replace_text
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
path = Path(sys.argv[1])
append_bytes(path / "shard", b"x" * 899 + b"\\n")
replace_text(path / "whole", "old")
for write, name, data in ((append_bytes, "shard", b"y" * 500), (replace_text, "whole", "z" * 2000)):
    try:
        write(path / name, data)
    except RunError as error:
        print(error)
"""


def test_a_full_disk_is_one_line_and_leaves_files_as_they_were(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", _FULL_DISK, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert [line.startswith("could not write") for line in done.stdout.splitlines()] == [True, True]
    assert (tmp_path / "shard").read_bytes() == b"x" * 899 + b"\n"
    assert (tmp_path / "whole").read_text() == "old"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["shard", "whole"]
