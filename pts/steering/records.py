"""Vector records: one row a pair, in the field names that the ecosystem already reads."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from pts.errors import DataError
from pts.runs.codec import ShapeError, from_json, known_keys
from pts.runs.record_files import write_jsonl_records, write_parquet_records

Floats: TypeAlias = tuple[float, ...]
"""A vector as JSON holds it: the shortest decimals that are its float32 values again."""


@dataclass(frozen=True, slots=True)
class VectorRecord:
    """One pivot with its own vector and its cluster's.

    The pivot's fields are those of a pivotal-token record, for the token that the trace took: `prob_delta` is
    negative where it harmed. `steering_vector` [hidden] is the pivot's own: the gradient of log p(better) −
    log p(worse) before its choice, at the norm of `cluster_vector`, which is the vector of its pattern, or that
    of all pairs where the pattern has too few for one. Both are to be *added* to the output of decoder block
    `steering_layer` (from 0), whatever the sign of `prob_delta`; there is therefore no `is_positive`, by which
    some readers would subtract. `cluster_id` numbers the patterns from 0, `reasoning_pattern` is the name.
    """

    pivot_context: str
    pivot_token: str
    pivot_token_id: int
    prob_before: float
    prob_after: float
    prob_delta: float
    model_id: str
    task_type: str
    steering_vector: Floats
    cluster_id: int
    reasoning_pattern: str
    cluster_vector: Floats
    steering_layer: int


def short_floats(vector: torch.Tensor | Sequence[float] | npt.NDArray[np.floating[Any]]) -> Floats:
    """A vector [hidden] as float32 values in their shortest decimals: half the text, and nothing lost."""
    array = vector.detach().float().cpu().numpy() if isinstance(vector, torch.Tensor) else vector
    return tuple(np.asarray(array, dtype=np.float32).astype(str).astype(np.float64).tolist())


def write_records_jsonl(path: Path, records: Sequence[VectorRecord]) -> None:
    """Replace `path` by one JSON object a line. Raises RunError where the system refuses."""
    write_jsonl_records(path, records)


def write_records_parquet(path: Path, records: Sequence[VectorRecord]) -> None:
    """Replace `path` by a Parquet table, vectors as lists of float32. Raises RunError."""
    import pyarrow as pa

    number, real, text, vector = pa.int64(), pa.float64(), pa.string(), pa.list_(pa.float32())
    kinds = {
        "pivot_token_id": number,
        "prob_before": real,
        "prob_after": real,
        "prob_delta": real,
        "steering_vector": vector,
        "cluster_id": number,
        "cluster_vector": vector,
        "steering_layer": number,
    }
    schema = pa.schema([(name, kinds.get(name, text)) for name in known_keys(VectorRecord)])
    write_parquet_records(path, records, schema)


def read_records_parquet(path: Path) -> list[VectorRecord]:
    """The records that `write_records_parquet` wrote. Raises DataError where the file is missing or is
    another."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise DataError(f"{path} does not exist: it holds the vector records, one for each pair.")
    try:
        rows = pq.read_table(path).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} cannot be read as Parquet ({error}); copy or download it again.") from error
    try:
        return [_record(row, f"{path} row {number}") for number, row in enumerate(rows, start=1)]
    except ShapeError as error:
        raise DataError(f"{error}; it does not hold vector records.") from error


def _record(row: Mapping[str, object], where: str) -> VectorRecord:
    record = from_json(VectorRecord, row, where)
    # A null in a list is read as "not a number", which no vector has.
    if any(map(math.isnan, (*record.steering_vector, *record.cluster_vector))):
        raise ShapeError(f"{where}: its vectors must be lists of numbers")
    return replace(
        record,
        steering_vector=short_floats(record.steering_vector),
        cluster_vector=short_floats(record.cluster_vector),
    )
