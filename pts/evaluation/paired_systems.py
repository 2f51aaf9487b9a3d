"""Lines of an evaluation as arrays, and what can be said of one or two of them, paired by problem."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from pts.evaluation.estimates import (
    LEVEL,
    RESAMPLES,
    Estimate,
    Floats,
    bootstrap_p,
    interval,
    mcnemar_p,
    percentiles,
    resampled_means,
    sign_flip_p,
)
from pts.evaluation.frontier import frontier_corners, gains


@dataclass(frozen=True, eq=False)
class PairedSystems:
    """Success (0 or 1) and tokens of every system on the same problems with the same seeds, both
    [systems, problems, seeds].

    Estimates are means over problems of a problem's mean over its seeds; intervals are percentile bootstraps
    over problems at `level`, all from the same resamples. Raises ValueError for other shapes.
    """

    success: Floats
    tokens: Floats
    level: float = LEVEL
    seed: int = 0
    resamples: int = RESAMPLES

    def __post_init__(self) -> None:
        for array in (self.success, self.tokens):
            if array.shape != self.success.shape or array.ndim != 3 or not array.size:
                raise ValueError(
                    "success and tokens must both be [systems, problems, seeds], not "
                    f"{self.success.shape} and {self.tokens.shape}"
                )

    @cached_property
    def rates(self) -> Floats:
        """Each system's success on each problem [systems, problems]."""
        means: Floats = self.success.mean(axis=2)
        return means

    @cached_property
    def costs(self) -> Floats:
        """Each system's mean tokens on each problem [systems, problems]."""
        means: Floats = self.tokens.mean(axis=2)
        return means

    def mean_success(self, system: int) -> Estimate:
        """Success of a system; where all problems are alike, with the exact interval of so many problems."""
        rates, draws = self.rates[system], self._draws[:, 0, system]
        return Estimate(float(rates.mean()), *interval(rates, draws, (0.0, 1.0), self.level))

    def mean_tokens(self, system: int) -> Estimate:
        """Mean tokens of an answer of a line."""
        return Estimate(float(self.costs[system].mean()), *percentiles(self._draws[:, 1, system], self.level))

    def tokens_ratio(self, first: int, second: int) -> Estimate:
        """Mean tokens of the first system over those of the second."""
        draws = self._draws[:, 1, first] / self._draws[:, 1, second]
        value = float(self.costs[first].mean() / self.costs[second].mean())
        return Estimate(value, *percentiles(draws, self.level))

    def difference(self, first: int, second: int) -> Estimate:
        """Success of the first system minus that of the second.

        The p-value is McNemar's exact one for single runs, else that of a sign-flip test over problems: under
        the null the two names of a problem's rates could be swapped (the same test, for several seeds).
        """
        gaps = self.rates[first] - self.rates[second]
        draws = self._draws[:, 0, first] - self._draws[:, 0, second]
        if self.success.shape[2] == 1:
            p_value = mcnemar_p(self.success[first], self.success[second])
        else:
            p_value = sign_flip_p(gaps, self.seed, self.resamples)
        return Estimate(float(gaps.mean()), *interval(gaps, draws, (-1.0, 1.0), self.level), p_value)

    def is_floor(self, p_value: float, bootstrapped: bool) -> bool:
        """Whether a p-value is the smallest that the resamples can give (McNemar's exact one has no floor)."""
        if bootstrapped:
            floor = 2 / (self.resamples + 1)
        elif self.success.shape[2] > 1:
            floor = 1 / (self.resamples + 1)
        else:
            return False
        return p_value <= floor * (1 + 1e-9)

    def frontier_gain(self, system: int, sweep: Sequence[int]) -> Estimate:
        """Success of one system minus the frontier of the systems `sweep` at the same mean tokens.

        Each resample computes the frontier anew, so its own uncertainty is in the interval; the p-value is the
        bootstrap's, and no smaller than a sign-flip test over as many problems could give. The best of several
        measured points looks better than it is, so the gain is, if anything, too small. One that costs less
        than the cheapest point has no gain that can be claimed: all is nan then; a resample in which it does is
        held against the cheapest point. Raises ValueError for no sweep.
        """
        if not len(sweep):
            raise ValueError("a frontier needs at least one system in its sweep")
        chosen = [*sweep, system]
        value = float(gains(self.rates[chosen].mean(axis=1), self.costs[chosen].mean(axis=1)))
        if np.isnan(value):
            return Estimate(np.nan, np.nan, np.nan)
        drawn = gains(self._draws[:, 0, chosen], self._draws[:, 1, chosen], held=True)
        # A bootstrap of few problems is too sure of itself: no test over n of them can go below 2^(1 − n).
        p_value = max(bootstrap_p(drawn), 2.0 ** (1 - self.rates.shape[1]))
        return Estimate(value, *percentiles(drawn, self.level), p_value)

    def frontier(self, sweep: Sequence[int]) -> list[tuple[float, float]]:
        """The corners (mean tokens, success) of the frontier of the systems `sweep`, cheapest first."""
        points = list(sweep)
        return frontier_corners(self.costs[points].mean(axis=1), self.rates[points].mean(axis=1))

    @cached_property
    def _draws(self) -> Floats:
        """Resampled means of success and tokens [resamples, 2, systems]."""
        both = np.concatenate([self.rates, self.costs])
        return resampled_means(both, self.resamples, self.seed).reshape(self.resamples, 2, len(self.rates))


def frontier_gain(
    success: npt.ArrayLike,
    tokens: npt.ArrayLike,
    *,
    sweep: Sequence[int],
    system: int,
    level: float = LEVEL,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Estimate:
    """`PairedSystems.frontier_gain` of arrays: (gain, low, high, p-value)."""
    systems = PairedSystems(
        np.asarray(success, np.float64), np.asarray(tokens, np.float64), level, seed, resamples
    )
    return systems.frontier_gain(system, sweep)
