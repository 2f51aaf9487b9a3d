"""A set's pairs as vector records: each pivot with its own vector and that of its pattern."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from pts.steering.pairs import Pair
from pts.steering.records import VectorRecord, short_floats
from pts.steering.vector_set import VectorSet

ALL = "all"
"""The pattern whose vector is made of every pair."""


def record_patterns(vectors: VectorSet, names: Sequence[str]) -> list[str]:
    """The pattern whose vector steers each pair [pairs]: its own, or `all` where that has none of its own."""
    whole = ALL if ALL in vectors.vectors else next(iter(vectors.vectors))
    return [name if name in vectors.vectors else whole for name in names]


def pair_records(
    vectors: VectorSet,
    pairs: Sequence[Pair],
    names: Sequence[str],
    task_type: str,
    own: Sequence[torch.Tensor],
    ids: Mapping[str, int] | None = None,
) -> list[VectorRecord]:
    """One record a pair, at the calibrated layer and norm of the vector that steers its pattern.

    `names` are the pairs' patterns [pairs], `own` their own unit vectors [hidden] at that layer
    (`pivot_vectors`), `ids` the patterns' numbers (None: in the order of their first pairs).
    """
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))} if ids is None else ids
    added = {name: vectors.added(name) for name in vectors.vectors}
    short = {name: short_floats(vector) for name, vector in added.items()}
    records = []
    for pair, name, steering, direction in zip(pairs, names, record_patterns(vectors, names), own, strict=True):
        records.append(
            VectorRecord(
                pivot_context=pair.before,
                pivot_token=pair.taken.token,
                pivot_token_id=pair.taken.token_id,
                prob_before=pair.value_before,
                prob_after=pair.taken.value,
                prob_delta=pair.delta,
                model_id=vectors.model.id,
                task_type=task_type,
                steering_vector=short_floats(direction * float(added[steering].norm())),
                cluster_id=numbers[name],
                reasoning_pattern=name,
                cluster_vector=short[steering],
                steering_layer=vectors.vectors[steering].layer,
            )
        )
    return records
