"""An evaluation in numbers: every system of its table, the comparisons between them, and the frontiers."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from pts.evaluation.against import Besides
from pts.evaluation.direction import DirectionTest
from pts.evaluation.estimates import LEVEL, Estimate, Floats
from pts.evaluation.items import Item
from pts.evaluation.paired_systems import PairedSystems
from pts.evaluation.readable import ReadableSuccess
from pts.evaluation.systems import Steering, System
from pts.evaluation.thresholds import ThresholdFit
from pts.stats import holm

Items = Mapping[tuple[str, str, int], Item]
"""Items by system, problem and seed."""


@dataclass(frozen=True, slots=True)
class SystemSummary:
    """A system's success and tokens. Rates are of all its answers, with intervals over problems.

    `tokens` is the mean of all tokens spent on an answer after its prompt, `thinking` of those of thinking.
    `cut` is the share that a limit ended, `unreadable` the share that ended with nothing to grade, `kept` the
    share whose limits were kept. `tokens_ratio` is to unsteered `full`, where that is a system. `routes` are
    the shares of what a strategy decided. `no_thinking` is the share without any thinking, by level of
    difficulty where the problems have one; None where that was not recorded.
    """

    name: str
    strategy: str
    steering: Steering
    asked: bool
    fixed: bool
    success: float
    success_low: float
    success_high: float
    tokens: float
    tokens_low: float
    tokens_high: float
    thinking: float
    cut: float
    unreadable: float
    kept: float
    tokens_ratio: float | None = None
    tokens_ratio_low: float | None = None
    tokens_ratio_high: float | None = None
    routes: Mapping[str, float] | None = None
    no_thinking: float | None = None
    no_thinking_by_level: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """How much more success a system has than `against` (another, or "frontier"): one ablation, one question.

    `kind` is its question: steering, routing, budget (against the frontier at equal tokens), full, or of the
    run of another model: other (the same strategy there) and other budget (its frontier).
    `corrected` is Holm's p-value over all comparisons of the evaluation. `p_bounded` and `corrected_bounded`
    say that a p-value is the smallest that so many resamples can give: the true one is at most that. `line` is
    the system's name, under the key that files have.
    All is nan where nothing can be claimed: a system that costs less than the frontier's cheapest point.
    """

    kind: str
    line: str
    against: str
    difference: float
    low: float
    high: float
    p_value: float
    corrected: float
    p_bounded: bool = False
    corrected_bounded: bool = False


@dataclass(frozen=True, slots=True)
class OtherSummary:
    """The run of another model beside this one: its directory, model, unsteered systems and their frontier."""

    path: str
    model_id: str
    lines: tuple[SystemSummary, ...]
    frontier: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class EvaluationSummary:
    """All that the report shows; `chance` is the success of guessing, None for free answers.

    `lines` are the systems, under the key that files have. `frontiers` have corners (tokens, success) of the
    fixed budgets, unsteered ("none") and steered ("vectors").
    `left_out` are baselines that the model cannot run, with the reasons. `thresholds` were fitted on other
    problems. `direction` is the vectors' rank among random directions; None where that was not asked.
    `other` is the run of another model that was named. `undecided` answers could not be compared with their
    reference, and count as wrong. `readable` compares the vectors' success among readable answers alone.
    """

    model_id: str
    dataset_id: str
    grader: str
    vectors: str | None
    problems: int
    seeds: int
    budget: int
    level: float
    chance: float | None
    items: int
    tokens_generated: int
    lines: tuple[SystemSummary, ...]
    comparisons: tuple[Comparison, ...]
    frontiers: Mapping[str, tuple[tuple[float, float], ...]]
    left_out: Mapping[str, str]
    thresholds: tuple[ThresholdFit, ...] = ()
    direction: DirectionTest | None = None
    undecided: int = 0
    other: OtherSummary | None = None
    readable: tuple[ReadableSuccess, ...] = ()


def paired_systems(
    systems: Sequence[System], problems: Sequence[str], seeds: int, items: Items, seed: int
) -> PairedSystems:
    """The items as arrays. Raises KeyError where one is missing."""

    def array(value: Mapping[tuple[str, str, int], float]) -> Floats:
        rows = [[[value[system.name, key, k] for k in range(seeds)] for key in problems] for system in systems]
        return np.array(rows, np.float64)

    success = array({key: float(item.success) for key, item in items.items()})
    tokens = array({key: float(item.ledger.total) for key, item in items.items()})
    return PairedSystems(success, tokens, LEVEL, seed)


def summarise_systems(
    systems: Sequence[System],
    paired: PairedSystems,
    items: Sequence[Item],
    levels: Mapping[str, str] = MappingProxyType({}),
) -> list[SystemSummary]:
    """A row of the table for each system, from its items; `levels` are problems' levels of difficulty by id."""
    by_system: dict[str, list[Item]] = {system.name: [] for system in systems}
    for item in items:
        by_system.setdefault(item.line, []).append(item)
    full = next((at for at, system in enumerate(systems) if system.name == "full"), None)
    return [
        _system_summary(system, at, full, paired, by_system[system.name], levels)
        for at, system in enumerate(systems)
    ]


def _system_summary(
    system: System,
    at: int,
    full: int | None,
    paired: PairedSystems,
    items: Sequence[Item],
    levels: Mapping[str, str],
) -> SystemSummary:
    success, tokens = paired.mean_success(at), paired.mean_tokens(at)
    routes = Counter(item.route for item in items if item.route is not None)
    row = SystemSummary(
        system.name,
        system.strategy,
        system.steering,
        system.asked,
        system.is_fixed,
        *success[:3],
        *tokens[:3],
        thinking=_mean([item.ledger.thinking for item in items]),
        cut=_mean([not item.ended for item in items]),
        unreadable=_mean([item.ended and not item.readable for item in items]),
        kept=_mean([item.ledger.budget_kept for item in items]),
        routes={route: routes[route] / len(items) for route in sorted(routes)} or None,
        **_no_thinking(items, levels),
    )
    if full is None:
        return row
    ratio = paired.tokens_ratio(at, full)
    return replace(row, tokens_ratio=ratio.value, tokens_ratio_low=ratio.low, tokens_ratio_high=ratio.high)


def _no_thinking(items: Sequence[Item], levels: Mapping[str, str]) -> dict[str, Any]:
    """The share of answers without thinking, of all and by level; nothing where an item does not say."""
    if any(item.thought is None for item in items):
        return {}
    by_level: dict[str, list[bool]] = defaultdict(list)
    for item in items:
        if item.problem in levels:
            by_level[levels[item.problem]].append(not item.thought)
    shares = {level: _mean(by_level[level]) for level in sorted(by_level)}
    return {"no_thinking": _mean([not item.thought for item in items]), "no_thinking_by_level": shares or None}


def compare_systems(
    systems: Sequence[System], paired: PairedSystems, besides: Besides | None = None
) -> list[Comparison]:
    """Every ablation of what the user named, each on its own, with p-values corrected over all of them.

    Steering: a strategy with vectors against the same without. Routing: a router against a random one of the
    same rates. Budget: what is no fixed budget against the frontier of those that
    are steered alike. Full: against the model as it is, where nothing above does.
    """
    places = {system.name: at for at, system in enumerate(systems)}
    found: dict[tuple[str, str], tuple[str, Estimate]] = {}

    def against(kind: str, system: System, other: System) -> None:
        pair = system.name, other.name
        if other.name in places and other.name != system.name and pair not in found:
            found[pair] = kind, paired.difference(places[system.name], places[other.name])

    asked = [system for system in systems if system.asked]
    for system in asked:
        if system.steering == "vectors":
            against("steering", system, replace(system, steering="none"))
    for system in asked:
        against("routing", system, replace(system, routing="random"))
    for system in asked:
        sweep = sweep_of(systems, system.steering)
        if not system.is_fixed and sweep:
            frontier = f"frontier ({'unsteered' if system.steering == 'none' else 'steered'})"
            found[system.name, frontier] = "budget", paired.frontier_gain(places[system.name], sweep)
    for system in asked:
        against("full", system, System("full"))
        if besides is not None:
            found.update(_against_other(system, places[system.name], paired, besides))
    p_values = [estimate.p_value for _, estimate in found.values()]
    bounded = [paired.is_floor(estimate.p_value, kind.endswith("budget")) for kind, estimate in found.values()]
    adjusted = holm(p_values).tolist()
    # What changes when the bounded ones are taken for 0 is no more than a bound itself.
    least = holm([0.0 if at_floor else p for p, at_floor in zip(p_values, bounded, strict=True)]).tolist()
    return [
        Comparison(kind, name, other, *estimate, p, at_floor, low < p)
        for ((name, other), (kind, estimate)), p, at_floor, low in zip(
            found.items(), adjusted, bounded, least, strict=True
        )
    ]


def _against_other(
    system: System, place: int, paired: PairedSystems, besides: Besides
) -> dict[tuple[str, str], tuple[str, Estimate]]:
    """A system against another model: the same strategy, and its frontier for what is no fixed budget."""
    found = {}
    same = besides.places.get(system.strategy)
    if same is not None:
        name = f"{system.strategy} of {besides.label}"
        found[system.name, name] = "other", paired.difference(place, same)
    if besides.sweep and not system.is_fixed:
        name = f"frontier of {besides.label}"
        found[system.name, name] = "other budget", paired.frontier_gain(place, besides.sweep)
    return found


def sweep_of(systems: Sequence[System], steering: Steering) -> list[int]:
    """The places of the fixed budgets that are steered alike."""
    return [at for at, system in enumerate(systems) if system.is_fixed and system.steering == steering]


def frontiers_of(
    systems: Sequence[System], paired: PairedSystems
) -> dict[str, tuple[tuple[float, float], ...]]:
    """Corners of the frontiers of the fixed budgets, by steering."""
    kinds: tuple[Steering, ...] = ("none", "vectors")
    sweeps = {kind: sweep_of(systems, kind) for kind in kinds}
    return {kind: tuple(paired.frontier(sweep)) for kind, sweep in sweeps.items() if len(sweep) > 1}


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))
