"""The card of a vector set: where it comes from, what it does, what was measured and what was not."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from pts.publishing.card_text import base_model, front_matter, marked, parquet_configs, render, size_category
from pts.ranks import SIGNIFICANCE
from pts.runs.codec import to_json
from pts.steering.claims import claims, rank_sentence
from pts.steering.pattern_source import groups_without, source_sentence
from pts.steering.set_location import RECORDS_NAME
from pts.steering.set_measurement import HEADINGS, READING, measurement_rows
from pts.steering.vector_set import VectorSet


def vector_set_card(
    vectors: VectorSet,
    name: str,
    repo_id: str | None,
    size: int,
    *,
    repo_type: str = "dataset",
    license_id: str | None = None,
) -> str:
    """The README.md of a vector set, header included.

    `size` is the number of rows of records.parquet, 0 where there is none. The header links the file only
    where it has rows and the repository is a data set. A licence is named only where one is given, here or as
    the provenance's `license`.
    """
    recorded = vectors.provenance.get("license")
    stated = license_id or (recorded if isinstance(recorded, str) and recorded else None)
    rows = size if repo_type == "dataset" else 0
    made = claims(vectors.effects)
    named = list(dict.fromkeys([*vectors.vectors, *vectors.effects]))
    proved = [name for name, claim in made.items() if claim.made]
    text = render(
        "vector_set.md.j2",
        header=front_matter(
            license=stated,
            library_name=None if repo_type == "dataset" else "pts",
            base_model=base_model(vectors.model.id, vectors.model.revision),
            tags=["pts", "steering-vectors", "pivotal-token-search"],
            size_categories=[size_category(rows)] if rows else None,
            configs=parquet_configs({"default": RECORDS_NAME}) if rows else None,
        ),
        vectors=vectors,
        name=name,
        repo_id=repo_id,
        rows=rows,
        named=named,
        claims=made,
        proved=proved,
        unproved=sorted(set(named) - set(proved)),
        significance=f"{SIGNIFICANCE:.0%}",
        origin=list(_origin(vectors, stated)),
        rank_sentence=rank_sentence,
        source_sentence=source_sentence,
        groups_without=groups_without,
        measured_later=measurement_rows(vectors.measurements, vectors.model.id),
        headings=HEADINGS,
        reading=READING,
    )
    return marked(text)


def _origin(vectors: VectorSet, stated: str | None) -> Iterator[tuple[str, str]]:
    """What is known of a set's making, as rows of a table."""
    yield "model", vectors.model.id
    yield "model revision", vectors.model.revision or "not recorded"
    yield "licence", stated or "none stated; the model's and the data's own terms apply"
    yield from ((key, _shown(value)) for key, value in _flat(vectors.provenance) if key != "license")


def _flat(values: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in values.items():
        name = f"{prefix}{key}".replace("_", " ")
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name} / ")
        else:
            yield name, value


def _shown(value: object) -> str:
    if isinstance(value, str):
        return value
    text = json.dumps(to_json(value), ensure_ascii=False)
    return text if len(text) <= 300 else text[:299] + "…"
