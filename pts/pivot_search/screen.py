"""The screen: adaptive rollouts that sort a trace's candidates into worth confirming and not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pts.pivot_search.posterior import Belief, believe
from pts.pivot_search.values import Floats, GradedRollout, Ints, TraceMap, off_trace_counts
from pts.records import DEFAULT_SAMPLING, RolloutRequest, Sampling, TokenIds
from pts.seeds import derive_seed

DROP_PER_TOKEN = 0.0003
"""A candidate is dropped when it is less likely to be pivotal than this for each token of a rollout from it."""
DROP_BELOW = (0.004, 0.03)
"""Bounds of what drops a candidate: certainty is cheap where rollouts are short, not where they are long."""
ADVANCE_ABOVE = 0.8
"""A candidate more likely than this to be pivotal goes to the confirmation."""
ADVANCE_AT_LIMIT = 0.3
"""What is enough for a candidate that has had all the rollouts that the screen gives."""
MOST_DRAWS = 24
"""Off-trace draws at one fork after which the screen decides on its candidate."""
MOST_LOOKS = 48
BLOCK = 2
"""Rollouts are asked for in blocks of this many from one prefix."""
EXPECTED_DRAWS = 8
"""Rollouts that a candidate takes on average, for saying beforehand what a screen will cost."""
FEWEST_BLOCKS, MOST_BLOCKS = 4, 256
"""Blocks in one look at a trace; between these, one for each open candidate."""


class TraceScreen:
    """Screens one trace: reads the rollouts so far, decides on candidates, asks for the next look.

    `region` is the part of the trace to search, as fractions of its length; its first `shared` tokens stand
    in an earlier trace of the same problem too and are left to that. A request's key is `key` with the look's
    number and the fork's position.
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
    ) -> None:
        self.map = trace_map
        self.advanced: list[int] = []
        self._threshold = threshold
        self._seed = seed
        self._key = key
        self._sampling = sampling
        self._rng = np.random.default_rng(seed)
        self._looks = 0
        length = len(trace_map.trace.completion)
        forks = trace_map.forks
        inside = (forks >= region[0] * length) & (forks < max(region[1] * length, 1))
        large = (trace_map.most_effect >= threshold) & (forks >= shared)
        self._open = {int(k) for k in np.flatnonzero(inside & large)}
        self._prefixes: dict[int, TokenIds] = {}
        self._fates = np.full(length, "e")
        self._fates[:shared] = "d"
        self._fates[forks[large]] = np.where(inside[large], "u", "o")

    @property
    def open(self) -> int:
        """How many candidates are not decided yet."""
        return len(self._open)

    def fates(self) -> str:
        """What became of each token so far, by letter (`pts.records.FATE_LETTERS`); the undecided are open."""
        return "".join(self._fates.tolist())

    def expected_tokens(self, rollouts: Sequence[GradedRollout]) -> int:
        """A rough cost of screening the open candidates: a few rollouts at each, to the end of the trace."""
        cost = _expected_cost(self.map, rollouts)
        return int(sum(EXPECTED_DRAWS * cost[k] for k in self._open))

    def next_look(self, rollouts: Sequence[GradedRollout]) -> list[RolloutRequest]:
        """Decides on candidates by all rollouts so far and returns what to draw next; empty when done."""
        if not self._open:
            return []
        successes, draws = off_trace_counts(rollouts, self.map)
        belief = believe(self.map, successes, draws, self._threshold, self._rng)
        cost = _expected_cost(self.map, rollouts)
        self._decide(belief, draws, cost)
        if not self._open:
            return []
        self._looks += 1
        trace = self.map.trace
        blocks = self._allocate(belief, cost)
        return [
            RolloutRequest(
                prompt=trace.prompt,
                prefix=self._prefix(int(k)),
                avoid=trace.completion[int(self.map.forks[k])],
                n=int(blocks[k]) * BLOCK,
                seed=derive_seed(self._seed, self._looks, int(k)),
                key=f"{self._key}/{self._looks}/{int(self.map.forks[k])}",
                sampling=self._sampling,
            )
            for k in np.flatnonzero(blocks)
        ]

    def _prefix(self, k: int) -> TokenIds:
        """The tokens before a fork: one tuple for all looks, since every rollout keeps its request."""
        if k not in self._prefixes:
            self._prefixes[k] = self.map.trace.completion[: int(self.map.forks[k])]
        return self._prefixes[k]

    def _decide(self, belief: Belief, draws: Ints, cost: Floats) -> None:
        drop_below = np.clip(DROP_PER_TOKEN * cost, *DROP_BELOW)
        last = self._looks >= MOST_LOOKS
        for k in sorted(self._open):
            chance = belief.pivotal[k]
            at_limit = last or draws[k] >= MOST_DRAWS
            if chance >= (ADVANCE_AT_LIMIT if at_limit else ADVANCE_ABOVE):
                self.advanced.append(k)
            elif chance >= drop_below[k] and not at_limit:
                continue
            else:
                # Without a draw it was fact 3: (1 − q)·max(V, 1 − V) below the threshold leaves no room.
                self._fates[self.map.forks[k]] = "v" if draws[k] == 0 else "s"
            self._open.discard(k)

    def _allocate(self, belief: Belief, cost: Floats) -> Ints:
        """Blocks of rollouts by fork [F]: each where it resolves most open effects for a token spent."""
        opened = np.array(sorted(self._open))
        chance = np.clip(belief.pivotal[opened], 0.01, 0.99)
        urgency = np.zeros(len(belief.pivotal))
        urgency[opened] = chance * (1.0 - chance) / np.maximum(belief.effect_variance[opened], 1e-9)
        pull = self.map.pull(urgency)
        spread = np.maximum(belief.off_trace_mean * (1.0 - belief.off_trace_mean), 1e-4)
        variance = np.minimum(belief.off_trace_variance, spread * 0.999)
        blocks = np.zeros(len(variance), dtype=np.int64)
        for _ in range(int(np.clip(len(opened), FEWEST_BLOCKS, MOST_BLOCKS))):
            # One Bernoulli draw lowers the expected variance of its rate by variance² / (mean·(1 − mean)).
            gain = pull * variance**2 / (spread * cost)
            best = int(np.argmax(gain))
            blocks[best] += 1
            variance[best] = 1.0 / (1.0 / variance[best] + BLOCK / spread[best])
        return blocks


def _expected_cost(trace_map: TraceMap, rollouts: Sequence[GradedRollout]) -> Floats:
    """Expected new tokens of a rollout from each fork [F], from the mean length of completions so far."""
    lengths = [len(trace_map.trace.completion)] + [r.length for r in rollouts]
    counts = [1] + [r.count for r in rollouts]
    return np.maximum(np.average(lengths, weights=counts) - trace_map.forks, 4.0)
