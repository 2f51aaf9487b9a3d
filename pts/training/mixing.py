"""Which completions each step of a shortening learns: short ones alone, or a share of them that rises."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pts.seeds import derive_seed
from pts.training.fit import Order

MIXINGS = ("none", "progressive")
"""Short completions alone; or a share of them that rises from step to step, and long ones beside them."""


@dataclass(frozen=True, slots=True)
class Progressive:
    """The places of a step's completions: a problem's short one at its own place, its long one `size` further.

    Of `steps` steps the first learns one part in `steps` short, the last one all of them. Which problems are
    learnt short is drawn by the order's seed.
    """

    order: Order
    steps: int

    @property
    def per_step(self) -> int:
        """The number of completions of a step."""
        return self.order.per_step

    def __call__(self, step: int) -> list[int]:
        """The places of a step (from 0)."""
        places = np.array(self.order(step))
        short = round((step + 1) / self.steps * len(places))
        drawn = np.random.default_rng(derive_seed(self.order.seed, "mixing", step)).permutation(len(places))
        places[drawn[short:]] += self.order.size
        return [int(place) for place in places]
