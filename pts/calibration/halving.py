"""Successive halving: many settings on few problems, few settings on many."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence

from pts.calibration.settings import Setting
from pts.evaluation.outcomes import Outcomes

SHARES = (0.125, 0.375, 1.0)
"""Share of the calibration problems that each round has seen."""
KEPT = (0.2, 0.2)
"""Share of a race's settings that goes on after each round but the last."""

Evaluate = Callable[[Sequence[Setting], int, int], Mapping[Setting, Outcomes]]
"""(settings, first problem, end) → each setting's outcomes on those problems."""


def race(
    settings: Sequence[Setting],
    lane: Callable[[Setting], Hashable],
    evaluate: Evaluate,
    problems: int,
) -> dict[Hashable, list[tuple[Setting, Outcomes]]]:
    """The settings that reached the last round in each lane, best first, with outcomes on all problems.

    Lanes are raced at the same time and on the same problems, each against its own settings alone, so that a
    random direction goes through the very procedure that a fitted one does (Jamieson and Talwalkar, 2016). Of
    equal success the fewer tokens win.
    """
    seen: dict[Setting, Outcomes] = {}
    alive = list(dict.fromkeys(settings))
    for round_, (first, end) in enumerate(_rounds(problems)):
        if end > first:
            for setting, outcomes in evaluate(alive, first, end).items():
                seen[setting] = seen[setting].joined(outcomes) if setting in seen else outcomes
        if round_ < len(KEPT):
            alive = [
                setting
                for ranked in _lanes(alive, lane, seen).values()
                for setting in ranked[: _survivors(round_, len(ranked))]
            ]
    return {
        name: [(setting, seen[setting]) for setting in ranked]
        for name, ranked in _lanes(alive, lane, seen).items()
    }


def race_size(lanes: Sequence[int], problems: int) -> int:
    """How often a race runs a setting on a problem, for lanes of so many settings each."""
    alive, total = list(lanes), 0
    for round_, (first, end) in enumerate(_rounds(problems)):
        total += sum(alive) * (end - first)
        if round_ < len(KEPT):
            alive = [_survivors(round_, size) for size in alive]
    return total


def _rounds(problems: int) -> list[tuple[int, int]]:
    """The problems of each round, from the first to the one before the end; none where there are too few."""
    rounds, first = [], 0
    for share in SHARES:
        end = min(problems, max(first + 1, math.ceil(share * problems)))
        rounds.append((first, end))
        first = end
    return rounds


def _survivors(round_: int, size: int) -> int:
    return max(1, math.ceil(KEPT[round_] * size))


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
