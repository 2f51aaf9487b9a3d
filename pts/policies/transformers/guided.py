"""Guides of completions, told of what was drawn."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pts.policies.guide import Guide
from pts.policies.transformers.distribution import Draws


def advanced(
    guides: list[Guide | None], draws: Draws, moved: npt.NDArray[np.int64] | None
) -> tuple[list[Guide | None], npt.NDArray[np.bool_]]:
    """Each drawn token's guide, told of it, and whether it ends there [n]; first children keep the row's.

    `moved` [rows] has the tokens that stand where a banned one would have been drawn.
    """
    advanced: list[Guide | None] = [None] * len(draws.rows)
    stopped = np.zeros(len(draws.rows), dtype=np.bool_)
    if not any(guide is not None for guide in guides):
        return advanced, stopped
    # Backwards: the first child comes last, so that the others are copied from a guide that has not moved.
    for child in range(len(draws.rows) - 1, -1, -1):
        row, token = int(draws.rows[child]), int(draws.tokens[child])
        guide = guides[row]
        if guide is not None:
            advanced[child] = own = guide if draws.first[child] else guide.fork()
            stopped[child] = own.advance(token, moved is not None and moved[row] == token)
    return advanced, stopped
