"""Chains of sentences with exact values: shapes of `shapes.py` in which some tokens end a line."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
from shapes import ON, ChainShape, chain

from pts.policies.tabular import Node, TabularPolicy
from pts.records import TokenIds, Trace

LAST = 6
"""The chain's own token where it ends a sentence."""


class SentencePolicy(TabularPolicy):
    """A tree whose token `LAST` ends a line, and so a sentence; its trace is the chain's own."""

    def decode(self, ids: TokenIds, stop: Sequence[str] = ()) -> str:  # noqa: ARG002 - ids are its text
        """The ids, each with a space or, after the last of a sentence, a line break."""
        return "".join(f"{token}\n" if token == LAST else f"{token} " for token in ids)

    def trace(self) -> Trace:
        """The chain from its start to its end, with each token's probability."""
        node, ids, probs = self.root, list[int](), list[float]()
        while node.children:
            token = next((t for t in (LAST, ON) if t in node.children), max(node.children))
            prob, node = node.children[token]
            ids.append(token)
            probs.append(prob)
        return Trace((), tuple(ids), tuple(probs), "end")


def in_sentences(root: Node, ends: Collection[int]) -> Node:
    """The chain with `LAST` in place of its own token before each position of `ends`."""
    path: list[Node] = []
    node = root
    while ON in node.children:
        path.append(node)
        node = node.children[ON][1]
    for position in range(len(path) - 1, -1, -1):
        children = dict(path[position].children)
        prob, _ = children.pop(ON)
        token = LAST if position + 1 in ends else ON
        node = replace(path[position], children={token: (prob, node), **children})
    return node


def sentence_chain(
    shape: ChainShape, rng: np.random.Generator, lengths: tuple[int, int] = (3, 10)
) -> SentencePolicy:
    """A chain in sentences of a random number of tokens in [low, high), its prompt's value from 0.3 to 0.7."""
    while True:
        root = chain(shape, rng)
        ends = np.cumsum(rng.integers(*lengths, size=shape.length))
        policy = SentencePolicy(in_sentences(root, set(ends.tolist())), budget=shape.length + 8)
        if 0.3 < policy.value(()) < 0.7:
            return policy
