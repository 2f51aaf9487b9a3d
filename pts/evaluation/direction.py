"""Is it the vectors' direction that helps? Their rank among random directions that were calibrated alike.

The unit of replication is the direction: problems and seeds say how well one direction was measured, and
nothing of what another would have done.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pts.evaluation.items import Item
from pts.evaluation.systems import System
from pts.ranks import SIGNIFICANCE, controls_needed, rank_among, rank_p_value

Items = Mapping[tuple[str, str, int], Item]

STRATEGY = "full"
"""The strategy that is ranked: each further one would cost as much again for every control."""


@dataclass(frozen=True, slots=True)
class DirectionTest:
    """The rank of a steered system among the same strategy steered by each control; `line` is its name.

    All are measured alike: the first seed's answers to the same problems, by one strategy. `success` is the
    system's on those, `controls` and `control_tokens` (mean tokens of an answer) are the random directions'.
    `rank` counts ties against the vectors; `p_value` is rank / (controls + 1), times the number of `methods`
    that the vector is the best of. `needed` is the number of controls below which no rank proves anything.
    Where there is no answer, `reason` says why, and all else is empty.
    """

    line: str
    success: float = math.nan
    controls: tuple[float, ...] = ()
    control_tokens: tuple[float, ...] = ()
    rank: int | None = None
    p_value: float = math.nan
    methods: int = 1
    needed: int = controls_needed()
    reason: str | None = None

    @property
    def possible(self) -> bool:
        """Whether there are controls enough to prove anything."""
        return len(self.controls) >= self.needed

    @property
    def passed(self) -> bool:
        """Whether the vectors do better than random directions, at 5%."""
        return self.possible and self.p_value <= SIGNIFICANCE + 1e-9


def direction_test(
    systems: Sequence[System], problems: Sequence[str], items: Items, methods: int, reason: str | None
) -> DirectionTest | None:
    """The test of an evaluation's systems; None where `full` is not run with vectors.

    `reason` says why the controls cannot answer; None where they can.
    """
    steered = System(STRATEGY, "vectors").name
    if steered not in {system.name for system in systems}:
        return None
    if reason is not None:
        return DirectionTest(steered, reason=reason)

    def mean(system: str, value: str) -> float:
        found = [items[system, key, 0] for key in problems]
        return float(np.mean([item.success if value == "success" else item.ledger.total for item in found]))

    controls = [system.name for system in systems if system.control is not None]
    success = mean(steered, "success")
    reached = tuple(mean(name, "success") for name in controls)
    return DirectionTest(
        steered,
        success,
        reached,
        tuple(mean(name, "tokens") for name in controls),
        rank_among(success, reached),
        rank_p_value(success, reached, methods),
        methods,
        controls_needed(methods),
    )
