"""A set's vectors as they are, and random ones in their place: what its direction is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch.nn.functional import normalize

from pts.calibration.settings import RANDOM, Setting
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


def blocks(count: int, size: int) -> Sequence[tuple[int, int]]:
    """The first and the end of each block of problems."""
    return [(start, min(start + size, count)) for start in range(0, count, size)]
