"""Tabular policies shaped like reasoning traces, with exact values: where a wrong estimator is caught."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pts.policies.tabular import Node

ON, OFF, PAD, RIGHT, WRONG = 1, 2, 3, 4, 5
"""The chain's own token, the token that leaves it, filler, and the two end tokens."""


@dataclass(frozen=True)
class ChainShape:
    """How a chain is drawn: its length in tokens, and what its off-trace values look like.

    Of the forks, a share `indifferent` changes the value by about `jitter`; the others have a value of their
    own, Beta(`spread`, `spread`).
    """

    length: int = 120
    forks: float = 0.3
    indifferent: float = 0.85
    jitter: float = 0.05
    spread: float = 0.5


def chain(shape: ChainShape, rng: np.random.Generator) -> Node:
    """A tree with one long trace of ON tokens, left at its forks by OFF into stubs of known value."""
    node = Node(success=bool(rng.random() < 0.5))
    value = float(node.success)
    for position in range(shape.length - 1, -1, -1):
        if rng.random() >= shape.forks:
            node = Node({ON: (1.0, node)})
            continue
        q = float(rng.uniform(0.2, 0.98))
        near = rng.random() < shape.indifferent
        off = value + rng.normal(0, shape.jitter) if near else rng.beta(shape.spread, shape.spread)
        off = float(np.clip(off, 0.0, 1.0))
        node = Node({ON: (q, node), OFF: (1.0 - q, _stub(off, shape.length - position - 1))})
        value = q * value + (1.0 - q) * off
    return node


def _stub(value: float, length: int) -> Node:
    """`length` tokens of filler, then an end that succeeds with probability `value`."""
    node = Node({RIGHT: (value, Node(success=True)), WRONG: (1.0 - value, Node())})
    for _ in range(max(length - 1, 0)):
        node = Node({PAD: (1.0, node)})
    return node
