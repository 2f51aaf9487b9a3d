"""Where the patterns of a vector set come from: clusters of the contrasts, or the words at the pivots."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Basis: TypeAlias = Literal["clusters", "labels"]

_TEST = "Student's t over 24 draws of one cloud, which it extrapolates"


@dataclass(frozen=True, slots=True)
class PairGroup:
    """The pairs of one pattern, as a set describes them.

    `name` is the pattern's, unique in the set; `pattern` the same without its number. `p_value` is that of the
    name (corrected; None where the group is no cluster), `share` that of the pairs whose own words say the
    pattern. `no_vector` says why the pattern has no vector of its own (None where it has one): its pairs are
    then steered by the vector of all pairs.
    """

    name: str
    pattern: str
    pairs: int
    p_value: float | None
    share: float
    no_vector: str | None


@dataclass(frozen=True, slots=True)
class PatternSource:
    """What a set's patterns are made of.

    `basis` says what divides the pairs, `requested` what was asked for. `clusters` is how many clusters the
    contrasts fall into (1: no structure was found; None: there was nothing to cluster), `p_value` that of one
    elliptical cloud, `stability` the clustering's. `groups` are in the order of the records' `cluster_id`.
    """

    basis: Basis
    requested: Literal["auto", "clusters", "labels"]
    clusters: int | None
    p_value: float | None
    stability: float | None
    groups: tuple[PairGroup, ...]


def source_sentence(source: PatternSource) -> str:
    """What the patterns were made of, for people."""
    if source.clusters is None:
        found = "no pivot is left to cluster"
    elif source.clusters == 1:
        found = f"the contrasts are one cluster ({_why_one(source)})"
    else:
        evidence = f"p {source.p_value:.1g} by {_TEST}; stability {source.stability:.2f}"
        found = f"the contrasts fall into {source.clusters} clusters ({evidence})"
    made = {"clusters": "clusters of the contrasts", "labels": "labels, by the words at the pivots"}[
        source.basis
    ]
    requested = "" if source.requested == "auto" else ", as requested"
    return f"The patterns are {made}{requested}: {found}."


def _why_one(source: PatternSource) -> str:
    """Why no division was taken: too little evidence of one, or none that repeats."""
    from pts.steering.clusters import SIGNIFICANCE

    evidence = f"p {source.p_value:.2g} by {_TEST}"
    if source.p_value is not None and source.p_value <= SIGNIFICANCE:
        return f"{evidence}, but no division repeats over resamples"
    return f"{evidence}; more than one needs p ≤ {SIGNIFICANCE:g}"


def groups_without(source: PatternSource) -> list[str]:
    """A line for each pattern without a vector of its own: its pairs, and why."""
    return [
        f"{group.name}: no vector of its own ({group.no_vector}); its {group.pairs} records have that of "
        "all pairs"
        for group in source.groups
        if group.no_vector is not None
    ]
