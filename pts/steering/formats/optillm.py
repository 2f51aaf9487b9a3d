"""What optillm's AutoThink reads: one vector record a pair, as JSON Lines or as a data set.

Read in optillm 0.4.0, `optillm/autothink/steering.py`. Its manager keeps the thirteen fields of VectorRecord
and drops every other, `is_positive` too, so its hook always *adds*. It adds the record's `steering_vector` (the
pivot's own, never `cluster_vector`) at norm 1, times min(max(pattern strength, 0.1), 2) · min(max(|prob_delta|,
0.1), 2), at most 3, to the last position of the batch's last row: the norm that we store plays no part, and is
small beside the residual stream of most models. It hooks the one layer in its own setting `target_layer`,
whatever `steering_layer` says, and only once the text so far matches a record's `pivot_context`. A numbered
pattern (`self_correction_2`) has the strength of one that it does not know.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from pts.data_files import FileRow, parse_json, text_fault
from pts.errors import DataError
from pts.problems.files import local_rows
from pts.steering.hooks import Intervention
from pts.steering.vector_set import Gate, SteeredModel, SteeringVector, VectorError, VectorSet

logger = logging.getLogger(__name__)


def read_optillm(source: str | Path | Iterable[Mapping[str, object]], model: SteeredModel) -> VectorSet:
    """Vector records as a set for `model`: per `reasoning_pattern` the mean of its rows' `cluster_vector`.

    A row without one stands with its `steering_vector`. `source` is a JSONL or Parquet file, or rows (of a data
    set that is loaded). The set adds the mean as it is stored, everywhere: `strength` is its norm and
    `residual_norms` are 1.0, since rows do not say how large the residual stream is; rows of raw activations
    need a much smaller strength. As in optillm, `is_positive` is not read. Raises DataError for a file or a row
    that cannot be read, rows of one pattern that name several layers, and a mean of zero; VectorError where the
    rows do not fit the model.
    """
    rows = local_rows(str(source), None) if isinstance(source, str | Path) else source
    where = str(source) if isinstance(source, str | Path) else "the data set"
    groups: dict[str, list[_Row]] = {}
    for place, row in _placed(rows, where):
        read = _read_row(row, place, model)
        groups.setdefault(read.pattern, []).append(read)
    if not groups:
        raise DataError(f"{where} has no rows: it holds no vector record.")
    _warn_of_other_models(where, {row.model_id for group in groups.values() for row in group}, model)
    return VectorSet(
        model=model,
        residual_norms=(1.0,) * model.layers,
        vectors={pattern: _mean_vector(where, pattern, group) for pattern, group in groups.items()},
        provenance={"imported_from": where, "format": "optillm"},
    )


PATTERN_STRENGTHS: Mapping[str, float] = {
    "depth_and_thoroughness": 2.5,
    "numerical_accuracy": 2.0,
    "self_correction": 3.0,
    "exploration": 2.0,
    "organization": 1.5,
    "unknown": 1.0,
}
"""optillm's own, where the configuration names none; any other pattern has `OTHER_STRENGTH`."""
OTHER_STRENGTH = 2.0
OTHER_LAYER = 19


@dataclass(frozen=True, slots=True, eq=False)
class Addition:
    """What optillm's hook adds once the text has matched `context`."""

    context: str
    pattern: str
    intervention: Intervention


def additions(
    rows: Iterable[Mapping[str, object] | FileRow],
    where: str,
    target_layer: int | None = None,
    strengths: Mapping[str, float] | None = None,
) -> list[Addition]:
    """What optillm's AutoThink adds for each record, at the output of decoder block `target_layer` (from 0).

    The record's `steering_vector` at norm 1, times its pattern's strength held to 0.1-2 and |`prob_delta`| held
    to 0.1-2, at most 3 in all; always added, at every position it reads once it is on. Where `target_layer` is
    None it is the record's own `steering_layer`, which optillm does not read (its default is 19). Raises
    DataError for a row without context, vector or pattern.
    """
    scale = {**PATTERN_STRENGTHS, **(strengths or {})}
    found = []
    for place, row in _placed(rows, where):
        context, pattern = row.get("pivot_context"), row.get("reasoning_pattern")
        if not isinstance(context, str) or not isinstance(pattern, str):
            missing = "reasoning_pattern" if isinstance(context, str) else "pivot_context"
            raise DataError(f"{place} has no {missing}: it is no vector record; fix or remove it.")
        fault = text_fault(context)
        if fault is not None:
            raise DataError(f"{place}: its pivot_context {fault}; fix or remove it.")
        vector = torch.nn.functional.normalize(_numbers(row.get("steering_vector"), place), dim=0)
        layer = row.get("steering_layer", OTHER_LAYER) if target_layer is None else target_layer
        delta = row.get("prob_delta")
        if type(layer) is not int or not isinstance(delta, int | float | None):
            raise DataError(f"{place}: steering_layer is {layer!r}, prob_delta {delta!r}; fix it.")
        factor = _held(scale.get(pattern, OTHER_STRENGTH)) * _held(abs(delta or 0.0))
        found.append(Addition(context, pattern, Intervention(layer, min(factor, 3.0) * vector)))
    if not found:
        raise DataError(f"{where} has no rows: it holds no vector record.")
    return found


def _placed(
    rows: Iterable[Mapping[str, object] | FileRow], where: str
) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Each row with its place, for messages."""
    for number, row in enumerate(rows, start=1):
        if isinstance(row, FileRow):
            yield f"{where} {row.place}", row.fields
        else:
            yield f"{where} row {number}", row


def _held(value: float) -> float:
    return min(max(value, 0.1), 2.0)


@dataclass(frozen=True, slots=True, eq=False)
class _Row:
    """What an import reads of a record; `vector` is float32 [hidden]."""

    pattern: str
    layer: int
    vector: torch.Tensor
    model_id: str


def _read_row(row: Mapping[str, object], where: str, model: SteeredModel) -> _Row:
    missing = [
        name for name in ("reasoning_pattern", "steering_layer", "steering_vector") if row.get(name) is None
    ]
    if missing:
        raise DataError(f"{where} has no {missing[0]}: it is no vector record; fix or remove it.")
    layer, pattern = row["steering_layer"], row["reasoning_pattern"]
    if type(layer) is not int or not isinstance(pattern, str):
        raise DataError(f"{where}: steering_layer is {layer!r}, reasoning_pattern {pattern!r}; fix it.")
    if not 0 <= layer < model.layers:
        raise VectorError(f"{where} steers at layer {layer}; {model.id} has layers 0 to {model.layers - 1}.")
    name = "cluster_vector" if row.get("cluster_vector") else "steering_vector"
    vector = _numbers(row[name], where, name)
    if len(vector) != model.hidden_size:
        raise VectorError(
            f"{where}: the vector has {len(vector)} values; {model.id} is {model.hidden_size} wide."
        )
    if not torch.isfinite(vector).all():
        raise DataError(f"{where}: the vector holds values that are not finite; fix or remove it.")
    return _Row(pattern, layer, vector, str(row.get("model_id") or ""))


def _numbers(value: object, where: str, name: str = "steering_vector") -> torch.Tensor:
    """A row's vector, which some data sets hold as JSON text. Raises DataError."""
    try:
        listed = parse_json(value) if isinstance(value, str) else value
        vector = torch.tensor(listed, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{where}: {name} is not a list of numbers; fix or remove it.") from error
    if vector.ndim != 1:
        raise DataError(f"{where}: {name} is not a flat list of numbers; fix or remove it.")
    return vector


def _warn_of_other_models(where: str, named: set[str], model: SteeredModel) -> None:
    others = sorted(named - {"", model.id})
    if others:
        logger.warning(
            "%s says that its vectors were made for %s, not for %s.", where, ", ".join(others), model.id
        )


def _mean_vector(where: str, pattern: str, rows: Sequence[_Row]) -> SteeringVector:
    layers = sorted({row.layer for row in rows})
    if len(layers) > 1:
        named = ", ".join(map(str, layers))
        raise DataError(
            f"{where}: the rows of pattern {pattern} name layers {named}; read those of one at a time."
        )
    mean = torch.stack([row.vector for row in rows]).mean(dim=0)
    norm = float(mean.norm())
    if norm == 0.0:
        raise DataError(f"{where}: the vectors of pattern {pattern} add up to nothing; it steers nowhere.")
    return SteeringVector(
        pattern=pattern,
        method="imported",
        directions={layers[0]: mean / norm},
        layer=layers[0],
        strength=norm,
        gate=Gate(),
        evidence={"pairs": len(rows)},
    )
