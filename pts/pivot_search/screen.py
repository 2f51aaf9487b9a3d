"""The screen: adaptive rollouts that sort a trace's candidates into worth confirming and not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pts.pivot_search.allocate import information, spread_draws
from pts.pivot_search.posterior import Belief, believe
from pts.pivot_search.values import Floats, GradedRollout, Ints, TraceMap, off_trace_counts
from pts.records import DEFAULT_SAMPLING, RolloutRequest, Sampling, TokenIds
from pts.seeds import derive_seed

PRICE = 0.045
"""Rollouts that tell less of large effects, in nats for the tokens of a full trace, are not drawn."""
SENTENCE_PRICE = 2 * PRICE
"""The same where sentences alone are searched: which token of a sentence it is need not be told."""
DROPPED_IN_ALL = 0.1
"""A candidate is dropped when it is less likely to be pivotal than this, shared among all candidates."""
DROPPED_AT_MOST = 0.0075
"""A candidate is never dropped for being as likely as this, however few there are (before the screen ends)."""
MANY_CANDIDATES = 16
"""With fewer candidates the price falls in proportion: the prompt's rollouts are paid for whatever is found."""
ADVANCE_ABOVE = 0.9
"""A candidate more likely than this to be pivotal goes to the confirmation."""
ADVANCE_AT_LIMIT = 0.3
"""What is enough when the screen ends, or has given a candidate all the rollouts that it gives."""
MOST_DRAWS = 24
"""Off-trace draws at one fork after which the screen decides on its candidate."""
MOST_LOOKS = 64
EXPECTED_DRAWS = 8
"""Rollouts of a candidate of a short trace, on average: for saying beforehand what a screen will cost."""
EXPECTED_UNITS = 150
"""Full traces that a screen of a long trace takes in tokens, on average."""
LEAST_COST = 0.03
"""Of the trace's length: shorter rollouts are no cheaper, since they take a look as well."""
FEWEST_DRAWS, LARGEST_LOOK = 4, 64
"""Draws in one look at a trace, at most; between these, one for every two open candidates."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """A token, or with `end` a sentence, that a screen dropped.

    `pivotal` is how likely it was to be pivotal when it was, and `cost` the expected tokens of a rollout from
    before it.
    """

    position: int
    end: int | None
    pivotal: float
    cost: float


class TraceScreen:
    """Screens one trace: reads the rollouts so far, decides on candidates, asks for the next look.

    `region` is the part of the trace to search, as fractions of its length; its first `shared` tokens stand
    in an earlier trace of the same problem too and are left to that. A request's key is `key` with the look's
    number and the position at which the trace is left. Rollouts that tell less than `price` are not drawn.
    """

    def __init__(
        self,
        trace_map: TraceMap,
        threshold: float,
        region: tuple[float, float],
        *,
        seed: int,
        shared: int,
        key: str = "screen",
        sampling: Sampling = DEFAULT_SAMPLING,
        price: float = PRICE,
    ) -> None:
        self.map = trace_map
        self.advanced: list[int] = []
        self._threshold = threshold
        self._seed = seed
        self._key = key
        self._sampling = sampling
        self._looks = 0
        self._read = 0
        self._successes = np.zeros(len(trace_map.forks), dtype=np.int64)
        self._draws = np.zeros(len(trace_map.forks), dtype=np.int64)
        length = len(trace_map.trace.completion)
        forks = trace_map.forks
        inside = (forks >= region[0] * length) & (forks < max(region[1] * length, 1))
        large = (trace_map.most_effect >= threshold) & (forks >= shared)
        self._open = {int(k) for k in np.flatnonzero(inside & large)}
        candidates = max(len(self._open), 1)
        self._drop_below = min(DROPPED_AT_MOST, DROPPED_IN_ALL / candidates)
        self._price = price * min(candidates / MANY_CANDIDATES, 1.0)
        self._dropped: dict[int, float] = {}
        self._prefixes: dict[int, TokenIds] = {}
        self._fates = np.full(length, "e")
        self._fates[:shared] = "d"
        for k in np.flatnonzero(large):
            self._mark(int(k), "u" if inside[k] else "o")

    @property
    def open(self) -> int:
        """How many candidates are not decided yet."""
        return len(self._open)

    def fates(self) -> str:
        """What became of each token so far, by letter (`results.FATE_LETTERS`); the undecided are open."""
        return "".join(self._fates.tolist())

    def expected_tokens(self, rollouts: Sequence[GradedRollout]) -> int:
        """A rough cost of screening the open candidates: a few rollouts at each, or a long trace's share."""
        cost = expected_cost(self.map, rollouts)
        each = sum(EXPECTED_DRAWS * cost[k] for k in self._open)
        return int(min(each, EXPECTED_UNITS * len(self.map.trace.completion)))

    def tokens_to_confirm(self, rollouts: Sequence[GradedRollout]) -> int:
        """Expected new tokens of a rollout from each candidate that was advanced, together."""
        return int(expected_cost(self.map, rollouts)[self.advanced].sum())

    def dropped(self, rollouts: Sequence[GradedRollout]) -> list[Dropped]:
        """The candidates that were dropped, in their order."""
        cost = expected_cost(self.map, rollouts)
        return [
            Dropped(int(self.map.forks[k]), None, chance, float(cost[k]))
            for k, chance in sorted(self._dropped.items())
        ]

    def next_look(self, rollouts: Sequence[GradedRollout]) -> list[RolloutRequest]:
        """Decides on candidates by all rollouts so far and returns what to draw next; empty when done.

        `rollouts` are those of the last call and what came after them.
        """
        if not self._open:
            return []
        self._count(rollouts)
        belief = believe(self.map, self._successes, self._draws, self._threshold)
        cost = expected_cost(self.map, rollouts)
        self._decide(belief)
        draws = self._allocate(belief, cost)
        if not draws.any():
            self._close(belief)
            return []
        self._looks += 1
        return [self._request(int(k), int(draws[k])) for k in np.flatnonzero(draws)]

    def _request(self, k: int, n: int) -> RolloutRequest:
        """`n` draws that leave the trace at a fork."""
        trace, position = self.map.trace, int(self.map.forks[k])
        return RolloutRequest(
            prompt=trace.prompt,
            prefix=self._prefix(position),
            avoid=trace.completion[position],
            n=n,
            seed=derive_seed(self._seed, self._looks, k),
            key=f"{self._key}/{self._looks}/{position}",
            sampling=self._sampling,
        )

    def _count(self, rollouts: Sequence[GradedRollout]) -> None:
        """Adds what was drawn since the last look to the counts by fork."""
        successes, draws = off_trace_counts(rollouts[self._read :], self.map)
        self._read = len(rollouts)
        self._successes += successes
        self._draws += draws

    def _prefix(self, position: int) -> TokenIds:
        """The tokens before a position: one tuple for all looks, since every rollout keeps its request."""
        if position not in self._prefixes:
            self._prefixes[position] = self.map.trace.completion[:position]
        return self._prefixes[position]

    def _mark(self, k: int, letter: str) -> None:
        """Writes down what became of a fork's token."""
        self._fates[self.map.forks[k]] = letter

    def _decide(self, belief: Belief) -> None:
        for k in sorted(self._open):
            chance = belief.pivotal[k]
            at_limit = self._draws[k] >= MOST_DRAWS
            if chance >= (ADVANCE_AT_LIMIT if at_limit else ADVANCE_ABOVE):
                self._advance(k)
            elif chance < self._drop_below or at_limit:
                self._drop(k, chance)

    def _close(self, belief: Belief) -> None:
        """Decides on all that is open: more rollouts would tell too little for their tokens."""
        for k in sorted(self._open):
            if belief.pivotal[k] >= ADVANCE_AT_LIMIT:
                self._advance(k)
            else:
                self._drop(k, belief.pivotal[k])

    def _advance(self, k: int) -> None:
        self.advanced.append(k)
        self._open.discard(k)

    def _drop(self, k: int, chance: float) -> None:
        self._dropped[k] = float(chance)
        # Without a draw of its own it was what others told of the values: fact 3, or that nothing changes here.
        self._mark(k, "v" if self._draws[k] == 0 else "s")
        self._open.discard(k)

    def _allocate(self, belief: Belief, cost: Floats) -> Ints:
        """Draws by fork [F]: each where it tells most about open effects for a token spent."""
        if not self._open or self._looks >= MOST_LOOKS:
            return np.zeros(len(cost), dtype=np.int64)
        opened = np.zeros(len(cost), dtype=bool)
        opened[list(self._open)] = True
        nats = information(belief, opened, self.map.most_effect)
        most = int(np.clip(len(self._open) // 2, FEWEST_DRAWS, LARGEST_LOOK))
        return spread_draws(nats, cost, belief, most, self._price / len(self.map.trace.completion))


def expected_cost(trace_map: TraceMap, rollouts: Sequence[GradedRollout]) -> Floats:
    """Expected new tokens of a rollout from each fork [F], from the mean length of completions so far."""
    lengths = [len(trace_map.trace.completion)] + [r.length for r in rollouts]
    counts = [1] + [r.count for r in rollouts]
    length = float(np.average(lengths, weights=counts))
    cost: Floats = np.maximum(length - trace_map.forks, max(LEAST_COST * length, 4.0))
    return cost
