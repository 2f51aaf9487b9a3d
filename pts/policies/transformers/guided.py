"""Guides of completions, told of what was drawn."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pts.policies.guide import Guide
from pts.policies.transformers.distribution import Draws


def advanced(guides: list[Guide | None], draws: Draws) -> tuple[list[Guide | None], npt.NDArray[np.bool_]]:
    """Each drawn token's guide, told of it, and whether it ends there [n]; first children keep the row's."""
    advanced: list[Guide | None] = [None] * len(draws.rows)
    stopped = np.zeros(len(draws.rows), dtype=np.bool_)
    if not any(guide is not None for guide in guides):
        return advanced, stopped
    # Backwards: the first child comes last, so that the others are copied from a guide that has not moved.
    for child in range(len(draws.rows) - 1, -1, -1):
        guide = guides[int(draws.rows[child])]
        if guide is not None:
            advanced[child] = own = guide if draws.first[child] else guide.fork()
            stopped[child] = own.advance(int(draws.tokens[child]))
    return advanced, stopped
