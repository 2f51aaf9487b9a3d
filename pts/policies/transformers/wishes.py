"""What guides want of the next token, given to a batch of logits at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from pts.policies.guide import Guide, Wish

_FORCED = 1e4
"""How far the logit of a forced token is put above all others: no sampler draws another one."""


def wishes_of(guides: Sequence[Guide | None]) -> list[tuple[int, Wish]]:
    """The rows whose guide wants anything, each with its wish."""
    asked = ((row, guide.wish()) for row, guide in enumerate(guides) if guide is not None)
    return [(row, wish) for row, wish in asked if wish is not None]


@torch.inference_mode()
def grant(logits: torch.Tensor, wishes: Sequence[tuple[int, Wish]]) -> npt.NDArray[np.int64]:
    """Change `logits` [rows, vocabulary] in place, before any truncation, as the wishes want it.

    Returns for each row [rows] the token that now stands where a banned one would have been drawn; −1 for none.
    """
    forced = [(row, wish.forced) for row, wish in wishes if wish.forced is not None]
    if forced:
        rows, tokens = torch.tensor(forced, device=logits.device).T
        logits[rows, tokens] = logits[rows].amax(dim=-1) + _FORCED
    moved = np.full(len(logits), -1, dtype=np.int64)
    bans = [(row, wish) for row, wish in wishes if wish.forced is None and wish.banned]
    if not bans:
        return moved
    longest = max(len(wish.banned) for _, wish in bans)
    # Shorter lists repeat their first token, which changes nothing.
    columns = [wish.banned + wish.banned[:1] * (longest - len(wish.banned)) for _, wish in bans]
    rows = torch.tensor([row for row, _ in bans], device=logits.device)
    banned = torch.tensor(columns, device=logits.device)
    heirs = [(place, wish.heir) for place, (_, wish) in enumerate(bans) if wish.heir is not None]
    best = logits[rows[:, None], banned].amax(dim=-1)
    places, tokens = torch.tensor(heirs, dtype=torch.int64, device=logits.device).reshape(-1, 2).T
    own = logits[rows[places], tokens]
    logits[rows[:, None], banned] = -torch.inf
    logits[rows[places], tokens] = torch.maximum(own, best[places])
    for took, (place, token) in zip((best[places] > own).tolist(), heirs, strict=True):
        if took:
            moved[bans[place][0]] = token
    return moved
