"""The files of a search's rollouts: Parquet parts, and a tail of framed batches that a kill leaves readable.

The parts are numbered. All are Parquet (`00000.parquet`) but the last, the tail (`00001.tail`), which grows
until it becomes a Parquet part itself. A number that has both files is its Parquet file: a kill came between
the writing of that and the removal of the tail.
"""

from __future__ import annotations

import shutil
import struct
import zlib
from collections.abc import Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from pts.errors import RunError
from pts.runs.files import make_directories, replace_file, write_failure

FOLDER = "rollouts"
TAIL_SUFFIX = ".tail"
GROUP_BYTES = 8 << 20
"""Bytes of a Parquet row group before compression, about: what a reader holds at once."""

_HEADER = struct.Struct("<III")
"""Of a frame: its compressed length, its length, and the CRC-32 of its compressed bytes."""


@cache
def schema() -> Any:
    """The columns of a rollout (pyarrow's schema).

    `key` and `digest` say for which request it was drawn (`pts.records.RolloutRequest`). `prefix` are the ids
    that the request began with, `completion` those after them. `forced` and `avoided` are the first new token's
    ids, null where there is none. `tokens` are the generated tokens of all `count` equal completions, and `cut`
    says whether the budget ended them.
    """
    import pyarrow as pa

    ids = pa.list_(pa.int32())
    return pa.schema(
        [
            pa.field("problem", pa.string(), nullable=False),
            pa.field("phase", pa.string(), nullable=False),
            pa.field("key", pa.string(), nullable=False),
            pa.field("digest", pa.binary(8), nullable=False),
            pa.field("prefix", ids, nullable=False),
            pa.field("forced", pa.int32()),
            pa.field("avoided", pa.int32()),
            pa.field("completion", ids, nullable=False),
            pa.field("count", pa.int32(), nullable=False),
            pa.field("tokens", pa.int64(), nullable=False),
            pa.field("cut", pa.bool_(), nullable=False),
            pa.field("success", pa.bool_(), nullable=False),
        ]
    )


def encode_frame(batch: Any) -> bytes:
    """A record batch as one frame of a tail: length, checksum and the compressed bytes."""
    import pyarrow as pa

    raw = batch.serialize()
    data: bytes = pa.compress(raw, codec="zstd", asbytes=True)
    return _HEADER.pack(len(data), raw.size, zlib.crc32(data)) + data


def decode_frames(data: bytes) -> tuple[list[Any], int]:
    """The whole batches at the beginning of a tail's bytes, and the length of what they take."""
    import pyarrow as pa

    batches, at = [], 0
    while at + _HEADER.size <= len(data):
        length, raw_length, checksum = _HEADER.unpack_from(data, at)
        body = data[at + _HEADER.size : at + _HEADER.size + length]
        if len(body) < length or zlib.crc32(body) != checksum:
            break
        raw = pa.decompress(body, decompressed_size=raw_length, codec="zstd")
        batches.append(pa.ipc.read_record_batch(raw, schema()))
        at += _HEADER.size + length
    return batches, at


def part_paths(folder: Path) -> list[Path]:
    """The files that hold the rollouts, oldest first; [] where there is no folder."""
    if not folder.is_dir():
        return []
    named = {path.name: path for path in folder.iterdir()}
    tails = [path for name, path in named.items() if path.suffix == TAIL_SUFFIX]
    whole = [path for name, path in named.items() if path.suffix == ".parquet"]
    return sorted([*whole, *(path for path in tails if f"{path.stem}.parquet" not in named)])


def read_parts(folder: Path, columns: Sequence[str]) -> Iterator[Any]:
    """Tables of these columns, a few megabytes each, oldest rollouts first. Raises RunError."""
    for path in part_paths(folder):
        yield from read_part(path, columns)


def read_part(path: Path, columns: Sequence[str], problem: str | None = None) -> Iterator[Any]:
    """The same of one part, of one problem where it is named. Raises RunError."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    wanted = list(dict.fromkeys([*columns, "problem"]))
    try:
        if path.suffix == TAIL_SUFFIX and not path.exists():
            path = path.with_suffix(".parquet")  # The search has just finished this part.
        if path.suffix == TAIL_SUFFIX:
            batches, _ = decode_frames(path.read_bytes())
            tables: Iterator[Any] = iter([pa.Table.from_batches(batches, schema()).select(wanted)])
        else:
            tables = _row_groups(pq.ParquetFile(path), wanted, problem)
        for table in tables:
            rows = table if problem is None else table.filter(pc.equal(table["problem"], problem))
            if rows.num_rows:
                yield rows.select(list(columns))
    except (OSError, pa.ArrowException, zlib.error) as error:
        raise RunError(f"{path} cannot be read ({error}): restore it from a copy, or search again.") from error


def _row_groups(file: Any, columns: Sequence[str], problem: str | None) -> Iterator[Any]:
    place = file.schema_arrow.get_field_index("problem")
    for index in range(file.num_row_groups):
        statistics = file.metadata.row_group(index).column(place).statistics
        bounded = statistics is not None and statistics.has_min_max
        if problem is not None and bounded and not statistics.min <= problem <= statistics.max:
            continue
        yield file.read_row_group(index, columns=list(columns))


def write_part(path: Path, batches: Sequence[Any]) -> None:
    """Write batches as a Parquet part, problem by problem, in one step. Raises RunError."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    table = pa.Table.from_batches(batches, schema())
    table = table.take(pc.sort_indices(table, sort_keys=[("problem", "ascending")]))
    rows = max(1, round(table.num_rows * GROUP_BYTES / max(table.nbytes, GROUP_BYTES)))
    replace_file(
        path, lambda temporary: pq.write_table(table, temporary, row_group_size=rows, compression="zstd")
    )


def copy_parts(folders: Sequence[Path], target: Path) -> None:
    """Copy the files of several folders into one that holds none yet, folder by folder; a tail becomes a part.

    Raises RunError where the system refuses, or a file cannot be read.
    """
    paths = [path for folder in folders for path in part_paths(folder)]
    if not paths:
        return
    try:
        make_directories(target)
    except OSError as error:
        raise write_failure(target, error) from error
    for number, path in enumerate(paths):
        part = target / f"{number:05d}.parquet"
        if path.suffix == TAIL_SUFFIX:
            batches, _ = decode_frames(path.read_bytes())
            write_part(part, batches)
        else:
            replace_file(part, partial(shutil.copyfile, path))
