"""A fitted router on disk: router.safetensors and router.json, with a vector set or in a folder of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from pts.decoding.limits import ThinkingBudget
from pts.decoding.routers.fitted import (
    SCHEMA_VERSION,
    ClassQuality,
    FittedRouter,
    Probe,
    RouterClass,
    check_router,
)
from pts.errors import ConfigError
from pts.runs.codec import to_json
from pts.runs.files import replace_text, write_failure
from pts.runs.manifest import text_digest
from pts.steering.set_location import ROUTER_NAMES, set_directory
from pts.steering.tensor_files import read_entry, read_tensors, write_tensors
from pts.steering.vector_set import SteeredModel

JSON_NAME, TENSORS_NAME = ROUTER_NAMES
_AGAIN = "copy it again, or fit the router again"


@dataclass(frozen=True, slots=True)
class _ClassEntry:
    """A class without its tensors."""

    name: str
    budget: ThinkingBudget
    success_bias: float
    tokens_bias: float
    quality: ClassQuality


@dataclass(frozen=True, slots=True)
class _ProbeEntry:
    """A probe without its tensors."""

    layer: int
    arms: tuple[_ClassEntry, ...]  # as the file calls its classes
    price: float
    routed: Mapping[str, float]
    patterns: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class _RouterEntry:
    """What router.json holds."""

    schema_version: int
    model: SteeredModel
    total: int
    unsteered: _ProbeEntry
    steered: _ProbeEntry | None
    provenance: Mapping[str, object]


def save_router(router: FittedRouter, directory: Path) -> None:
    """Write router.safetensors and router.json, the JSON last. Raises ConfigError, RunError.

    A router that could not be loaded again is refused before anything is written.
    """
    check_router(router, str(directory))
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_failure(directory, error) from error
    write_tensors(
        directory / TENSORS_NAME,
        {
            _tensor_name(name, each.name, what): weight.detach().float().cpu().contiguous().clone()
            for name, probe in router.probes.items()
            for each in probe.classes
            for what, weight in (("success", each.success), ("tokens", each.tokens))
        },
    )
    text = json.dumps(router_json(router), ensure_ascii=False, indent=2, allow_nan=False)
    replace_text(directory / JSON_NAME, text + "\n")


def router_json(router: FittedRouter) -> dict[str, object]:
    """All of a router but its tensors, as router.json holds it."""
    entries = {name: _entry(probe) for name, probe in router.probes.items()}
    entry = to_json(
        _RouterEntry(
            router.schema_version,
            router.model,
            router.total,
            entries["unsteered"],
            entries.get("steered"),
            router.provenance,
        )
    )
    assert isinstance(entry, dict)
    return dict(entry)


def router_digest(router: FittedRouter) -> str:
    """SHA-256, in hex, of all that decides what a router does."""
    settings = {name: value for name, value in router_json(router).items() if name != "provenance"}
    weights = (
        json.dumps([name, each.name, each.success.tolist(), each.tokens.tolist()])
        for name, probe in router.probes.items()
        for each in probe.classes
    )
    return text_digest([json.dumps(settings, sort_keys=True), *weights])


def load_router(source: str | Path, revision: str | None = None) -> FittedRouter:
    """The router in a directory, or with a vector set given as `load_vectors` takes it.

    Raises ConfigError where there is none, where it is cut short, or where tensors and JSON disagree.
    """
    router = find_router(source, revision)
    if router is None:
        raise ConfigError(f"{source} has no router ({JSON_NAME}): `pts fit-router` makes one.")
    return router


def find_router(source: str | Path, revision: str | None = None) -> FittedRouter | None:
    """The router of a directory or vector set; None where it has none. Raises as `load_router` does."""
    directory = set_directory(source, revision)
    path = directory / JSON_NAME
    if not path.exists():
        return None
    entry = read_entry(path, _RouterEntry, SCHEMA_VERSION, ConfigError, _AGAIN)
    entries = {"unsteered": entry.unsteered, **({} if entry.steered is None else {"steered": entry.steered})}
    expected = {
        _tensor_name(name, each.name, what)
        for name, probe in entries.items()
        for each in probe.arms
        for what in ("success", "tokens")
    }
    tensors = read_tensors(directory / TENSORS_NAME, expected, ConfigError, _AGAIN)
    probes = {name: _probe(name, probe, tensors) for name, probe in entries.items()}
    router = FittedRouter(
        entry.model,
        entry.total,
        probes["unsteered"],
        probes.get("steered"),
        entry.provenance,
        entry.schema_version,
    )
    check_router(router, str(directory))
    return router


def _entry(probe: Probe) -> _ProbeEntry:
    classes = tuple(
        _ClassEntry(each.name, each.budget, each.success_bias, each.tokens_bias, each.quality)
        for each in probe.classes
    )
    return _ProbeEntry(probe.layer, classes, probe.price, probe.routed, probe.patterns)


def _probe(name: str, entry: _ProbeEntry, tensors: Mapping[str, torch.Tensor]) -> Probe:
    classes = tuple(
        RouterClass(
            each.name,
            each.budget,
            tensors[_tensor_name(name, each.name, "success")],
            each.success_bias,
            tensors[_tensor_name(name, each.name, "tokens")],
            each.tokens_bias,
            each.quality,
        )
        for each in entry.arms
    )
    return Probe(entry.layer, classes, entry.price, entry.routed, entry.patterns)


def _tensor_name(probe: str, name: str, what: str) -> str:
    return f"{probe}/{name}/{what}"
