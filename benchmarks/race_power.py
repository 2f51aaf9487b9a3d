"""How often a real effect comes first among random vectors: in a race, and where none is dropped.

    python benchmarks/race_power.py [--effect 0.06] [--completions 2200] [--trials 2000]

Simulated. Each problem has a chance of success, drawn from a beta distribution with mean 0.45; a vector moves
it in proportion to p(1 − p), by its effect on average. The effects of the 19 random vectors are normal, with
mean −0.01 and standard deviation 0.015; in the last lines all 20 are zero, so that coming first is a false
alarm, which at most 5% may be. `race` is `pts vectors measure --race`, by the function that it uses; `whole`
measures all vectors on all problems. Both have as many problems as the completions allow, one completion of
each.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch

from pts.calibration.set_controls import SHARES, SetControls, race_among
from pts.calibration.settings import Setting
from pts.evaluation.outcomes import Outcomes
from pts.ranks import rank_among
from pts.steering.hooks import Intervention

RANDOM, MEAN, DEVIATION = 19, -0.01, 0.015
PROBLEMS_BETA = (0.6, 0.74)


def successes(
    rng: np.random.Generator, effects: npt.NDArray[np.float64], problems: int
) -> npt.NDArray[np.bool_]:
    """Whether each vector's completion of each problem is right [vectors, problems]."""
    chance = rng.beta(*PROBLEMS_BETA, problems)
    weight = chance * (1 - chance) / np.mean(chance * (1 - chance))
    return rng.random((len(effects), problems)) < np.clip(chance + effects[:, None] * weight, 0, 1)


def first_in_race(right: npt.NDArray[np.bool_], settings: Sequence[Setting]) -> bool:
    rows = dict(zip(settings, right.astype(int), strict=True))

    def evaluate(alive: Sequence[Setting], first: int, end: int) -> Mapping[Setting, Outcomes]:
        none = [0] * (end - first)
        return {one: Outcomes.of(1, rows[one][first:end].tolist(), none, none) for one in alive}

    order, _ = race_among(settings, evaluate, right.shape[1])
    return order[0] is settings[0]


def race_cost() -> float:
    """Completions of a race for each problem, the model as it is among them."""
    alive, total, before = 1 + RANDOM, 1.0, 0.0
    for share in SHARES:
        total += alive * (share - before)
        alive, before = math.ceil(alive / 2), share
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--effect", type=float, default=0.06)
    parser.add_argument("--completions", type=int, default=2200)
    parser.add_argument("--trials", type=int, default=2000)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    kept = (Intervention(0, torch.ones(1)),)
    settings = SetControls(kept, 0).settings(RANDOM)[1:]  # Without the model as it is.
    for name, effect, mean, deviation in (("effect", options.effect, MEAN, DEVIATION), ("none", 0.0, 0.0, 0.0)):
        for kind, each in (("race", race_cost()), ("whole", 2.0 + RANDOM)):
            problems, firsts = int(options.completions / each), 0
            for _ in range(options.trials):
                effects = np.r_[effect, rng.normal(mean, deviation, RANDOM)]
                right = successes(rng, effects, problems)
                rates = right.mean(axis=1)
                firsts += (
                    first_in_race(right, settings) if kind == "race" else rank_among(rates[0], rates[1:]) == 1
                )
            print(
                f"{name:7s}{kind:6s}{problems:5d} problems: first in {firsts / options.trials:.3f}", flush=True
            )


if __name__ == "__main__":
    main()
