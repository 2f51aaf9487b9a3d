"""GGUF control vectors: what llama.cpp (--control-vector) and repeng add to the residual stream.

Both count layers as pts does: `direction.i` is added to the output of decoder block i, counted from 0.
llama.cpp's loader refuses i = 0, so a file begins at 1; the files of both programs hold every layer from 1 to
the last, and so do ours, with zeros where nothing is added: repeng fails on a layer that it steers and does not
find.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pts.errors import one_line
from pts.runs.files import replace_file
from pts.steering.vector_set import Gate, SteeredModel, SteeringVector, VectorError, VectorSet

logger = logging.getLogger(__name__)

ARCHITECTURE = "controlvector"
_HINT, _COUNT = f"{ARCHITECTURE}.model_hint", f"{ARCHITECTURE}.layer_count"
_NAME = re.compile(r"direction\.(\d+)")
_BROKEN = (OSError, ValueError, IndexError, KeyError, TypeError, OverflowError, MemoryError, AttributeError)
"""What gguf's reader raises, depending on where a file is cut or what was written over it."""


def write_gguf(vectors: VectorSet, pattern: str, path: Path, model_hint: str | None = None) -> None:
    """Replace `path` by a control vector that adds at scale 1.0 what the calibrated pattern adds.

    Only the layers at which it is added are other than zero. `model_hint` names the model for people (its id
    by default): no reader uses it to refuse a model. A GGUF has no gate: one that the pattern has is lost, with
    a warning in the log. Raises ConfigError for an unknown pattern, VectorError for one that a control vector
    cannot hold (layer 0, no strength, values that are not finite), RunError where the system refuses the write.
    """
    vector = vectors.vector(pattern)
    added = {at: vectors.added(pattern, at).detach().float().cpu().numpy() for at in vector.places}
    _check_writable(vectors, vector, added)
    if vector.gate.kind != "always":
        logger.warning(
            "pattern %s has a gate (%s), and a GGUF control vector is added at every position: "
            "expect another effect than the one measured with the gate.",
            pattern,
            vector.gate.kind,
        )
    zeros = np.zeros(vectors.model.hidden_size, np.float32)
    layers = {layer: added.get(layer, zeros) for layer in range(1, vectors.model.layers)}
    replace_file(path, lambda temporary: _write(temporary, layers, model_hint or vectors.model.id))


def read_gguf(
    path: Path, model: SteeredModel, pattern: str = "unlabelled", layer: int | None = None
) -> VectorSet:
    """The control vector at `path` as a set of one pattern for `model`, added everywhere (no gate).

    Of a file with several directions that are not zero all are added together, as llama.cpp does, or the one
    at `layer` alone. A file does not say how large the residual stream is, so the set adds what is stored:
    `strength` is the norm at the steered layer, of several directions their sum, and `residual_norms` are the
    norms relative to it (1.0 where there is none). Raises VectorError for a file that is missing, cut short, no
    control vector, or does not fit the model, and for a `layer` that it does not have.
    """
    stored = {
        at: direction for at, direction in _read(path).items() if torch.count_nonzero(direction).item() > 0
    }
    _check_fits(path, stored, model)
    if layer is not None and layer not in stored:
        known = ", ".join(map(str, sorted(stored)))
        raise VectorError(f"{path} has no direction at layer {layer}; it has them at {known}.")
    norms = {at: float(direction.norm()) for at, direction in sorted(stored.items())}
    together = layer is None and len(norms) > 1
    at = sorted(norms)[len(norms) // 2] if layer is None else layer
    strength = sum(norms.values()) if together else norms[at]
    vector = SteeringVector(
        pattern=pattern,
        method="imported",
        directions={at: stored[at] / norm for at, norm in norms.items()},
        layer=at,
        strength=strength,
        gate=Gate(),
        shares={at: norm / strength for at, norm in norms.items()} if together else {},
    )
    relative = {at: 1.0 if together else norm / strength for at, norm in norms.items()}
    return VectorSet(
        model=model,
        residual_norms=tuple(relative.get(at, 1.0) for at in range(model.layers)),
        vectors={pattern: vector},
        provenance={"imported_from": path.name, "format": "gguf"},
    )


def _write(path: Path, layers: Mapping[int, Any], hint: str) -> None:
    from gguf import GGUFWriter

    writer = GGUFWriter(path, ARCHITECTURE)
    try:
        writer.add_string(_HINT, hint)
        writer.add_uint32(_COUNT, len(layers))
        for layer, direction in layers.items():
            writer.add_tensor(f"direction.{layer}", direction)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


def _check_writable(vectors: VectorSet, vector: SteeringVector, added: Mapping[int, Any]) -> None:
    """Raise VectorError for what a control vector cannot hold."""
    name = f"pattern {vector.pattern}"
    if 0 in added:
        others = "other layers" if vector.shares else "another layer"
        raise VectorError(
            f"{name} steers at layer 0, and a GGUF control vector begins at layer 1: calibrate {others}."
        )
    outside = [layer for layer in added if not 0 < layer < vectors.model.layers]
    if outside:
        raise VectorError(f"{name} steers at layer {outside[0]} of a model with {vectors.model.layers}.")
    if not all(np.isfinite(part).all() for part in added.values()):
        raise VectorError(f"{name} holds values that are not finite: make the vector set again.")
    if not any(part.any() for part in added.values()):
        raise VectorError(f"{name} adds nothing (strength {vector.strength:g}): there is nothing to write.")


def _read(path: Path) -> dict[int, torch.Tensor]:
    """Every direction of the file by layer, float32 [hidden]. Raises VectorError."""
    from gguf import GGUFReader

    if not path.is_file():
        raise VectorError(f"control vector {path} does not exist; give a .gguf file.")
    try:
        reader = GGUFReader(path)
        field = reader.get_field("general.architecture")
        architecture = None if field is None else field.contents()
        tensors = [(tensor.name, np.array(tensor.data)) for tensor in reader.tensors]
    except _BROKEN as error:
        raise VectorError(
            f"{path} cannot be read as GGUF ({one_line(error)}): it is incomplete, or not a GGUF "
            "file; copy it again."
        ) from error
    if architecture != ARCHITECTURE:
        raise VectorError(
            f"{path} is no control vector: its general.architecture is {architecture}, not {ARCHITECTURE}."
        )
    return {_layer(path, name): _direction(path, name, data) for name, data in tensors}


def _layer(path: Path, name: str) -> int:
    match = _NAME.fullmatch(name)
    if match is None or int(match[1]) == 0:
        raise VectorError(
            f"{path} holds tensor {name}; a control vector holds direction.1, direction.2, ... only."
        )
    return int(match[1])


def _direction(path: Path, name: str, data: Any) -> torch.Tensor:
    if data.dtype not in (np.float32, np.float16) or data.ndim != 1:
        raise VectorError(
            f"{path}: {name} is {data.dtype} of shape {list(data.shape)}, not float32 of one dimension."
        )
    direction = torch.from_numpy(data.astype(np.float32))
    if not torch.isfinite(direction).all():
        raise VectorError(f"{path}: {name} holds values that are not finite; export the vector again.")
    return direction


def _check_fits(path: Path, stored: Mapping[int, torch.Tensor], model: SteeredModel) -> None:
    if not stored:
        raise VectorError(f"{path} holds no direction other than zero: it steers nowhere.")
    for layer, direction in stored.items():
        if layer >= model.layers:
            raise VectorError(
                f"{path} has a direction at layer {layer}; {model.id} has layers 0 to {model.layers - 1}."
            )
        if len(direction) != model.hidden_size:
            raise VectorError(
                f"{path}: direction.{layer} has {len(direction)} values, and {model.id} is "
                f"{model.hidden_size} wide."
            )
