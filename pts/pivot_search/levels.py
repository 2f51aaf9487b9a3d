"""The grid of levels on which the screen believes in values, and how its prior moves along a trace."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from pts.pivot_search.values import Floats, Ints

GRID = 41
LEVELS = np.linspace(0.0, 1.0, GRID)
"""Values that a belief tells apart."""
PROB_STEPS = 100
"""Token probabilities are rounded to this fraction where the belief moves along a trace."""
EDGE = 0.02
"""Values are kept this far from 0 and 1 where they centre a prior."""
_SEEN = np.clip(LEVELS, 0.004, 0.996)


MODES = 2
"""A trace is settled (0) or, for a while after an influential fork, unsettled (1)."""
FOLLOWED = 0.9
"""The chance that a settled trace is unsettled after an influential fork: effects seldom come alone."""
UNSETTLED_SHARE = 0.2
"""The share of influential forks where the trace is unsettled."""
STAYS_UNSETTLED = 0.25
"""The chance that it still is after one of them: the next effect often takes the first one back."""
SETTLES = 0.1
"""The chance that an unsettled trace settles at a fork that changes nothing much."""


@dataclass(frozen=True, slots=True)
class OffTracePrior:
    """What an off-trace value is thought to be before it is seen: a mixture of two Beta distributions.

    With probability `influential`, where the trace is settled, anything goes: success or failure rather than a
    middle (Beta(`spread`, `spread`), U-shaped below 1). Otherwise the fork changes nothing much: a Beta around
    the value of the token taken, worth `concentration` draws. Influential forks come in groups: near one, along
    the trace in either direction, others are more likely.
    """

    influential: float = 0.25
    concentration: float = 30.0
    spread: float = 0.6

    def mode_moves(self) -> tuple[Floats, Floats]:
        """The chances of the fork's kind and of the next mode, [mode, next mode] each.

        The first is of forks that change nothing much, the second of influential ones.
        """
        near, free = mode_moves(np.array(self.influential))
        return near, free


def mode_moves(influential: Floats) -> tuple[Floats, Floats]:
    """`OffTracePrior.mode_moves` for shares of any shape: [2, 2, ...] each."""
    zero, one = np.zeros_like(influential), np.ones_like(influential)
    calm = 1.0 - UNSETTLED_SHARE
    near = [[1.0 - influential, zero], [calm * SETTLES * one, calm * (1.0 - SETTLES) * one]]
    free = [
        [influential * (1.0 - FOLLOWED), influential * FOLLOWED],
        [UNSETTLED_SHARE * (1.0 - STAYS_UNSETTLED) * one, UNSETTLED_SHARE * STAYS_UNSETTLED * one],
    ]
    return np.array(near), np.array(free)


FEWEST_INFLUENTIAL = 4.0
"""How many forks of a settled trace are influential at the smallest share that is thought of."""
LEAST_SHARE = 1 / 75
"""No smaller share is thought of: however long the trace, some draws have to fall everywhere."""
FEWEST_IN_SHORT, SHORT_FORKS = 9.0, 36
"""Of a trace of so few forks that many are influential at least; the more forks above, the fewer, down to
`FEWEST_INFLUENTIAL`."""
LARGEST_FEWEST = 0.5
"""The smallest share that is thought of is at most this: a short trace may have fewer forks than nine."""
MOST_INFLUENTIAL = 0.25
"""The largest share that is thought of, where the smallest is not larger."""
SHARES = 5
SMALLER_IS_LIKELIER = 0.5
"""A share is thought as likely as its power of this, negated: a quarter of the share, twice as likely."""
CONCENTRATIONS = (30.0, 120.0, 480.0, 1920.0)


@dataclass(frozen=True)
class PriorGrid:
    """Priors to choose among: every concentration [C] with every share [S], and the weight of each [C, S]."""

    concentrations: tuple[float, ...]
    shares: Floats
    weights: Floats
    spread: float

    @classmethod
    def of(cls, forks: int) -> PriorGrid:
        """For a trace with so many forks: from a quarter of them matter to four do.

        Of a short trace at least nine do, or half of its forks. Of a long one at least one fork in 75.
        """
        forks = max(forks, 1)
        in_short = FEWEST_IN_SHORT * min(1.0, SHORT_FORKS / forks)
        least = max(FEWEST_INFLUENTIAL, in_short, LEAST_SHARE * forks)
        fewest = min(LARGEST_FEWEST, least / forks)
        shares = np.geomspace(max(MOST_INFLUENTIAL, fewest), fewest, SHARES)
        weights = np.tile(shares**-SMALLER_IS_LIKELIER, (len(CONCENTRATIONS), 1))
        weights /= weights.sum()
        return cls(CONCENTRATIONS, shares, weights, OffTracePrior().spread)


@lru_cache(maxsize=32)
def near_kernel(concentration: float) -> Floats:
    """P(O | V) [V, O] where the fork changes nothing much."""
    from scipy.stats import beta  # heavy to import, and `pts --help` needs none of it

    centre = np.clip(LEVELS, EDGE, 1.0 - EDGE)[:, None]
    below = beta.cdf(_edges()[None, :], concentration * centre, concentration * (1.0 - centre))
    mass = np.diff(below, axis=1)
    near: Floats = mass / mass.sum(axis=1, keepdims=True)
    return near


@lru_cache(maxsize=32)
def free_kernel(spread: float) -> Floats:
    """P(O) [O] where anything goes."""
    from scipy.stats import beta

    mass = np.diff(beta.cdf(_edges(), spread, spread))
    free: Floats = mass / mass.sum()
    return free


def _edges() -> Floats:
    """Where one level's cell ends and the next begins [GRID + 1]."""
    return np.concatenate(([0.0], (LEVELS[1:] + LEVELS[:-1]) / 2.0, [1.0]))


def log_likelihood(successes: Ints, draws: Ints) -> Floats:
    """Of the draws at each fork, at each level of its off-trace value [F, GRID]."""
    failures = draws - successes
    logs: Floats = successes[:, None] * np.log(_SEEN) + failures[:, None] * np.log1p(-_SEEN)
    return logs


def landing(steps: Ints) -> tuple[Ints, Floats]:
    """For probabilities in steps [K]: the level below q·V + (1 − q)·O, and how far above it lies, [K, V, O]."""
    lower, fraction = _landings()
    return lower[steps], fraction[steps]


@lru_cache(maxsize=1)
def _landings() -> tuple[Ints, Floats]:
    q = (np.arange(PROB_STEPS + 1) / PROB_STEPS)[:, None, None]
    place = (q * LEVELS[:, None] + (1.0 - q) * LEVELS[None, :]) * (GRID - 1)
    lower = np.minimum(place.astype(np.int64), GRID - 2)
    return lower, place - lower


@dataclass(frozen=True)
class Kernels:
    """What a fork of one probability does: from the value after it to the value before it.

    `joint_near` [C, V, O] and `joint_free` [O] are the priors of O; `near` [C, V, V'] and `free` [V, V'] the
    moves where nothing was drawn.
    """

    joint_near: Floats
    joint_free: Floats
    near: Floats
    free: Floats
    cells: Ints
    fraction: Floats

    @staticmethod
    def steps(q: Floats) -> Ints:
        """Token probabilities in steps."""
        return np.rint(q * PROB_STEPS).astype(np.int64)

    @staticmethod
    @lru_cache(maxsize=1024)
    def at(step: int, concentrations: tuple[float, ...], spread: float) -> Kernels:
        """The kernels of a fork of probability `step` / PROB_STEPS."""
        lower, fraction = landing(np.array([step]))
        cells = lower[0] + GRID * np.arange(GRID)[:, None]
        near = np.stack([near_kernel(concentration) for concentration in concentrations])
        free = free_kernel(spread)
        moved_near = np.stack([_scatter(each, cells, fraction[0]) for each in near])
        moved_free = _scatter(np.broadcast_to(free, (GRID, GRID)), cells, fraction[0])
        return Kernels(near, free, moved_near, moved_free, cells, fraction[0])

    def moves(self, likelihood: Floats | None) -> tuple[Floats, Floats]:
        """`near` and `free`, weighted by the likelihood [O] of what was drawn at the fork."""
        if likelihood is None:
            return self.near, self.free
        near = np.stack([_scatter(each * likelihood, self.cells, self.fraction) for each in self.joint_near])
        free = np.broadcast_to(self.joint_free * likelihood, (GRID, GRID))
        return near, _scatter(free, self.cells, self.fraction)


def _scatter(mass: Floats, cells: Ints, fraction: Floats) -> Floats:
    """Mass [V, O] moved to the levels at which it lands [V, V']."""
    size = GRID * GRID
    moved: Floats = np.zeros(size)
    moved += np.bincount(cells.ravel(), (mass * (1.0 - fraction)).ravel(), minlength=size)
    moved += np.bincount(cells.ravel() + 1, (mass * fraction).ravel(), minlength=size)[:size]
    return moved.reshape(GRID, GRID)
