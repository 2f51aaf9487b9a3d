"""The journal of a search's rollouts: every graded rollout is written down once and found again on resume."""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from pts.errors import RunError
from pts.pivot_search.config import Phase
from pts.pivot_search.values import GradedRollout
from pts.records import Completions, RolloutRequest, TokenIds
from pts.runs.files import TEMPORARY_SUFFIX, append_bytes, make_directories, write_failure
from pts.runs.rollout_parts import (
    TAIL_SUFFIX,
    decode_frames,
    encode_frame,
    part_paths,
    read_part,
    read_parts,
    schema,
    write_part,
)

logger = logging.getLogger(__name__)

WRITE_EVERY = 0.05
"""Seconds between two writes: small requests share a frame."""
SYNC_EVERY = 1.0
"""Seconds between two syncs to the disk. A crash of the machine loses at most what came after the last."""
SYNC_SHARE = 0.05
"""Most of the time that syncing may take, on a disk where one takes long."""
PART_BYTES = 64 << 20
"""Bytes of rollouts (before compression) after which the tail becomes a Parquet part."""

_SCREENED = ("phase", "prefix", "forced", "avoided", "completion", "count", "cut", "success")
_RECALLED = ("key", "digest", "completion", "count", "cut", "success")
_RECORDED = (*_SCREENED, "key", "digest")


class RolloutJournal:
    """Records rollouts in a folder and recalls those of earlier sessions, request by request.

    What `record` was given is in the file after the next `flush` (of a process that is killed, nothing that was
    flushed is lost) and safe from a crash of the machine within about a second. `close` writes all that waits.
    Raises RunError where the system refuses a write.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tokens: Counter[str] = Counter()
        """Generated tokens recorded so far, by problem."""
        self._waiting: list[tuple[Any, ...]] = []
        self._tail_batches: list[Any] = []
        self._tail_bytes = 0
        self._written = self._synced = time.monotonic()
        self._sync_seconds = 0.0
        self._unsynced = False
        self._recalled: dict[str, RecalledRollouts] = {}
        self._parts_of: dict[str, list[Path]] = {}
        self._tail = self._open()

    def recall(self, problem_id: str, request: RolloutRequest) -> list[GradedRollout] | None:
        """All rollouts that an earlier session recorded for the very same request, or None."""
        if problem_id not in self._parts_of:
            return None
        if problem_id not in self._recalled:
            self._recalled[problem_id] = RecalledRollouts(
                _table(self._parts_of[problem_id], problem_id, _RECALLED)
            )
        return self._recalled[problem_id].of(request)

    def recorded(self, problem_id: str) -> Any:
        """A table of all rollouts of a problem so far, those of this session too; None where there are none.

        It is for another process, which recalls them there (`RecalledRollouts`).
        """
        if not self.tokens[problem_id]:
            return None
        self._write()
        return _table(part_paths(self.folder), problem_id, _RECORDED)

    def screened(self, problem_id: str, prompt: TokenIds) -> list[GradedRollout]:
        """All rollouts of a problem's screen that earlier sessions recorded, in order.

        Their requests have what tells where a rollout began, but not the seed.
        """
        parts = self._parts_of.get(problem_id, ())
        return _screened((table for path in parts for table in read_part(path, _SCREENED, problem_id)), prompt)

    def forget(self, problem_id: str) -> None:
        """Free the memory of a problem whose search has ended."""
        self._recalled.pop(problem_id, None)

    def record(self, problem_id: str, phase: Phase, rollouts: Sequence[GradedRollout]) -> None:
        """Write down all rollouts of one request."""
        digest = request_digest(rollouts[0].request)
        for rollout in rollouts:
            request, start = rollout.request, len(rollout.request.prefix)
            self._waiting.append(
                (
                    problem_id,
                    phase,
                    request.key,
                    digest,
                    request.prefix,
                    request.force,
                    request.avoid,
                    rollout.completion[start:],
                    rollout.count,
                    rollout.new_tokens,
                    rollout.finish == "budget",
                    rollout.success,
                )
            )
            self.tokens[problem_id] += rollout.new_tokens
        if time.monotonic() - self._written >= SYNC_EVERY:
            self._write()

    def flush(self) -> None:
        """Write what waits, unless the last write was a moment ago."""
        if time.monotonic() - self._written >= WRITE_EVERY:
            self._write()

    def sync(self) -> None:
        """Put all that was recorded on the disk."""
        self._write(sync=True)

    def close(self, *, complete: bool = False) -> None:
        """Write all that waits; of a complete run the tail becomes a Parquet part."""
        self.sync()
        if complete:
            self._finish_tail()

    def _open(self) -> Path:
        """Mend what a kill left; the tail to write to, which need not be there yet."""
        parts = part_paths(self.folder)
        if self.folder.is_dir():
            for path in set(self.folder.iterdir()) - set(parts):
                if path.name.endswith((TAIL_SUFFIX, TEMPORARY_SUFFIX)):
                    path.unlink()
        for path in parts:
            for table in read_part(path, ["problem", "tokens"]):
                for row in table.group_by("problem").aggregate([("tokens", "sum")]).to_pylist():
                    self.tokens[row["problem"]] += row["tokens_sum"]
                    known = self._parts_of.setdefault(row["problem"], [])
                    if path not in known:
                        known.append(path)
        if parts and parts[-1].suffix == TAIL_SUFFIX:
            self._mend(parts[-1])
            return parts[-1]
        return self._numbered(1 + int(parts[-1].stem) if parts else 0)

    def _numbered(self, number: int) -> Path:
        return self.folder / f"{number:05d}{TAIL_SUFFIX}"

    def _mend(self, tail: Path) -> None:
        data = tail.read_bytes()
        self._tail_batches, whole = decode_frames(data)
        self._tail_bytes = sum(batch.nbytes for batch in self._tail_batches)
        if whole == len(data):
            return
        logger.warning(
            "%s: dropped the last %d bytes, which were cut off; their rollouts are drawn again.",
            tail,
            len(data) - whole,
        )
        try:
            os.truncate(tail, whole)
        except OSError as error:
            raise write_failure(tail, error) from error

    def _write(self, *, sync: bool = False) -> None:
        now = time.monotonic()
        due = now - self._synced >= max(SYNC_EVERY, self._sync_seconds / SYNC_SHARE)
        if not self._waiting and not (self._unsynced and (sync or due)):
            return
        # Taken out first: what an interrupt keeps from being written is lost, but never written twice.
        rows, self._waiting = self._waiting, []
        if not self.folder.is_dir():
            self._make_folder()
        batch = _batch(rows)
        append_bytes(self._tail, encode_frame(batch) if rows else b"", sync=sync or due)
        self._tail_batches.append(batch)
        self._tail_bytes += batch.nbytes
        self._unsynced = not (sync or due)
        self._written = time.monotonic()
        if sync or due:
            self._synced, self._sync_seconds = self._written, self._written - now
        if self._tail_bytes >= PART_BYTES:
            self._finish_tail()

    def _make_folder(self) -> None:
        try:
            make_directories(self.folder)
        except OSError as error:
            raise write_failure(self.folder, error) from error

    def _finish_tail(self) -> None:
        """Turn the tail into a Parquet part and begin the next."""
        if not self._tail_batches:
            return
        part = self._tail.with_suffix(".parquet")
        write_part(part, self._tail_batches)
        self._tail.unlink(missing_ok=True)
        for paths in self._parts_of.values():
            paths[:] = [part if path == self._tail else path for path in paths]
        self._tail_batches, self._tail_bytes = [], 0
        self._tail = self._numbered(1 + int(part.stem))


class RecalledRollouts:
    """One problem's recorded rollouts, by request, from their table (`RolloutJournal.recorded`)."""

    def __init__(self, table: Any) -> None:
        self._rows: dict[tuple[str, bytes], list[int]] = {}
        self._table = table
        pairs = zip(self._table["key"].to_pylist(), self._table["digest"].to_pylist(), strict=True)
        for row, pair in enumerate(pairs):
            self._rows.setdefault(pair, []).append(row)

    def of(self, request: RolloutRequest) -> list[GradedRollout] | None:
        """All rollouts that were recorded for the very same request, or None."""
        rows = self._rows.get((request.key, request_digest(request)))
        if rows is None:
            return None
        rollouts = [
            GradedRollout(
                request,
                (*request.prefix, *row["completion"]),
                row["count"],
                row["success"],
                "budget" if row["cut"] else "end",
            )
            for row in self._table.take(rows).to_pylist()
        ]
        if sum(rollout.count for rollout in rollouts) != request.n:
            raise RunError(
                f"the journal has other rollouts of {request.key} than were drawn: restore its files from "
                "a copy, or search again."
            )
        return rollouts

    def screened(self, prompt: TokenIds) -> list[GradedRollout]:
        """All rollouts of the problem's screen, in order, of a table with all that was recorded."""
        return _screened([self._table], prompt)


def _table(parts: Sequence[Path], problem: str, columns: Sequence[str]) -> Any:
    """One problem's rollouts as a table of these columns."""
    import pyarrow as pa

    tables = [table for path in parts for table in read_part(path, columns, problem)]
    return pa.concat_tables(tables) if tables else schema().empty_table().select(list(columns))


def _screened(tables: Iterable[Any], prompt: TokenIds) -> list[GradedRollout]:
    """The rollouts of a screen in tables, in order."""
    return [
        GradedRollout(
            RolloutRequest(prompt, tuple(row["prefix"]), force=row["forced"], avoid=row["avoided"]),
            (*row["prefix"], *row["completion"]),
            row["count"],
            row["success"],
            "budget" if row["cut"] else "end",
        )
        for table in tables
        for row in table.to_pylist()
        if row["phase"] == "screen"
    ]


def request_digest(request: RolloutRequest) -> bytes:
    """Eight bytes that two requests share only where the same rollouts are drawn for them."""
    digest = blake2b(digest_size=8)
    for ids in (request.prompt, request.prefix):
        digest.update(np.asarray((len(ids), *ids), dtype="<i8").tobytes())
    how = (request.force, request.avoid, request.n, request.seed, request.variant, request.resumed)
    digest.update(repr((how, request.sampling)).encode())
    return digest.digest()


def rollout_totals(folder: Path) -> Mapping[str, tuple[int, Completions]]:
    """Generated tokens and completions of all recorded rollouts, by phase. Raises RunError."""
    totals: dict[str, tuple[int, Completions]] = {}
    for table in read_parts(folder, ["phase", "tokens", "count", "cut"]):
        for row in (
            table.group_by(["phase", "cut"]).aggregate([("tokens", "sum"), ("count", "sum")]).to_pylist()
        ):
            tokens, counted = totals.get(row["phase"], (0, Completions()))
            more = Completions(row["count_sum"], row["count_sum"] if row["cut"] else 0)
            totals[row["phase"]] = tokens + row["tokens_sum"], counted + more
    return totals


def _batch(rows: Sequence[tuple[Any, ...]]) -> Any:
    import pyarrow as pa

    columns = zip(*rows, strict=True) if rows else [()] * len(schema())
    arrays = [pa.array(list(each), field.type) for each, field in zip(columns, schema(), strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema())
