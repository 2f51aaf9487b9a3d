"""Reasoning patterns among pivots: clusters of their contrasts, named where their words are evidence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Literal

import numpy as np
import numpy.typing as npt

from pts.errors import DataError
from pts.lexicon import DEFAULT_LEXICON, RESERVED, UNLABELLED, Lexicon, bare_group, label_pivot
from pts.stats import holm
from pts.steering.clusters import Clusters, Ints, cluster_contrasts
from pts.steering.pattern_source import Basis

NAMING_LEVEL = 0.01
"""Chance of any wrong name among all clusters and patterns."""

_LEAST_SHARE = 0.25
"""A name must hold for at least this share of its cluster's pivots: a few words name no large cluster."""


@dataclass(frozen=True, slots=True)
class Pivot:
    """The words at a pivot: the text before it, its own, and the text after it."""

    before: str
    token: str
    after: str


@dataclass(frozen=True, slots=True)
class Name:
    """A cluster's name, the chance of such evidence without a reason, corrected, and the share it holds for."""

    pattern: str
    p_value: float
    share: float


@dataclass(frozen=True, slots=True)
class Group:
    """Pivots that belong together: the places of `members` in the input, in order.

    `pattern` is a pattern of the lexicon, `number`, `think_tag` or `unlabelled`; `name` is the same, unique:
    numbered from the second group of the pattern on. `p_value` is that of the name (corrected; None where the
    group is no cluster), `share` that of the members whose own label is the pattern.
    """

    name: str
    pattern: str
    members: tuple[int, ...]
    p_value: float | None
    share: float


@dataclass(frozen=True, slots=True, eq=False)
class Patterns:
    """Groups that every pivot is in one of, each pivot's own label [pairs], and the clustering behind them.

    `clusters` is of the pivots that are neither bare numbers nor think tags, in their order; None without any.
    """

    groups: tuple[Group, ...]
    labels: tuple[str, ...]
    clusters: Clusters | None


def find_patterns(
    contrasts: npt.NDArray[np.floating],
    pivots: Sequence[Pivot],
    seed: int,
    lexicon: Lexicon = DEFAULT_LEXICON,
) -> Patterns:
    """Groups of pivots by contrasts [pairs, hidden], named by their words.

    Pivots that are bare numbers or think tags are groups of their own and take no part in the clustering.
    Raises DataError where there are not as many pivots as contrasts, or contrasts are not finite.
    """
    if len(pivots) != len(contrasts):
        raise DataError(f"there are {len(contrasts)} contrasts for {len(pivots)} pivots: give one for each.")
    labels = tuple(label_pivot(pivot.before, pivot.token, pivot.after, lexicon) for pivot in pivots)
    bare = [bare_group(pivot.token) for pivot in pivots]
    words = np.flatnonzero([group is None for group in bare])
    clusters = cluster_contrasts(contrasts[words], seed) if len(words) else None
    groups = _clustered(clusters, words, labels, lexicon) if clusters else []
    for kind in sorted({group for group in bare if group is not None}):
        members = tuple(index for index, group in enumerate(bare) if group == kind)
        groups.append(Group(kind, kind, members, None, 1.0))
    return Patterns(tuple(groups), labels, clusters)


def pattern_groups(
    patterns: Patterns, requested: Literal["auto", "clusters", "labels"] = "auto"
) -> tuple[Basis, tuple[Group, ...]]:
    """What divides the pivots into patterns, and the groups; every pivot is in exactly one.

    `auto` takes the clusters where the contrasts have structure, and each pivot's own label where they are one
    cluster. Bare numbers and think tags are groups of their own either way.
    """
    structured = patterns.clusters is not None and patterns.clusters.k > 1
    if requested == "clusters" or (requested == "auto" and structured):
        return "clusters", patterns.groups
    places: dict[str, list[int]] = {}
    for place, label in enumerate(patterns.labels):
        places.setdefault(label, []).append(place)
    largest_first = sorted(places, key=lambda label: (-len(places[label]), label))
    return "labels", tuple(Group(label, label, tuple(places[label]), None, 1.0) for label in largest_first)


def name_clusters(clusters: Ints, labels: Sequence[str], names: Sequence[str]) -> list[Name]:
    """A name for each cluster, 0 upwards: the pattern that its pivots have more often than chance gives.

    `clusters` and `labels` are each pivot's cluster and own label [pivots]. The chance is that of as many
    pivots of a pattern in a cluster drawn blindly from all of them (hypergeometric), corrected over clusters ×
    patterns (Holm 1979). `unlabelled` where no pattern passes 1%, or the one that does holds for less than a
    quarter. A cluster of all pivots is always unlabelled: there is nothing to compare it with.
    """
    from scipy.stats import hypergeom

    k = int(clusters.max()) + 1
    total = Counter(labels)
    within = [Counter(np.asarray(labels, dtype=object)[clusters == cluster]) for cluster in range(k)]
    sizes = [int((clusters == cluster).sum()) for cluster in range(k)]
    raw = np.array(
        [
            [hypergeom.sf(within[c][name] - 1, len(labels), total[name], sizes[c]) for name in names]
            for c in range(k)
        ]
    ).reshape(k, len(names))
    corrected = holm(raw)
    return [_best_name(corrected[c], within[c], sizes[c], names) for c in range(k)]


def _best_name(
    corrected: npt.NDArray[np.float64], within: Counter[str], size: int, names: Sequence[str]
) -> Name:
    # Of patterns that all pass, the one with the most pivots: a rare pattern can be surer and say less.
    passing = [
        i
        for i, name in enumerate(names)
        if corrected[i] <= NAMING_LEVEL and within[name] / size >= _LEAST_SHARE
    ]
    if not passing:
        return Name(UNLABELLED, float(corrected.min(initial=1.0)), within[UNLABELLED] / size)
    best = max(passing, key=lambda i: (within[names[i]], -corrected[i]))
    return Name(names[best], float(corrected[best]), within[names[best]] / size)


def _clustered(clusters: Clusters, words: Ints, labels: Sequence[str], lexicon: Lexicon) -> list[Group]:
    own = [labels[index] for index in words]
    names = [name for name in lexicon.names if name not in RESERVED]
    taken: set[str] = set()
    groups = []
    for cluster, found in enumerate(name_clusters(clusters.labels, own, names)):
        name = _unique(found.pattern, taken | (set(names) - {found.pattern}))
        taken.add(name)
        members = tuple(int(index) for index in words[clusters.labels == cluster])
        groups.append(Group(name, found.pattern, members, found.p_value, found.share))
    return groups


def _unique(pattern: str, taken: Collection[str]) -> str:
    """The pattern's name, numbered from 2 on where it is taken: clusters of one name stay apart."""
    numbered = (f"{pattern}_{number}" for number in count(2))
    return pattern if pattern not in taken else next(name for name in numbered if name not in taken)
