"""A vector set's directory while it is made: the kind of run that it is."""

from __future__ import annotations

from pts.runs.directory import RunKind

VECTORS = RunKind(
    name="vectors",
    shard="calibration.jsonl",
    derived=(
        "effect.jsonl",
        "patterns.json",
        "vectors.safetensors",
        "records.parquet",
        "README.md",
        "examples.json",
        "router.jsonl",
        "router.json",
        "router.safetensors",
        "vectors.json",
    ),
)
"""The journals of calibration and effect, and what is made of them; vectors.json comes last.

A router that was fitted to the set's vectors goes with them.
"""
HARVEST_FOLDER = "harvest"
