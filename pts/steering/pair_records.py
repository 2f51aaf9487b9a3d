"""A set's pairs as vector records: each pivot with the vector that steers there."""

from __future__ import annotations

from collections.abc import Sequence

from pts.steering.pairs import Pair
from pts.steering.records import VectorRecord, short_floats
from pts.steering.vector_set import VectorSet


def pair_records(
    vectors: VectorSet, pairs: Sequence[Pair], labels: Sequence[str], task_type: str
) -> list[VectorRecord]:
    """One record a pair: of its own pattern's vector where the set has one, else of the first pattern's.

    `labels` are the pairs' own patterns [pairs]. Vectors are at their calibrated layer and norm.
    """
    names = list(vectors.vectors)
    added = {name: short_floats(vectors.added(name)) for name in names}
    records = []
    for pair, label in zip(pairs, labels, strict=True):
        pattern = label if label in vectors.vectors else names[0]
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
                steering_vector=added[pattern],
                cluster_id=names.index(pattern),
                reasoning_pattern=label,
                cluster_vector=added[pattern],
                steering_layer=vectors.vectors[pattern].layer,
            )
        )
    return records
