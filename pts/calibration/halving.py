"""Successive halving: many settings on few problems, few settings on many."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

from pts.calibration.settings import Setting
from pts.evaluation.outcomes import Outcomes


@dataclass(frozen=True, slots=True)
class Schedule:
    """How a race goes.

    `shares` are those of the problems that each round has seen at its end, `surviving` those of a lane's
    settings that go on after each round but the last.
    """

    shares: tuple[float, ...]
    surviving: tuple[float, ...]


HALVING = Schedule((1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0), (0.5, 0.5, 0.5, 0.5, 0.5))
"""Half of the settings on twice the problems, round after round: each round costs about the same."""

Evaluate = Callable[[Sequence[Setting], int, int], Mapping[Setting, Outcomes]]
"""(settings, first problem, end) → each setting's outcomes on those problems."""


def race(
    settings: Sequence[Setting],
    lane: Callable[[Setting], Hashable],
    evaluate: Evaluate,
    problems: int,
    schedule: Schedule = HALVING,
) -> dict[Hashable, list[tuple[Setting, Outcomes]]]:
    """The settings that reached the last round in each lane, best first, with outcomes on all problems.

    Lanes are raced at the same time and on the same problems, each against its own settings alone, so that a
    random direction goes through the very procedure that a fitted one does (Jamieson and Talwalkar, 2016). Of
    equal success the fewer tokens win.
    """
    seen: dict[Setting, Outcomes] = {}
    alive = list(dict.fromkeys(settings))
    for round_, (first, end) in enumerate(_rounds(problems, schedule)):
        if end > first:
            for setting, outcomes in evaluate(alive, first, end).items():
                seen[setting] = seen[setting].joined(outcomes) if setting in seen else outcomes
        if round_ < len(schedule.surviving):
            alive = [
                setting
                for ranked in _lanes(alive, lane, seen).values()
                for setting in ranked[: _survivors(schedule.surviving[round_], len(ranked))]
            ]
    return {
        name: [(setting, seen[setting]) for setting in ranked]
        for name, ranked in _lanes(alive, lane, seen).items()
    }


def race_size(lanes: Sequence[int], problems: int, schedule: Schedule = HALVING) -> int:
    """How often a race runs a setting on a problem, for lanes of so many settings each."""
    alive, total = list(lanes), 0
    for round_, (first, end) in enumerate(_rounds(problems, schedule)):
        total += sum(alive) * (end - first)
        if round_ < len(schedule.surviving):
            alive = [_survivors(schedule.surviving[round_], size) for size in alive]
    return total


def _rounds(problems: int, schedule: Schedule) -> list[tuple[int, int]]:
    """The problems of each round, from the first to the one before the end; none where there are too few."""
    rounds, first = [], 0
    for share in schedule.shares:
        end = min(problems, max(first + 1, math.ceil(share * problems)))
        rounds.append((first, end))
        first = end
    return rounds


def _survivors(surviving: float, size: int) -> int:
    return max(1, math.ceil(surviving * size))


def _lanes(
    settings: Sequence[Setting], lane: Callable[[Setting], Hashable], seen: Mapping[Setting, Outcomes]
) -> dict[Hashable, list[Setting]]:
    """Settings by lane, best first."""
    lanes: dict[Hashable, list[Setting]] = {}
    for setting in settings:
        lanes.setdefault(lane(setting), []).append(setting)
    for ranked in lanes.values():
        ranked.sort(key=lambda setting: (-seen[setting].success, seen[setting].tokens_each, setting.key))
    return lanes
