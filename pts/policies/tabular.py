"""A policy given by an explicit tree of token probabilities and leaf grades, with exact values for tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from pts.policies.protocol import PolicyIdentity
from pts.policies.source import RolloutRequests, as_source
from pts.records import (
    Problem,
    Rollout,
    RolloutRequest,
    Sampling,
    TokenDistribution,
    TokenIds,
)

_TAKEN = 64
"""Requests taken from a source at a time."""


@dataclass(frozen=True, eq=False)
class Node:
    """A point in the tree: its next tokens with probability and node, or a leaf with its grade.

    A node may stand in several places (equal subtrees need not be copied).
    """

    children: Mapping[int, tuple[float, Node]] = field(default_factory=dict)
    success: bool = False


class TabularPolicy:
    """The Policy protocol over a tree; values, off-trace values and effects are exact.

    Text is the ids joined by spaces; `grade` reads the grade of a leaf off the tree, so that a grader sees
    nothing but the completion. A request's truncation is taken to be in the tree already; of its sampling the
    budget alone counts. `budget` is the one that the exact values below hold under.
    """

    def __init__(self, root: Node, budget: int = 512) -> None:
        self.root = root
        self.budget = budget
        self._values: dict[tuple[int, int], float] = {}
        self._heights: dict[int, int] = {}

    @property
    def identity(self) -> PolicyIdentity:
        """A tree, with no more to tell."""
        return PolicyIdentity("tabular")

    @property
    def end_token_ids(self) -> tuple[int, ...]:
        """None: a completion ends at a leaf."""
        return ()

    @property
    def vocabulary_size(self) -> int:
        """One more than the largest token id of the tree."""
        largest, seen, stack = -1, {id(self.root)}, [self.root]
        while stack:
            children = stack.pop().children
            largest = max(largest, *children) if children else largest
            below = [node for _, node in children.values() if id(node) not in seen]
            seen.update(map(id, below))
            stack += below
        return largest + 1

    def encode(self, problem: Problem) -> TokenIds:  # noqa: ARG002 - the tree is the only prompt
        """The empty prompt."""
        return ()

    def encode_completion(self, text: str) -> TokenIds:
        """The ids that a text consists of."""
        return tuple(map(int, text.split()))

    def end_of_stop(self, completion: TokenIds, stop: Sequence[str]) -> int | None:  # noqa: ARG002
        """None: ids hold no stop texts."""
        return None

    def check_length(self, prompt: int, sampling: Sampling) -> None:
        """Nothing is too long for a tree."""

    def decode(self, ids: TokenIds, stop: Sequence[str] = ()) -> str:  # noqa: ARG002 - ids are its text
        """The ids joined by spaces."""
        return " ".join(map(str, ids))

    def grade(self, completion: str, answer: str) -> bool:  # noqa: ARG002 - the tree holds the grades
        """The grade of a completion: its leaf's, and False where the budget cut it."""
        node = self.node(tuple(map(int, completion.split())))
        return node.success and not node.children

    def node(self, path: TokenIds) -> Node:
        """The node that a completion so far leads to. Raises KeyError for a token that the tree lacks."""
        node = self.root
        for token in path:
            node = node.children[token][1]
        return node

    def value(self, path: TokenIds) -> float:
        """Exact V: P(success) from the completion so far, under the budget."""
        return self._value(self.node(path), self.budget - len(path))

    def values_along(self, trace: TokenIds) -> list[float]:
        """Exact V_0 … V_T: the value before each token of a trace, and after the last."""
        node, values = self.root, [self.value(())]
        for position, token in enumerate(trace):
            node = node.children[token][1]
            values.append(self._value(node, self.budget - position - 1))
        return values

    def off_trace_value(self, path: TokenIds, token: int) -> float:
        """Exact O: P(success) from `path` given that the next token is not `token`."""
        node, left = self.node(path), self.budget - len(path) - 1
        others = [(prob, child) for other, (prob, child) in node.children.items() if other != token]
        mass = sum(prob for prob, _ in others)
        return sum(prob * self._value(child, left) for prob, child in others) / mass

    def effect(self, path: TokenIds, token: int) -> float:
        """Exact Δ = V(path + token) − V(path)."""
        return self.value((*path, token)) - self.value(path)

    def _value(self, node: Node, left: int) -> float:
        """V of a node with `left` tokens of budget; by a stack, since trees may be thousands of tokens deep."""
        heights = self._heights
        _measure(node, heights)
        # More room than the longest completion needs changes nothing: one entry serves all of it.
        goal = (id(node), min(left, heights[id(node)]))
        stack = [(node, goal)]
        while stack:
            top, key = stack[-1]
            room = key[1]
            if not top.children or room <= 0:
                self._values[key] = float(top.success and not top.children)
                stack.pop()
                continue
            below = [
                (prob, child, (id(child), min(room - 1, heights[id(child)])))
                for prob, child in top.children.values()
            ]
            missing = [(child, key) for _, child, key in below if key not in self._values]
            if missing:
                stack += missing
                continue
            self._values[key] = sum(prob * self._values[key] for prob, _, key in below)
            stack.pop()
        return self._values[goal]

    def next_token_probs(
        self,
        prompt: TokenIds,  # noqa: ARG002
        completion: TokenIds,
        sampling: Sampling,  # noqa: ARG002
    ) -> list[TokenDistribution]:
        """The tree's distributions along a completion."""
        node, found = self.root, []
        for token in completion:
            pairs = sorted(((p, t) for t, (p, _) in node.children.items()), key=lambda pair: -pair[0])
            found.append(TokenDistribution(np.array([t for _, t in pairs]), np.array([p for p, _ in pairs])))
            node = node.children[token][1]
        return found

    def rollouts(self, requests: RolloutRequests) -> Iterator[Rollout]:
        """Completions with counts, each request split down the tree by multinomial draws of its own seed."""
        source = as_source(requests)
        while taken := source.take(_TAKEN):
            for request in taken:
                yield from self._request(request)

    def _request(self, request: RolloutRequest) -> Iterator[Rollout]:
        rng, budget = np.random.default_rng(request.seed), request.sampling.budget
        open_rows: list[tuple[TokenIds, Node, int]] = []
        start = self.node(request.prefix)
        if request.force is not None:
            child = start.children[request.force][1]
            open_rows.append(((*request.prefix, request.force), child, request.n))
        elif not start.children or len(request.prefix) >= budget:
            open_rows.append((request.prefix, start, request.n))
        else:
            open_rows += self._split(request.prefix, start, request.n, request.avoid, rng)
        while open_rows:
            path, node, count = open_rows.pop()
            run: list[int] = []
            while len(node.children) == 1 and len(path) + len(run) < budget:
                token, (_, node) = next(iter(node.children.items()))
                run.append(token)
            path += tuple(run)
            if not node.children:
                yield Rollout(request, path, count, "end")
            elif len(path) >= budget:
                yield Rollout(request, path, count, "budget")
            else:
                open_rows += self._split(path, node, count, None, rng)

    @staticmethod
    def _split(
        path: TokenIds, node: Node, count: int, avoid: int | None, rng: np.random.Generator
    ) -> list[tuple[TokenIds, Node, int]]:
        options = [(token, p, child) for token, (p, child) in node.children.items() if token != avoid]
        if not options:
            raise ValueError(f"token {avoid} is the only one after {path}; nothing is left to draw")
        probs = np.array([p for _, p, _ in options])
        counts = rng.multinomial(count, probs / probs.sum())
        return [
            ((*path, token), child, int(k)) for (token, _, child), k in zip(options, counts, strict=True) if k
        ]


def _measure(node: Node, heights: dict[int, int]) -> None:
    """Write how many tokens the longest completion from each node below `node` has, by identity."""
    stack = [node]
    while stack:
        top = stack[-1]
        missing = [child for _, child in top.children.values() if id(child) not in heights]
        if missing:
            stack += missing
            continue
        heights[id(top)] = max((heights[id(child)] + 1 for _, child in top.children.values()), default=0)
        stack.pop()
