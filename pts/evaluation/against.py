"""Another evaluation of the same problems, such as the unchanged model's, held beside this one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pts.evaluation.items import Item, Key
from pts.evaluation.paired_systems import PairedSystems
from pts.evaluation.systems import System


@dataclass(frozen=True, slots=True)
class OtherRun:
    """An evaluation of another model: its directory, model, unsteered systems, and answers by key."""

    path: str
    model_id: str
    systems: tuple[System, ...]
    items: Mapping[Key, Item]


@dataclass(frozen=True, slots=True)
class Besides:
    """Another run's systems as they stand behind this run's in the same arrays.

    `places` are the rows of its systems by strategy, `label` what tables call the run.
    """

    label: str
    places: Mapping[str, int]

    @property
    def sweep(self) -> list[int]:
        """The rows of its fixed budgets."""
        return [at for strategy, at in self.places.items() if System(strategy).is_fixed]


def side_by_side(
    paired: PairedSystems, other: PairedSystems, systems: Sequence[System], label: str
) -> tuple[PairedSystems, Besides]:
    """Both runs' systems in one, the other's (`systems`) last: problems and seeds must be the same."""
    joined = PairedSystems(
        np.concatenate([paired.success, other.success]),
        np.concatenate([paired.tokens, other.tokens]),
        paired.level,
        paired.seed,
        paired.resamples,
    )
    first = len(paired.success)
    return joined, Besides(label, {system.strategy: first + at for at, system in enumerate(systems)})
