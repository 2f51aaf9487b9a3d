"""A vector set on disk and on the Hub: tensors in safetensors, everything else in JSON."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from pts.runs.codec import to_json
from pts.runs.files import make_directories, replace_text, write_failure
from pts.runs.manifest import MANIFEST_NAME
from pts.steering.pattern_source import PatternSource
from pts.steering.records import VectorRecord, read_records_parquet
from pts.steering.set_location import JSON_NAME, RECORDS_NAME, TENSORS_NAME, set_directory
from pts.steering.set_measurement import SetMeasurement
from pts.steering.tensor_files import read_entry, read_tensors, write_tensors
from pts.steering.vector_set import (
    LAYERS_GATES,
    SCHEMA_VERSION,
    Effect,
    Gate,
    GateKind,
    SteeredModel,
    SteeringVector,
    VectorError,
    VectorSet,
)

_AGAIN = "copy or download the set again"


@dataclass(frozen=True, slots=True)
class _GateEntry:
    """A gate without its tensor."""

    kind: GateKind
    threshold: float
    token_ids: tuple[int, ...]
    probe: bool


@dataclass(frozen=True, slots=True)
class _VectorEntry:
    """A steering vector without its tensors; `shares` are of its `layers`, in their order."""

    method: str
    layers: tuple[int, ...]
    layer: int
    strength: float
    gate: _GateEntry
    evidence: Mapping[str, int | float | None]
    shares: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class _SetEntry:
    """What vectors.json holds."""

    schema_version: int
    model: SteeredModel
    residual_norms: tuple[float, ...]
    vectors: Mapping[str, _VectorEntry]
    effects: Mapping[str, Effect]
    provenance: Mapping[str, object]
    controls: tuple[_VectorEntry, ...] = ()
    patterns: PatternSource | None = None
    measurements: tuple[SetMeasurement, ...] = ()


def save_vectors(vectors: VectorSet, directory: Path) -> None:
    """Write vectors.safetensors and vectors.json, the JSON last. Raises VectorError, RunError.

    A set that cannot be loaded again (a tensor that is not finite, of the wrong width, a layer that is not
    there) is refused before anything is written.
    """
    _check(vectors, str(directory))
    try:
        make_directories(directory)
    except OSError as error:
        raise write_failure(directory, error) from error
    write_tensors(directory / TENSORS_NAME, dict(_all_tensors(vectors)))
    text = json.dumps(to_json(_entry(vectors)), ensure_ascii=False, indent=2, allow_nan=False)
    replace_text(directory / JSON_NAME, text + "\n")


def vectors_json(vectors: VectorSet) -> dict[str, object]:
    """All of a set but its tensors, as vectors.json holds it."""
    entry = to_json(_entry(vectors))
    assert isinstance(entry, dict)
    return dict(entry)


def vectors_digest(vectors: VectorSet) -> str:
    """SHA-256, in hex, of all that steering with a set depends on: tensors, strengths, norms and gates.

    Its controls are not of it: `controls_digest` is of those.
    """
    entry = _entry(vectors)
    digest = hashlib.sha256()
    kept = to_json([entry.residual_norms, {name: _digested(each) for name, each in entry.vectors.items()}])
    digest.update(json.dumps(kept, sort_keys=True).encode())
    for name, tensor in _tensors(vectors.vectors):
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


def _digested(entry: _VectorEntry) -> dict[str, object]:
    """The entry in JSON; without shares where there are none, as before there were any."""
    found = to_json(entry)
    assert isinstance(found, dict)
    return {name: value for name, value in found.items() if name != "shares" or value}


def controls_digest(vectors: VectorSet) -> str | None:
    """SHA-256, in hex, of a set's controls; None where it has none."""
    if not vectors.controls:
        return None
    digest = hashlib.sha256()
    digest.update(json.dumps(to_json(_entry(vectors).controls), sort_keys=True).encode())
    for name, tensor in _tensors(_controls(vectors)):
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


def load_vectors(source: str | Path, revision: str | None = None) -> VectorSet:
    """The vector set in a local directory, by the name of one that comes with pts, or from the Hub.

    On the Hub a set is in a data set repository or a model repository.

    Raises VectorError where there is none, where it is cut short, or where tensors and JSON disagree.
    """
    return _load(set_directory(source, revision))


def load_records(source: str | Path, revision: str | None = None) -> list[VectorRecord]:
    """The vector records that stand beside a set, which is named as in `load_vectors`.

    Raises VectorError where there is no such set, DataError where it has no records.
    """
    return read_records_parquet(set_directory(source, revision, (RECORDS_NAME,)) / RECORDS_NAME)


def _load(directory: Path) -> VectorSet:
    entry = _read_entry(directory / JSON_NAME)
    controls = {_control_name(number): entry for number, entry in enumerate(entry.controls)}
    named = {**entry.vectors, **controls}
    expected = {name for pattern, vector in named.items() for name in _names(pattern, vector)}
    tensors = read_tensors(directory / TENSORS_NAME, expected, VectorError, _AGAIN)
    vectors = {pattern: _vector(pattern, vector, tensors) for pattern, vector in entry.vectors.items()}
    loaded = VectorSet(
        entry.model,
        entry.residual_norms,
        vectors,
        _with_methods(entry),
        entry.provenance,
        entry.schema_version,
        directory,
        tuple(
            replace(_vector(name, control, tensors), pattern=f"random-{number}")
            for number, (name, control) in enumerate(controls.items())
        ),
        entry.patterns,
        entry.measurements,
    )
    _check(loaded, str(directory))
    return loaded


def _vector(name: str, entry: _VectorEntry, tensors: Mapping[str, torch.Tensor]) -> SteeringVector:
    gate = entry.gate
    return SteeringVector(
        pattern=name,
        method=entry.method,
        directions={layer: tensors[_direction_name(name, layer)] for layer in entry.layers},
        layer=entry.layer,
        strength=entry.strength,
        gate=Gate(gate.kind, gate.threshold, gate.token_ids, tensors[_gate_name(name)] if gate.probe else None),
        evidence=entry.evidence,
        shares=dict(zip(entry.layers, entry.shares, strict=True)) if entry.shares else {},
    )


def _with_methods(entry: _SetEntry) -> Mapping[str, Effect]:
    """The effects; in a set of version 1 the provenance alone says how many methods a vector is the best of."""
    raced = entry.provenance.get("calibration_by_way")
    if entry.schema_version >= 2 or not isinstance(raced, Mapping):
        return entry.effects
    return {name: replace(effect, methods=max(1, len(raced))) for name, effect in entry.effects.items()}


def _read_entry(path: Path) -> _SetEntry:
    if not path.exists():
        if (path.parent / MANIFEST_NAME).exists():
            raise VectorError(
                f"{path.parent} has no {path.name}: it is a search run (`pts "
                "extract-vectors` makes a vector set of it), or an extraction that is not "
                "finished (give its command again)."
            )
        raise VectorError(f"{path.parent} is not a vector set: it has no {path.name}.")
    return read_entry(path, _SetEntry, SCHEMA_VERSION, VectorError, _AGAIN)


def _entry(vectors: VectorSet) -> _SetEntry:
    return _SetEntry(
        SCHEMA_VERSION,
        vectors.model,
        vectors.residual_norms,
        {pattern: _vector_entry(vector) for pattern, vector in vectors.vectors.items()},
        vectors.effects,
        vectors.provenance,
        tuple(_vector_entry(control) for control in vectors.controls),
        vectors.patterns,
        vectors.measurements,
    )


def _vector_entry(vector: SteeringVector) -> _VectorEntry:
    gate = vector.gate
    return _VectorEntry(
        vector.method,
        tuple(sorted(vector.directions)),
        vector.layer,
        vector.strength,
        _GateEntry(gate.kind, gate.threshold, gate.token_ids, gate.weight is not None),
        vector.evidence,
        tuple(vector.shares[layer] for layer in sorted(vector.shares)),
    )


def _controls(vectors: VectorSet) -> dict[str, SteeringVector]:
    """The controls by the name of their tensors."""
    return {_control_name(number): control for number, control in enumerate(vectors.controls)}


def _tensors(named: Mapping[str, SteeringVector]) -> Iterator[tuple[str, torch.Tensor]]:
    for pattern, vector in named.items():
        for layer, direction in vector.directions.items():
            yield _direction_name(pattern, layer), direction.detach().float().cpu().contiguous().clone()
        if vector.gate.weight is not None:
            yield _gate_name(pattern), vector.gate.weight.detach().float().cpu().contiguous().clone()


def _all_tensors(vectors: VectorSet) -> Iterator[tuple[str, torch.Tensor]]:
    yield from _tensors(vectors.vectors)
    yield from _tensors(_controls(vectors))


def _check_shares(vector: SteeringVector, what: str) -> None:
    """Raise VectorError where a vector of several layers does not say how it is added."""
    parts = vector.shares.values()
    if vector.shares.keys() != vector.directions.keys() or min(parts) <= 0 or abs(sum(parts) - 1) > 1e-3:
        raise VectorError(f"{what} is of several layers, and its shares are not one each that sum to 1.")
    if vector.gate.kind not in LAYERS_GATES:
        raise VectorError(
            f"{what} is of several layers and has a gate {vector.gate.kind}, which is fitted to one layer."
        )


def _check(vectors: VectorSet, where: str) -> None:
    """Raise VectorError for anything that a decoder would trip over."""
    model = vectors.model
    if len(vectors.residual_norms) != model.layers:
        raise VectorError(
            f"{where}: {len(vectors.residual_norms)} residual norms for {model.layers} layers; one each "
            "is needed."
        )
    for pattern, vector in {**vectors.vectors, **_controls(vectors)}.items():
        if vector.layer not in vector.directions:
            raise VectorError(
                f"{where}: pattern {pattern} steers at layer {vector.layer}, which has no direction."
            )
        outside = [layer for layer in vector.directions if not 0 <= layer < model.layers]
        if outside:
            raise VectorError(
                f"{where}: pattern {pattern} has layer {outside[0]} of a model with {model.layers}."
            )
        if vector.shares:
            _check_shares(vector, f"{where}: pattern {pattern}")
        if (vector.gate.kind == "probe") != (vector.gate.weight is not None):
            raise VectorError(
                f"{where}: the gate of pattern {pattern} is {vector.gate.kind}; its weight does not fit."
            )
    for name, tensor in _all_tensors(vectors):
        if tensor.shape != (model.hidden_size,):
            raise VectorError(f"{where}: {name} has shape {list(tensor.shape)}, not [{model.hidden_size}].")
        if not torch.isfinite(tensor).all():
            raise VectorError(f"{where}: {name} holds values that are not finite.")


def _names(pattern: str, vector: _VectorEntry) -> list[str]:
    names = [_direction_name(pattern, layer) for layer in vector.layers]
    return [*names, _gate_name(pattern)] if vector.gate.probe else names


def _direction_name(pattern: str, layer: int) -> str:
    return f"{pattern}/layer_{layer}"


def _control_name(number: int) -> str:
    """A control among the tensors; a double slash stands in no pattern's name followed by a layer."""
    return f"control//{number}"


def _gate_name(pattern: str) -> str:
    return f"{pattern}/gate"
