"""The rollouts of a search as one table for others to read: a Parquet file with the texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pts.errors import DataError
from pts.records import TokenIds
from pts.runs.files import replace_file
from pts.runs.rollout_parts import read_parts
from pts.runs.run_tokenizer import load_run_detokenizer
from pts.runs.search_run import ROLLOUTS, SearchResults

FIELDS = {
    "problem": "the problem's id in the data set",
    "phase": "what the rollout was drawn for: range, traces, screen, confirm or audit",
    "prefix_length": "how many of the completion's tokens were given; the others were generated",
    "forced": "the first generated token's id where it was forced, else null",
    "avoided": "the id that the first generated token was not to be, else null",
    "completion_ids": "the completion's token ids, the given prefix included",
    "text": "the completion as text, its end token included",
    "cut": "whether the budget ended the completion; then it counts as wrong",
    "success": "whether the grader accepted it",
    "count": "how many equal completions the row stands for",
}
"""Every column, in the file's order."""

_READ = ("problem", "phase", "prefix", "forced", "avoided", "completion", "cut", "success", "count")


def require_rollouts(run: SearchResults) -> None:
    """Raise DataError where a run has recorded no rollouts."""
    if next(read_parts(run.path / ROLLOUTS, ["count"]), None) is None:
        raise DataError(
            f"{run.path} has no recorded rollouts: a search of an earlier version, or one that has just begun. "
            "Search again with another output."
        )


def write_rollouts(run: SearchResults, path: Path) -> int:
    """Replace `path` by a Parquet table of all recorded rollouts, a few megabytes at a time; how many rows.

    Raises DataError where the run recorded none, ModelError where its tokenizer cannot be had, and RunError
    where the system refuses.
    """
    import pyarrow.parquet as pq

    require_rollouts(run)
    detokenize = load_run_detokenizer(run)

    rows = 0

    def write(temporary: Path) -> None:
        nonlocal rows
        with pq.ParquetWriter(temporary, _schema(), compression="zstd") as writer:
            for table in _tables(run, detokenize):
                writer.write_table(table)
                rows += table.num_rows

    replace_file(path, write)
    return rows


def _tables(run: SearchResults, detokenize: Callable[[TokenIds], str]) -> Iterator[Any]:
    import pyarrow as pa

    for part in read_parts(run.path / ROLLOUTS, _READ):
        columns = part.to_pydict()
        prefixes = columns.pop("prefix")
        ids = [tuple(prefix + new) for prefix, new in zip(prefixes, columns.pop("completion"), strict=True)]
        texts: dict[TokenIds, str] = {}
        for completion in ids:
            if completion not in texts:
                texts[completion] = detokenize(completion)
        columns |= {
            "prefix_length": [len(prefix) for prefix in prefixes],
            "completion_ids": ids,
            "text": [texts[completion] for completion in ids],
        }
        yield pa.Table.from_pydict({name: columns[name] for name in FIELDS}, schema=_schema())


def _schema() -> Any:
    import pyarrow as pa

    kinds = {
        "problem": pa.string(),
        "phase": pa.string(),
        "text": pa.string(),
        "completion_ids": pa.list_(pa.int32()),
        "cut": pa.bool_(),
        "success": pa.bool_(),
    }
    return pa.schema([(name, kinds.get(name, pa.int32())) for name in FIELDS])
