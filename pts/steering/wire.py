"""Steering variants as JSON values, to be sent to a server, and back."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from pts.policies.vllm.wire import VARIANTS
from pts.steering.tables import Intervention, Variant
from pts.steering.vector_set import Gate


def described_variants(variants: Sequence[Variant]) -> dict[str, Any]:
    """Variants as JSON values; `variants_of` makes equal ones of them, to the last bit of a float32."""
    return {"kind": VARIANTS, "variants": [[_described(entry) for entry in variant] for variant in variants]}


def variants_of(content: Mapping[str, Any]) -> list[Variant]:
    """The variants that were described. Raises KeyError, TypeError or ValueError for what is no description."""
    return [tuple(_intervention(entry) for entry in variant) for variant in content["variants"]]


def _described(entry: Intervention) -> dict[str, Any]:
    gate = entry.gate
    return {
        "layer": entry.layer,
        "vector": _text(entry.vector),
        "kind": gate.kind,
        "threshold": gate.threshold,
        "token_ids": list(gate.token_ids),
        "weight": None if gate.weight is None else _text(gate.weight),
    }


def _intervention(entry: Mapping[str, Any]) -> Intervention:
    weight = entry["weight"]
    gate = Gate(
        entry["kind"],
        float(entry["threshold"]),
        tuple(entry["token_ids"]),
        None if weight is None else _tensor(weight),
    )
    return Intervention(int(entry["layer"]), _tensor(entry["vector"]), gate)


def _text(values: torch.Tensor) -> str:
    return base64.b64encode(values.detach().float().cpu().numpy().astype("<f4").tobytes()).decode()


def _tensor(text: str) -> torch.Tensor:
    return torch.from_numpy(np.frombuffer(base64.b64decode(text), dtype="<f4").astype(np.float32))
