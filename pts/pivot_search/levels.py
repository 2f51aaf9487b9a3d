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


@dataclass(frozen=True, slots=True)
class OffTracePrior:
    """What an off-trace value is thought to be before it is seen: a mixture of two Beta distributions.

    With probability `influential` anything goes, success or failure rather than a middle (Beta(`spread`,
    `spread`), U-shaped below 1). Otherwise the fork changes nothing much: a Beta around the value of the token
    taken, worth `concentration` draws.
    """

    influential: float = 0.25
    concentration: float = 30.0
    spread: float = 0.6

    def kernel(self) -> Floats:
        """P(O | V) on the grid [V, O]."""
        near, free = _near(self.concentration), _free(self.spread)
        return (1.0 - self.influential) * near + self.influential * free[None, :]


FEWEST_INFLUENTIAL = 9.0
"""How many forks are influential at the smallest share that is thought of."""
LARGEST_FEWEST = 0.5
"""The smallest share that is thought of is at most this: a short trace has fewer forks than that."""
MOST_INFLUENTIAL = 0.25
"""The largest share that is thought of, where the smallest is not larger."""
SHARES = 5
CONCENTRATIONS = (30.0, 120.0, 480.0)


@dataclass(frozen=True)
class PriorGrid:
    """Priors to choose among: every concentration [C] with every share [S], and the weight of each [C, S]."""

    concentrations: tuple[float, ...]
    shares: Floats
    weights: Floats
    spread: float

    @classmethod
    def of(cls, forks: int) -> PriorGrid:
        """For a trace with so many forks: from a quarter of them matter to nine do, all as likely.

        Where nine are more than a quarter, that many do, but at most half of them.
        """
        fewest = min(LARGEST_FEWEST, FEWEST_INFLUENTIAL / max(forks, 1))
        shares = np.geomspace(max(MOST_INFLUENTIAL, fewest), fewest, SHARES)
        weights = np.full((len(CONCENTRATIONS), SHARES), 1.0 / (len(CONCENTRATIONS) * SHARES))
        return cls(CONCENTRATIONS, shares, weights, OffTracePrior().spread)


@lru_cache(maxsize=32)
def _near(concentration: float) -> Floats:
    """P(O | V) [V, O] where the fork changes nothing much."""
    from scipy.stats import beta  # heavy to import, and `pts --help` needs none of it

    centre = np.clip(LEVELS, EDGE, 1.0 - EDGE)[:, None]
    below = beta.cdf(_edges()[None, :], concentration * centre, concentration * (1.0 - centre))
    mass = np.diff(below, axis=1)
    near: Floats = mass / mass.sum(axis=1, keepdims=True)
    return near


@lru_cache(maxsize=32)
def _free(spread: float) -> Floats:
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
        near = np.stack([_near(concentration) for concentration in concentrations])
        free = _free(spread)
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

    def blend(self, influential: float, likelihood: Floats | None) -> Floats:
        """The move of the first concentration under a share of influential forks."""
        if likelihood is None:
            blended: Floats = (1.0 - influential) * self.near[0] + influential * self.free
            return blended
        joint = (1.0 - influential) * self.joint_near[0] + influential * self.joint_free
        return _scatter(joint * likelihood, self.cells, self.fraction)


def _scatter(mass: Floats, cells: Ints, fraction: Floats) -> Floats:
    """Mass [V, O] moved to the levels at which it lands [V, V']."""
    size = GRID * GRID
    moved: Floats = np.zeros(size)
    moved += np.bincount(cells.ravel(), (mass * (1.0 - fraction)).ravel(), minlength=size)
    moved += np.bincount(cells.ravel() + 1, (mass * fraction).ravel(), minlength=size)[:size]
    return moved.reshape(GRID, GRID)
