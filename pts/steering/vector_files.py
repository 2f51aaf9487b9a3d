"""A vector set on disk and on the Hub: tensors in safetensors, everything else in JSON."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from pts.hub import why_unreachable
from pts.runs.codec import ShapeError, from_json, to_json
from pts.runs.files import make_directories, replace_text, write_failure
from pts.runs.manifest import MANIFEST_NAME
from pts.steering.pattern_source import PatternSource
from pts.steering.records import VectorRecord, read_records_parquet
from pts.steering.tensor_files import write_tensors
from pts.steering.vector_set import (
    SCHEMA_VERSION,
    Effect,
    Gate,
    GateKind,
    SteeredModel,
    SteeringVector,
    VectorError,
    VectorSet,
)

TENSORS_NAME, JSON_NAME, RECORDS_NAME, CARD_NAME = (
    "vectors.safetensors",
    "vectors.json",
    "records.parquet",
    "README.md",
)
ROUTER_NAMES = ("router.json", "router.safetensors")
"""The files of a router that is stored with a set (`pts.decoding.routers.files`)."""
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True, slots=True)
class _GateEntry:
    """A gate without its tensor."""

    kind: GateKind
    threshold: float
    token_ids: tuple[int, ...]
    probe: bool


@dataclass(frozen=True, slots=True)
class _VectorEntry:
    """A steering vector without its tensors."""

    method: str
    layers: tuple[int, ...]
    layer: int
    strength: float
    gate: _GateEntry
    evidence: Mapping[str, int | float | None]


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
    digest.update(json.dumps(to_json([entry.residual_norms, entry.vectors]), sort_keys=True).encode())
    for name, tensor in _tensors(vectors.vectors):
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


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


def set_directory(
    source: str | Path,
    revision: str | None = None,
    names: tuple[str, ...] = (TENSORS_NAME, JSON_NAME, *ROUTER_NAMES),
) -> Path:
    """The directory of a set given as `load_vectors` takes it, with its files downloaded where need be.

    Raises VectorError where there is none.
    """
    directory = Path(source).expanduser()
    bundled = not directory.is_dir() and str(source) in bundled_sets()
    if revision is not None and (bundled or directory.exists()):
        raise VectorError(f"revision {revision} is of a set on the Hub, and {source} is not: leave it out.")
    if directory.is_dir():
        return directory
    if bundled:
        return _bundled() / str(source)
    if directory.exists():
        raise VectorError(
            f"{source} is a file; a vector set is a directory with {TENSORS_NAME} and {JSON_NAME}."
        )
    if not _HUB_ID.fullmatch(str(source)):
        raise VectorError(_neither(str(source)))
    return _download(str(source), revision, names)


def load_records(source: str | Path, revision: str | None = None) -> list[VectorRecord]:
    """The vector records that stand beside a set, which is named as in `load_vectors`.

    Raises VectorError where there is no such set, DataError where it has no records.
    """
    return read_records_parquet(set_directory(source, revision, (RECORDS_NAME,)) / RECORDS_NAME)


def bundled_sets() -> list[str]:
    """Names of the vector sets that come with the package."""
    return sorted(path.parent.name for path in _bundled().glob(f"*/{JSON_NAME}"))


def source_of(vectors: VectorSet) -> str | None:
    """What `load_vectors` takes for a set that it loaded: a bundled one's name, or its directory; else None."""
    directory = vectors.directory
    if directory is None:
        return None
    return directory.name if directory == _bundled() / directory.name else str(directory)


def _bundled() -> Path:
    package = Path(str(files("pts")))
    installed = package / "_bundled" / "vectors"
    return installed if installed.is_dir() else package.parent / "vectors"


def _load(directory: Path) -> VectorSet:
    entry = _read_entry(directory / JSON_NAME)
    path = directory / TENSORS_NAME
    try:
        tensors = load_file(str(path))
    except (OSError, SafetensorError, ValueError) as error:
        raise VectorError(
            f"{path} cannot be read ({error}): the set is cut short; copy or download it again."
        ) from error
    controls = {_control_name(number): entry for number, entry in enumerate(entry.controls)}
    named = {**entry.vectors, **controls}
    expected = {name for pattern, vector in named.items() for name in _names(pattern, vector)}
    if expected != set(tensors):
        odd = sorted(expected ^ set(tensors))[0]
        where = "in vectors.json alone" if odd in expected else "in vectors.safetensors alone"
        raise VectorError(
            f"{directory}: tensors and JSON disagree: {odd} is {where}; copy or download the set again."
        )
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
    )


def _with_methods(entry: _SetEntry) -> Mapping[str, Effect]:
    """The effects; in a set of version 1 the provenance alone says how many methods a vector is the best of."""
    raced = entry.provenance.get("calibration_by_way")
    if entry.schema_version >= 2 or not isinstance(raced, Mapping):
        return entry.effects
    return {name: replace(effect, methods=max(1, len(raced))) for name, effect in entry.effects.items()}


def _read_entry(path: Path) -> _SetEntry:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        if (path.parent / MANIFEST_NAME).exists():
            raise VectorError(
                f"{path.parent} has no {path.name}: it is a search's run, of which `pts extract-vectors` "
                "makes a set, or an extraction that is not finished (its command again goes on)."
            ) from error
        raise VectorError(f"{path.parent} is not a vector set: it has no {path.name}.") from error
    except (OSError, ValueError) as error:
        raise VectorError(f"{path} cannot be read ({error}); copy or download the set again.") from error
    version = data.get("schema_version") if isinstance(data, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise VectorError(f"{path} was written by a newer pts (schema {version}); use that version to read it.")
    try:
        return from_json(_SetEntry, data)
    except ShapeError as error:
        raise VectorError(f"{path} is not a vector set's ({error}).") from error


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
        if (vector.gate.kind == "probe") != (vector.gate.weight is not None):
            raise VectorError(
                f"{where}: the gate of pattern {pattern} is {vector.gate.kind}; its weight does not fit."
            )
    for name, tensor in _all_tensors(vectors):
        if tensor.shape != (model.hidden_size,):
            raise VectorError(f"{where}: {name} has shape {list(tensor.shape)}, not [{model.hidden_size}].")
        if not torch.isfinite(tensor).all():
            raise VectorError(f"{where}: {name} holds values that are not finite.")


def _download(repo_id: str, revision: str | None, names: tuple[str, ...]) -> Path:
    """Files of a set from the Hub or its cache, a data set first, then a model. Raises VectorError."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    unreachable = why_unreachable()
    for kind in ("dataset", "model"):
        try:
            return Path(
                snapshot_download(
                    repo_id,
                    repo_type=kind,
                    revision=revision,
                    allow_patterns=list(names),
                    local_files_only=unreachable is not None,
                )
            )
        except RepositoryNotFoundError:
            continue
        except HFValidationError as error:
            raise VectorError(_neither(repo_id)) from error
        except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
            if unreachable is not None:
                continue
            raise VectorError(
                f"vector set {repo_id} is no local directory, and the hub does not give it "
                f"({type(error).__name__}): check the name, the token and the connection."
            ) from error
    if unreachable is not None:
        raise VectorError(
            f"The hub cannot be reached for the vector set {repo_id} ({unreachable}), and it is not in the "
            "cache; check the name and the connection, or give a directory."
        )
    raise VectorError(
        f"vector set {repo_id} is neither a local directory nor a repository that the hub lets you see."
    )


def _neither(source: str) -> str:
    return f"vector set {source} does not exist, and it is no hub id (owner/name)."


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
