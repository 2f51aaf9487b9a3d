"""Wishes given to a batch of logits at once are what they are row by row."""

import numpy as np
import pytest
import torch

from pts.policies.guide import Wish
from pts.policies.transformers.wishes import grant

ROWS, VOCABULARY = 6, 23
WISHES = [
    (0, Wish(forced=4)),
    (1, Wish(banned=(3,), heir=7)),
    (2, Wish(banned=(1, 2, 9), heir=20)),
    (4, Wish(banned=(5, 6))),
    (5, Wish(forced=0, banned=(0,), heir=2)),
]


def one_by_one(logits, wish):
    """A row's logits under a wish, and whether its heir stands for a banned token; in plain Python."""
    row = logits.tolist()
    if wish.forced is not None:
        row[wish.forced] = max(row) + 1e4
        return row, -1
    best, own = max(row[token] for token in wish.banned), None if wish.heir is None else row[wish.heir]
    for token in wish.banned:
        row[token] = -float("inf")
    if own is None:
        return row, -1
    row[wish.heir] = max(own, best)
    return row, wish.heir if best > own else -1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("seed", range(8))
def test_a_batch_is_what_its_rows_are_one_by_one(dtype, seed):
    logits = torch.randn(ROWS, VOCABULARY, generator=torch.Generator().manual_seed(seed)).to(dtype)
    before = logits.clone()
    moved = grant(logits, WISHES)
    expected, heirs = before.clone(), np.full(ROWS, -1)
    for row, wish in WISHES:
        values, heirs[row] = one_by_one(before[row], wish)
        expected[row] = torch.tensor(values, dtype=torch.float64).to(dtype)
    assert torch.equal(logits, expected)
    assert moved.tolist() == heirs.tolist()


def test_both_outcomes_of_an_heir_occur():
    logits = torch.zeros(2, 5)
    logits[:, 1] = torch.tensor([2.0, 0.5])
    logits[:, 3] = 1.0
    assert grant(logits, [(0, Wish(banned=(1,), heir=3)), (1, Wish(banned=(1,), heir=3))]).tolist() == [3, -1]
    assert logits[:, 3].tolist() == [2.0, 1.0]


def test_nothing_wanted_changes_nothing():
    logits = torch.randn(3, 5)
    before = logits.clone()
    assert grant(logits, []).tolist() == [-1, -1, -1]
    assert grant(logits, [(1, Wish())]).tolist() == [-1, -1, -1]
    assert torch.equal(logits, before)
