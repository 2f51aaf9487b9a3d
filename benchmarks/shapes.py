"""Tabular policies shaped like reasoning traces, with exact values: where a wrong estimator is caught.

A shape draws a policy and the trace to search. Chains are one long trace that is left at its forks into stubs
of known value; the `reasoner` is a Markov process over steps, whose traces are drawn from it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from pts.policies.tabular import Node, TabularPolicy
from pts.records import TokenIds

ON, OFF, PAD, RIGHT, WRONG = 1, 2, 3, 4, 5
"""A chain's own token, the token that leaves it, filler, and the two end tokens."""

Shape: TypeAlias = Callable[[np.random.Generator], tuple[Node, TokenIds]]


@dataclass(frozen=True)
class ChainShape:
    """How a chain is drawn: its length in tokens, and what its off-trace values look like.

    Of the forks, a share `indifferent` changes the value by about `jitter`; the others have a value of their
    own, Beta(`spread`, `spread`). Tokens that are no forks are left with a probability of up to 2 × `rare`, to
    little effect. `recovers` is the share of forks at which the trace takes a wrong turn of
    `depth` and, `gap` forks later, a token that takes it back: effects that cancel over a segment.
    """

    length: int = 120
    forks: float = 0.3
    indifferent: float = 0.85
    jitter: float = 0.05
    spread: float = 0.5
    rare: float = 0.0
    recovers: float = 0.0
    depth: float = 0.45
    gap: int = 3

    def __call__(self, rng: np.random.Generator) -> tuple[Node, TokenIds]:
        root = chain(self, rng)
        return root, long_trace(root)


def chain(shape: ChainShape, rng: np.random.Generator) -> Node:
    """A tree with one long trace of ON tokens, left at its forks by OFF into stubs of known value."""
    node = Node(success=bool(rng.random() < 0.5))
    value = float(node.success)
    falls: int | None = None
    for position in range(shape.length - 1, -1, -1):
        plain = rng.random() >= shape.forks
        if plain and not shape.rare:
            node = Node({ON: (1.0, node)})
            continue
        q = float(rng.uniform(1.0 - 2 * shape.rare, 1.0) if plain else rng.uniform(0.2, 0.98))
        turns = not plain and shape.recovers > 0 and rng.random() < shape.recovers
        if falls is not None and not plain:
            falls -= 1
        if not plain and (falls == 0 or (turns and falls is None)):
            # Backwards: first the token that recovers the value, `gap` forks before it the one that lost it.
            q = float(rng.uniform(0.2, 0.5))
            before = value - shape.depth if falls is None else value + shape.depth
            falls = shape.gap if falls is None else None
            off = (before - q * value) / (1.0 - q)
        elif plain or rng.random() < shape.indifferent:
            off = value + rng.normal(0, shape.jitter)
        else:
            off = rng.beta(shape.spread, shape.spread)
        off = float(np.clip(off, 0.0, 1.0))
        node = Node({ON: (q, node), OFF: (1.0 - q, _stub(off, shape.length - position - 1))})
        value = q * value + (1.0 - q) * off
    return node


def long_trace(root: Node) -> TokenIds:
    """A chain's own trace: ON to its end."""
    path, node = [], root
    while node.children:
        token = ON if ON in node.children else max(node.children)
        path.append(token)
        node = node.children[token][1]
    return tuple(path)


def _stub(value: float, length: int) -> Node:
    """`length` tokens of filler, then an end that succeeds with probability `value`."""
    node = Node({RIGHT: (value, Node(success=True)), WRONG: (1.0 - value, Node())})
    for _ in range(max(length - 1, 0)):
        node = Node({PAD: (1.0, node)})
    return node


@dataclass(frozen=True)
class ReasonerShape:
    """A reasoner: `steps` steps of about `step_length` tokens, each from one of `states` states of mind.

    At its start a step chooses between 2 to 4 words (Dirichlet, `sharpness`); most leave the state as it is,
    a share `eventful` moves it anywhere. Inside a step wordings fork and rejoin, which changes nothing. A
    run ends well with probability state / (states − 1), and long-windedness (the wordings) costs tokens.
    """

    steps: int = 10
    step_length: int = 10
    states: int = 7
    sharpness: float = 0.7
    eventful: float = 0.12
    wordings: int = 2

    def __call__(self, rng: np.random.Generator) -> tuple[Node, TokenIds]:
        root = self._tree(rng)
        return root, sampled_trace(root, rng)

    def _tree(self, rng: np.random.Generator) -> Node:
        ends = [s / (self.states - 1) for s in range(self.states)]
        later = [
            Node({RIGHT: (p, Node(success=True)), WRONG: (1 - p, Node())})
            if 0 < p < 1
            else Node(success=p == 1)
            for p in ends
        ]
        for _ in range(self.steps):
            later = [self._step(state, later, rng) for state in range(self.states)]
        return later[self.states // 2]

    def _step(self, state: int, later: list[Node], rng: np.random.Generator) -> Node:
        words = int(rng.integers(2, 5))
        probs = rng.dirichlet(np.full(words, self.sharpness))
        probs[probs < 0.02] = 0.0
        probs /= probs.sum()
        children: dict[int, tuple[float, Node]] = {}
        for word in np.flatnonzero(probs):
            moves = rng.random() < self.eventful
            target = int(rng.integers(self.states)) if moves else state
            children[10 + int(word)] = (float(probs[word]), self._wording(later[target], rng))
        return Node(children)

    def _wording(self, then: Node, rng: np.random.Generator) -> Node:
        """Filler before `then`, with forks between wordings that lead to the same place."""
        node = then
        for _ in range(self.wordings):
            for _ in range(int(rng.poisson(self.step_length / self.wordings))):
                node = Node({PAD: (1.0, node)})
            q = float(rng.uniform(0.3, 0.95))
            node = Node({ON: (q, node), OFF: (1.0 - q, Node({PAD: (1.0, node)}))})
        return node


@dataclass(frozen=True)
class LongShape:
    """A long chain, a share `forks` of whose tokens are forks, drawn as whole arrays.

    On average `influential` forks have an off-trace value of their own, Beta(`spread`, `spread`); at the others
    it is the value after the token, give or take `jitter`. On average `pairs` wrong turns of `depth` are taken
    back after `apart` tokens (from, to): effects that cancel.
    """

    length: int
    influential: float = 3.6
    pairs: float = 0.0
    forks: float = 0.2
    jitter: float = 0.01
    spread: float = 0.5
    depth: float = 0.45
    apart: tuple[int, int] = (10, 40)

    def __call__(self, rng: np.random.Generator) -> tuple[Node, TokenIds]:
        is_fork = rng.random(self.length) < self.forks
        q = np.where(is_fork, rng.uniform(0.2, 0.98, self.length), 1.0)
        own = is_fork & (rng.random(self.length) < self.influential / (self.forks * self.length))
        turns = self._turns(is_fork, rng)
        tails = _tails(self.length)
        node = Node(success=bool(rng.random() < 0.5))
        value = float(node.success)
        for position in range(self.length - 1, -1, -1):
            here = float(q[position])
            if position in turns:
                # The value before the token is to be lower (or, taken back, higher) by `depth`.
                here = float(rng.uniform(0.2, 0.5))
                off = value - turns[position] * self.depth / (1.0 - here)
            elif own[position]:
                off = rng.beta(self.spread, self.spread)
            else:
                off = value + rng.normal(0.0, self.jitter)
            off = float(np.clip(off, 0.0, 1.0))
            if not is_fork[position]:
                node = Node({ON: (1.0, node)})
                continue
            node = Node({ON: (here, node), OFF: (1.0 - here, _ending(off, self.length - position - 1, tails))})
            value = here * value + (1.0 - here) * off
        return node, long_trace(node)

    def _turns(self, is_fork: npt.NDArray[np.bool_], rng: np.random.Generator) -> dict[int, float]:
        """The sign of the effect at both forks of each pair: the value falls, and is taken back."""
        turns: dict[int, float] = {}
        for _ in range(int(rng.poisson(self.pairs))):
            first = int(rng.choice(np.flatnonzero(is_fork)))
            after = np.flatnonzero(is_fork[first : first + self.apart[1] + 1]) + first
            after = after[after >= first + self.apart[0]]
            if not len(after) or any(first - self.apart[1] <= turn <= after[-1] for turn in turns):
                continue
            second = int(rng.choice(after))
            turns |= {first: -1.0, second: 1.0}
        return turns


def _tails(length: int) -> tuple[list[Node], list[Node]]:
    """Fillers of every length up to `length` that end in success, and such that end in failure."""
    right, wrong = [Node({RIGHT: (1.0, Node(success=True))})], [Node({WRONG: (1.0, Node())})]
    for tail in (right, wrong):
        for _ in range(length):
            tail.append(Node({PAD: (1.0, tail[-1])}))
    return right, wrong


def _ending(value: float, length: int, tails: tuple[list[Node], list[Node]]) -> Node:
    """`length` tokens that succeed with probability `value`; which it will be is drawn at the first."""
    right, wrong = (tail[max(length - 2, 0)] for tail in tails)
    return Node({PAD: (value, right), ON: (1.0 - value, wrong)})


@dataclass(frozen=True)
class DetourShape:
    """A reasoner that now and then takes a detour, from which it comes back or not.

    `steps` steps of about `step_length` tokens. On average `detours` steps choose between going straight on and
    a detour of 3 to 8 steps; at its end one word leads back and the other to another state of mind. A run ends
    well with the probability of its state. Wordings inside a step fork and rejoin, to no effect.
    """

    steps: int
    step_length: int = 10
    states: int = 5
    detours: float = 4.0

    def __call__(self, rng: np.random.Generator) -> tuple[Node, TokenIds]:
        ends = np.linspace(0.05, 0.95, self.states)
        later = [Node({RIGHT: (float(p), Node(success=True)), WRONG: (1.0 - float(p), Node())}) for p in ends]
        for _ in range(self.steps):
            later = [self._step(state, later, rng) for state in range(self.states)]
        root = later[self.states // 2]
        return root, sampled_trace(root, rng)

    def _step(self, state: int, later: list[Node], rng: np.random.Generator) -> Node:
        straight = self._wording(later[state], rng)
        if rng.random() >= self.detours / self.steps:
            return straight
        lost = later[int(rng.choice([other for other in range(self.states) if other != state]))]
        back = float(rng.uniform(0.2, 0.8))
        detour = Node({RIGHT: (back, later[state]), WRONG: (1.0 - back, lost)})
        for _ in range(int(rng.integers(3, 9))):
            detour = self._wording(detour, rng)
        stays = float(rng.uniform(0.3, 0.7))
        return Node({RIGHT: (stays, straight), WRONG: (1.0 - stays, detour)})

    def _wording(self, then: Node, rng: np.random.Generator) -> Node:
        """A step of filler with two forks, each between two wordings that lead to the same place."""
        node = then
        for _ in range(2):
            for _ in range(int(rng.poisson(self.step_length / 2 - 1))):
                node = Node({PAD: (1.0, node)})
            q = float(rng.uniform(0.3, 0.95))
            node = Node({ON: (q, node), OFF: (1.0 - q, node)})
        return node


def sampled_trace(root: Node, rng: np.random.Generator) -> TokenIds:
    """A trace drawn from the policy itself."""
    path: list[int] = []
    node = root
    while node.children:
        tokens = list(node.children)
        token = int(rng.choice(tokens, p=[node.children[t][0] for t in tokens]))
        path.append(token)
        node = node.children[token][1]
    return tuple(path)


SHAPES: dict[str, Shape] = {
    "mixed": ChainShape(),
    "eventful": ChainShape(indifferent=0.65),
    "jittery": ChainShape(indifferent=0.95, jitter=0.15),
    "cancelling": ChainShape(indifferent=0.95, recovers=0.08),
    "long": ChainShape(length=360, forks=0.15, indifferent=0.92),
    "reasoner": ReasonerShape(),
}


LONG_KINDS = ("isolated", "growing", "cancelling", "drifting", "detours")
"""What long traces are like: `long_shape`."""


def long_shape(kind: str, length: int) -> Shape:
    """The shape of a kind at a length in tokens. Only in `growing` do the influential forks grow with it."""
    shapes: dict[str, Shape] = {
        "isolated": LongShape(length),
        "growing": LongShape(length, influential=3.6 * length / 480),
        "cancelling": LongShape(length, influential=1.5, pairs=2.0),
        "drifting": LongShape(length, jitter=0.8 * length**-0.5),
        "detours": DetourShape(length // 10),
    }
    return shapes[kind]


def policy_in_range(
    shape: Shape, rng: np.random.Generator, *, low: float = 0.25, high: float = 0.75, budget: int = 512
) -> tuple[TabularPolicy, TokenIds]:
    """A policy of the shape whose prompt's value is between `low` and `high`, and its trace."""
    while True:
        root, trace = shape(rng)
        policy = TabularPolicy(root, budget)
        if low < policy.value(()) < high:
            return policy, trace
