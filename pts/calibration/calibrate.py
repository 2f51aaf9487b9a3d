"""Calibration as a whole: the method, layer, strength and gate of each pattern, and of the random controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pts.calibration.evaluator import Evaluator
from pts.calibration.halving import race, race_size
from pts.calibration.settings import RANDOM, Setting, grid
from pts.evaluation.outcomes import Outcomes
from pts.steering.vector_set import GateKind


@dataclass(frozen=True, slots=True)
class Choices:
    """What is chosen between; `random` directions go through the same procedure as each method."""

    methods: tuple[str, ...]
    layers: tuple[int, ...]
    strengths: tuple[float, ...]
    gates: tuple[GateKind, ...]
    random: int

    @property
    def places(self) -> int:
        """Settings of each method: layers × strengths with both signs × gates."""
        return 2 * len(self.layers) * len(self.strengths) * len(self.gates)


@dataclass(frozen=True, slots=True)
class Calibrated:
    """The winners on the calibration problems.

    `chosen` maps patterns to their setting and outcomes; `by_method` the first pattern's methods to theirs;
    `controls` are the winners of the random directions, `layers` those that were tried.
    """

    chosen: dict[str, tuple[Setting, Outcomes]]
    by_method: dict[str, tuple[Setting, Outcomes]]
    controls: tuple[Setting, ...]
    layers: tuple[int, ...]


def calibration_size(patterns: int, choices: Choices, problems: int) -> int:
    """How often `calibrate` runs a setting on a problem, for so many patterns."""
    lanes = [choices.places] * (len(choices.methods) + choices.random)
    others = [choices.places] * (patterns - 1)
    return race_size(lanes, problems) + race_size(others, problems)


def calibrate(evaluator: Evaluator, patterns: Sequence[str], choices: Choices) -> Calibrated:
    """Race the first pattern's methods and random directions, then the other patterns by the winner's method.

    The vector of all pairs and its controls go through the whole grid; a pattern's own vector through all
    layers, strengths and gates of the winning method, which is fitted to that pattern's pairs.
    """
    first = patterns[0]
    controls = [f"{RANDOM}-{number}" for number in range(choices.random)]
    names = [*choices.methods, *controls]
    settings = list(grid([first], names, choices.layers, choices.strengths, choices.gates))
    count = len(evaluator.problems)
    lanes = race(settings, lambda setting: setting.method, evaluator, count)
    by_method = {method: lanes[method][0] for method in choices.methods}
    winner = min(by_method.values(), key=lambda found: (-found[1].success, found[1].tokens_each))
    chosen = {first: winner}
    if patterns[1:]:
        others = list(grid(patterns[1:], [winner[0].method], choices.layers, choices.strengths, choices.gates))
        for pattern, ranked in race(others, lambda setting: setting.pattern, evaluator, count).items():
            chosen[str(pattern)] = ranked[0]
    winners = tuple(lanes[control][0][0] for control in controls)
    return Calibrated(chosen, by_method, winners, choices.layers)
