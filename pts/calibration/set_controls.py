"""A set's vectors as they are, and random ones in their place: what its direction is compared with."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch.nn.functional import normalize

from pts.calibration.settings import RANDOM, Setting
from pts.evaluation.outcomes import Outcomes
from pts.seeds import derive_seed
from pts.steering.hooks import Intervention

UNSTEERED, KEPT = "unsteered", "vectors"


@dataclass(frozen=True, slots=True)
class SetControls:
    """What each setting of `settings` adds: nothing, the set's vectors, or random ones of the same form.

    Of the same form: at the same layers, of the same norms, behind the same gates. So a random vector differs
    from the set's in its direction alone.
    """

    kept: tuple[Intervention, ...]
    seed: int

    def settings(self, random: int) -> list[Setting]:
        """The model as it is, the set's vectors, and `random` controls, in this order."""
        first = self.kept[0]
        names = (UNSTEERED, KEPT, *(f"{RANDOM}-{number}" for number in range(random)))
        return [Setting("set", name, first.layer, 1.0, first.gate.kind) for name in names]

    def interventions(self, setting: Setting) -> tuple[Intervention, ...]:
        """What hooks add for a setting."""
        if setting.method == UNSTEERED:
            return ()
        if setting.method == KEPT:
            return self.kept
        return tuple(
            replace(each, vector=self._random(each.vector, setting.method, place))
            for place, each in enumerate(self.kept)
        )

    def _random(self, vector: torch.Tensor, name: str, place: int) -> torch.Tensor:
        """A vector of the same norm [hidden], its direction uniform on the sphere."""
        generator = torch.Generator().manual_seed(derive_seed(self.seed, name, place))
        drawn = normalize(torch.randn(vector.shape[-1], generator=generator), dim=0)
        return drawn * float(vector.norm())


SHARES = (1 / 8, 3 / 8, 3 / 4, 1.0)
"""Shares of the problems after which a race drops the worse half of the vectors; after the last, none."""

Evaluate = Callable[[Sequence[Setting], int, int], Mapping[Setting, Outcomes]]
"""(settings, first problem, end) → each setting's outcomes on those problems."""


def race_among(
    settings: Sequence[Setting], evaluate: Evaluate, problems: int
) -> tuple[list[Setting], dict[Setting, Outcomes]]:
    """All settings in the order of their places in a race, best first, and what each was measured on.

    After each share of the problems but the last, the worse half is dropped, with the set's own vectors as with
    any other. So if these are no better than random ones, each place is equally likely, as among vectors that
    were all measured on all problems; but the many bad ones cost little. Of equal success the fewer tokens win,
    and of equal tokens too the set's vectors are behind.
    """
    alive, dropped = list(settings), list[Setting]()
    seen: dict[Setting, Outcomes] = {}
    first = 0
    for share in SHARES:
        end = max(first, math.ceil(share * problems))
        if end > first:
            for setting, outcomes in evaluate(alive, first, end).items():
                seen[setting] = seen[setting].joined(outcomes) if setting in seen else outcomes
        alive.sort(key=lambda one: (-seen[one].success, seen[one].tokens_each, one.method == KEPT))
        if share < 1:
            keep = math.ceil(len(alive) / 2)
            alive, dropped = alive[:keep], [*alive[keep:], *dropped]
        first = end
    return [*alive, *dropped], seen
