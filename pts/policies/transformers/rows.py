"""The rows of a batch: what each is a completion of, and the branches that wait for a row."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pts.policies.guide import Guide
from pts.policies.protocol import Finished
from pts.records import Finish, Rollout, RolloutRequest, Sampling, TokenIds

Ints = npt.NDArray[np.int64]


@dataclass(slots=True, eq=False)
class Fork:
    """Where branches left a row of a model that keeps states.

    The state that they go on from is the row's own until its next step; after that it is kept in `slot`.
    `holders` is how many have still to go on from it.
    """

    slot: int | None = None
    holders: int = 0


@dataclass(frozen=True, slots=True)
class Branch:
    """`count` completions that left a row where they drew `token`, the `made`-th of their tokens."""

    token: int
    prob: float
    key: int
    count: int
    made: int
    guide: Guide | None = None
    fork: Fork | None = None


@dataclass(frozen=True, slots=True)
class Parked:
    """A completion that lost its row: all that it needs to go on in another as if nothing had happened.

    Its keys and values are read again from its tokens [made]; `probs` [made] are those drawn with.
    """

    request: RolloutRequest
    tokens: npt.NDArray[np.int32]
    probs: npt.NDArray[np.float64]
    key: int
    count: int
    avoid: int
    guide: Guide | None


_PER_ROW = (
    *("prompt_length", "made", "last", "count", "avoid", "variant", "key"),
    *("budget", "sampler", "has_stops"),
)
"""The table's columns of one number a row."""


class RowTable:
    """Completions in progress, one a row, in rows 0 to `active` − 1; equal ones are one row with a count.

    Of a row's tokens (the prompt, then `made` tokens of the completion) all but the last are in its cache: the
    next forward pass reads the last and gives the distribution of the next one.

    A row that forks goes on with one child; the others wait as branches *of that row*. What a branch needs, the
    cached tokens before its own, stays in the row, which only ever writes behind that point. So when the row's
    current completion ends it turns to its deepest branch, at no cost, and a free row takes a shallowest one.
    Of a model that keeps states, these are kept beside the rows for a branch that waits (see `forks`).
    `sampler` [rows] says by which of the `samplers` a row draws: samplings that differ only in budget and stop
    texts draw by the same one.
    """

    def __init__(self) -> None:
        self.active = 0
        self.prompt_length = np.zeros(0, dtype=np.int64)
        self.made = np.zeros(0, dtype=np.int64)
        self.last = np.zeros(0, dtype=np.int64)
        self.count = np.zeros(0, dtype=np.int64)
        self.avoid = np.zeros(0, dtype=np.int64)
        self.variant = np.zeros(0, dtype=np.int64)
        self.key = np.zeros(0, dtype=np.uint64)
        self.budget = np.zeros(0, dtype=np.int64)
        self.sampler = np.zeros(0, dtype=np.int64)
        self.has_stops = np.zeros(0, dtype=np.bool_)
        self.samplers: list[Sampling] = []
        self._sampler_indexes: dict[tuple[float, int, float, float], int] = {}
        self.tokens = np.zeros((0, 0), dtype=np.int32)
        self.probs = np.zeros((0, 0), dtype=np.float64)
        self.requests: list[RolloutRequest | None] = []
        self.guides: list[Guide | None] = []
        self.branches: list[deque[Branch]] = []

    def reserve(self, rows: int) -> None:
        """Make room for at least so many rows."""
        extra = rows - len(self.made)
        if extra <= 0:
            return
        for name in (*_PER_ROW, "tokens", "probs"):
            old = getattr(self, name)
            setattr(self, name, np.concatenate([old, np.zeros((extra, *old.shape[1:]), dtype=old.dtype)]))
        self.requests += [None] * extra
        self.guides += [None] * extra
        self.branches += [deque() for _ in range(extra)]

    def ids(self, row: int) -> TokenIds:
        """A row's tokens, the prompt's first."""
        request = self.requests[row]
        assert request is not None
        return (*request.prompt, *self.tokens[row, : int(self.made[row])].tolist())

    @property
    def occupied(self) -> list[int]:
        """The rows that hold a completion."""
        return [row for row in range(self.active) if self.requests[row] is not None]

    @property
    def positions(self) -> Ints:
        """Position of each active row's last token: how many tokens are in its cache."""
        return self.prompt_length[: self.active] + self.made[: self.active] - 1

    @property
    def steered(self) -> Ints:
        """The variant that each active row's next step is made by.

        0 where the last token is the prompt's, or the row's guide does not steer there.
        """
        steered = np.where(self.made[: self.active] > 0, self.variant[: self.active], 0)
        for row, guide in enumerate(self.guides[: self.active]):
            if guide is not None and steered[row]:
                steered[row] = guide.steered(int(steered[row]))
        return steered

    def start(self, row: int, request: RolloutRequest, key: int) -> None:
        """Begin a request in a row."""
        given = request.prefix if request.force is None else (*request.prefix, request.force)
        self._assign(row, request)
        self.made[row] = len(given)
        self.tokens[row, : len(given)] = given
        self.probs[row, : len(given)] = np.nan
        self.last[row] = given[-1] if given else request.prompt[-1]
        self.count[row] = request.n
        self.avoid[row] = -1 if request.avoid is None else request.avoid
        self.key[row] = key
        self.guides[row] = None if request.guide is None else request.guide()

    def _assign(self, row: int, request: RolloutRequest) -> None:
        """Write down what a row is a completion of."""
        sampling = request.sampling
        self.requests[row] = request
        self.prompt_length[row] = len(request.prompt)
        self.variant[row] = request.variant
        self.budget[row] = sampling.budget
        self.has_stops[row] = bool(sampling.stop)
        self.sampler[row] = self.sampler_of(sampling)
        if sampling.budget > self.tokens.shape[1]:
            more = ((0, 0), (0, sampling.budget - self.tokens.shape[1]))
            self.tokens, self.probs = np.pad(self.tokens, more), np.pad(self.probs, more)

    def sampler_of(self, sampling: Sampling) -> int:
        """The index of a sampling's sampler, a new one where there was none like it."""
        sampler = (sampling.temperature, sampling.top_k, sampling.top_p, sampling.min_p)
        if sampler not in self._sampler_indexes:
            self._sampler_indexes[sampler] = len(self.samplers)
            self.samplers.append(sampling)
        return self._sampler_indexes[sampler]

    def park(self, row: int) -> list[Parked]:
        """Empty a row: what it was at work on, then the branches that waited in it."""
        request = self.requests[row]
        assert request is not None
        made = int(self.made[row])
        parked = [
            Parked(
                request,
                self.tokens[row, :made].copy(),
                self.probs[row, :made].copy(),
                int(self.key[row]),
                int(self.count[row]),
                int(self.avoid[row]),
                self.guides[row],
            ),
            *(self.parked(row, branch) for branch in self.branches[row]),
        ]
        self.branches[row].clear()
        self.clear(row)
        return parked

    def parked(self, row: int, branch: Branch) -> Parked:
        """A branch of a row as a completion that needs no row to wait in."""
        request, before = self.requests[row], branch.made - 1
        assert request is not None
        tokens = np.append(self.tokens[row, :before], np.int32(branch.token))
        probs = np.append(self.probs[row, :before], branch.prob)
        return Parked(request, tokens, probs, branch.key, branch.count, -1, branch.guide)

    def clear(self, row: int) -> None:
        """Leave a row empty."""
        self.requests[row] = self.guides[row] = None
        self.prompt_length[row] = self.budget[row] = 0

    def resume(self, row: int, parked: Parked) -> None:
        """Go on with a parked completion in a row."""
        request, made = parked.request, len(parked.tokens)
        self._assign(row, request)
        self.made[row] = made
        self.tokens[row, :made] = parked.tokens
        self.probs[row, :made] = parked.probs
        self.last[row] = parked.tokens[-1] if made else request.prompt[-1]
        self.count[row] = parked.count
        self.avoid[row] = parked.avoid
        self.key[row] = parked.key
        self.guides[row] = parked.guide

    def enter(self, row: int, branch: Branch) -> None:
        """Go on with a branch in a row whose tokens before the branch's own are already its ancestors'."""
        self.tokens[row, branch.made - 1] = branch.token
        self.probs[row, branch.made - 1] = branch.prob
        self.made[row] = branch.made
        self.last[row] = branch.token
        self.count[row] = branch.count
        self.avoid[row] = -1
        self.key[row] = branch.key
        self.guides[row] = branch.guide

    def share(self, source: int, target: int) -> None:
        """Give a row the request and the completion tokens of another, for a branch of that one to enter."""
        self.requests[target] = self.requests[source]
        for values in (self.prompt_length, self.variant, self.budget, self.sampler, self.has_stops):
            values[target] = values[source]
        self.tokens[target] = self.tokens[source]
        self.probs[target] = self.probs[source]

    def move(self, source: int, target: int) -> None:
        """Move a row with its branches to a free place."""
        self.share(source, target)
        for values in (self.made, self.last, self.count, self.avoid, self.key):
            values[target] = values[source]
        self.branches[target], self.branches[source] = self.branches[source], self.branches[target]
        self.guides[target] = self.guides[source]
        self.clear(source)

    def finished(self, row: int, extra: Branch | None, finish: Finish) -> Finished:
        """The row's completion, or that of a branch at its end that finished at once, as a result."""
        request = self.requests[row]
        assert request is not None
        made = int(self.made[row])
        completion: TokenIds = tuple(self.tokens[row, :made].tolist())
        probs = self.probs[row, len(request.prefix) : made].tolist()
        count, guide = int(self.count[row]), self.guides[row]
        if extra is not None:
            completion, count, guide = (*completion, extra.token), extra.count, extra.guide
            probs.append(extra.prob)
        if guide is not None:
            injected = set(guide.injected)
            start = len(request.prefix)
            probs = [math.nan if start + at in injected else prob for at, prob in enumerate(probs)]
        return Finished(Rollout(request, completion, count, finish), tuple(probs), guide)
