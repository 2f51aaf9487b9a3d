"""Do the vectors help where there is an answer to grade? Success among the answers that can be read.

Steering can raise success by changing the answer's form: more answers end within the limit, or have a number to
grade. Success among the readable answers alone tells such a gain from better reasoning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pts.evaluation.estimates import LEVEL, RESAMPLES, percentiles, resampled_means
from pts.evaluation.items import Item, Key
from pts.evaluation.systems import System


@dataclass(frozen=True, slots=True)
class ReadableSuccess:
    """Success among the readable answers of a steered system, `line`, and of the same without vectors.

    An answer is readable that ended by itself with something to grade. `readable` and `readable_unsteered` are
    the shares of those. `difference` is the steered success less the unsteered, with a bootstrap interval over
    problems. The two are of different answers, so it describes where an effect comes from and tests nothing.
    """

    line: str
    success: float
    unsteered: float
    difference: float
    low: float
    high: float
    readable: float
    readable_unsteered: float


def readable_successes(
    systems: Sequence[System], problems: Sequence[str], seeds: int, items: Mapping[Key, Item], seed: int
) -> list[ReadableSuccess]:
    """For each steered system that was asked for; without those where some side has no readable answer."""
    names = {system.name for system in systems}
    found = []
    for system in systems:
        plain = replace(system, steering="none")
        if not system.asked or system.steering != "vectors" or plain.name not in names:
            continue
        # Right and readable answers of a problem, in the mean: steered, then not.
        means = np.array(
            [
                [np.mean([value(items[name, problem, k]) for k in range(seeds)]) for problem in problems]
                for name in (system.name, plain.name)
                for value in (lambda item: item.success, _is_readable)
            ],
            np.float64,
        )
        right, readable, plain_right, plain_readable = means.mean(axis=1)
        if not readable or not plain_readable:
            continue
        draws = resampled_means(means, RESAMPLES, seed)
        draws = draws[(draws[:, 1] > 0) & (draws[:, 3] > 0)]
        steered, unsteered = float(right / readable), float(plain_right / plain_readable)
        low, high = percentiles(draws[:, 0] / draws[:, 1] - draws[:, 2] / draws[:, 3], LEVEL)
        found.append(
            ReadableSuccess(
                system.name,
                steered,
                unsteered,
                steered - unsteered,
                low,
                high,
                float(readable),
                float(plain_readable),
            )
        )
    return found


def _is_readable(item: Item) -> bool:
    return item.ended and item.readable
