"""The part `cluster` of an extraction: which pairs are a pattern, and which patterns get their own vector."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pts.runs.codec import to_json
from pts.stages.extract.inputs import ExtractInputs
from pts.steering.pair_records import ALL
from pts.steering.pattern_source import Basis, PairGroup, PatternSource

if TYPE_CHECKING:
    from pts.calibration.settings import Directions
    from pts.steering.harvest import Harvest
    from pts.steering.pairs import Pair
    from pts.steering.patterns import Group, Patterns
    from pts.steering.records import VectorRecord
    from pts.steering.training_rollouts import TrainingRollouts
    from pts.steering.vector_set import VectorSet

HELD_OUT = 0.25
"""Share of the problems whose pairs judge directions and fit none."""
LEAST_PATTERN_PAIRS = 24
"""Pairs of a pattern among those to fit on, below which it gets no vector of its own."""
PATTERNS_NAME = "patterns.json"


@dataclass(frozen=True, slots=True, eq=False)
class Division:
    """The pairs divided into patterns: what divides them, the groups, and each pair's pattern [pairs].

    `fitted` and `held_out` are the pairs to fit on and to judge by, of different problems. `without` says of
    each pattern that gets no vector of its own why not.
    """

    patterns: Patterns
    basis: Basis
    groups: tuple[Group, ...]
    names: tuple[str, ...]
    fitted: list[Pair]
    held_out: list[Pair]
    without: Mapping[str, str]

    def of(self, name: str, pairs: Sequence[Pair], every: Sequence[Pair]) -> list[Pair]:
        """Those of `pairs` that are of a pattern; `every` are all pairs, in the order of `names`."""
        pattern = {pair.index: found for pair, found in zip(every, self.names, strict=True)}
        return [pair for pair in pairs if pattern[pair.index] == name]


def divide_pairs(
    inputs: ExtractInputs, pairs: Sequence[Pair], harvested: Harvest, layers: Sequence[int]
) -> Division:
    """Patterns among the contrasts at the middle one of the calibrated layers, named by the better token."""
    from pts.lexicon import DEFAULT_LEXICON, read_lexicon
    from pts.steering.pairs import split_problems
    from pts.steering.patterns import Pivot, find_patterns, pattern_groups

    lexicon = DEFAULT_LEXICON if inputs.lexicon is None else read_lexicon(inputs.lexicon)
    here = harvested.of(layers[len(layers) // 2], [pair.index for pair in pairs])
    pivots = [Pivot(pair.before, pair.better.token, pair.after if pair.taken_better else "") for pair in pairs]
    patterns = find_patterns((here.better - here.worse).numpy(), pivots, inputs.seed, lexicon)
    basis, groups = pattern_groups(patterns, inputs.patterns)
    by_place = {place: group.name for group in groups for place in group.members}
    names = tuple(by_place[place] for place in range(len(pairs)))
    fitted, held_out = split_problems(pairs, HELD_OUT, inputs.seed)
    judges = {pair.index for pair in held_out}
    reasons = {group.name: _reason(inputs, basis, group, pairs, judges) for group in groups}
    without = {name: reason for name, reason in reasons.items() if reason is not None}
    return Division(patterns, basis, groups, names, fitted, held_out, without)


def _reason(
    inputs: ExtractInputs, basis: Basis, group: Group, pairs: Sequence[Pair], judges: set[int]
) -> str | None:
    """Why a group gets no vector of its own; None where it gets one."""
    from pts.lexicon import UNLABELLED
    from pts.steering.graded_rollouts import LEAST_PROBLEMS

    if len(group.members) == len(pairs):
        return "it has every pair, as the vector of all pairs has"
    if basis == "labels" and group.pattern == UNLABELLED:
        return "its pairs have nothing in common but that no word names them"
    members = [pairs[place] for place in group.members]
    fitted = [pair for pair in members if pair.index not in judges]
    if len(fitted) < LEAST_PATTERN_PAIRS:
        return f"{len(fitted)} pairs to fit on, and at least {LEAST_PATTERN_PAIRS} are needed"
    if len(fitted) == len(members):
        return "no pair is held out to judge it"
    if "outcome" in inputs.methods and len({pair.problem_id for pair in fitted}) < LEAST_PROBLEMS:
        return f"the method outcome needs pivots of at least {LEAST_PROBLEMS} problems to fit on"
    if "decision" in inputs.methods and len({pair.taken_better for pair in fitted}) < 2:
        return "the method decision needs pivots that helped and pivots that harmed"
    return None


def make_directions(
    inputs: ExtractInputs,
    model: object,
    pairs: Sequence[Pair],
    harvested: Harvest,
    division: Division,
    rollouts: TrainingRollouts,
    layers: tuple[int, ...],
) -> tuple[Directions, dict[str, list[Pair]]]:
    """What directions of each pattern are made of, and the pairs of each that are held out.

    `rollouts` are those of all problems that are not held out; a pattern has those from its own pivots.
    `layers` are those of vectors that are added together.
    """
    from pts.calibration.settings import Directions
    from pts.steering.directions import methods_of_layers
    from pts.steering.fitting_data import FittingData

    names = [group.name for group in division.groups if group.name not in division.without]
    whole = FittingData(model, division.fitted, harvested, inputs.seed, inputs.layers_path, rollouts=rollouts)
    by_pattern = {name: whole.of(division.of(name, division.fitted, pairs), pivots=True) for name in names}
    judged = {name: division.of(name, division.held_out, pairs) for name in names}
    directions = Directions({ALL: whole} | by_pattern, whole)
    if inputs.together:
        directions.together, directions.random_layers = methods_of_layers(layers), layers
    return directions, {ALL: division.held_out} | judged


def pattern_source(inputs: ExtractInputs, division: Division) -> PatternSource:
    """What a set says of its patterns."""
    clusters = division.patterns.clusters
    return PatternSource(
        basis=division.basis,
        requested=inputs.patterns,
        clusters=None if clusters is None else clusters.k,
        p_value=None if clusters is None else clusters.p_value,
        stability=None if clusters is None else clusters.stability,
        groups=tuple(
            PairGroup(
                group.name,
                group.pattern,
                len(group.members),
                group.p_value,
                group.share,
                division.without.get(group.name),
            )
            for group in division.groups
        ),
    )


def set_records(
    inputs: ExtractInputs,
    task_type: str,
    model: object,
    pairs: Sequence[Pair],
    division: Division,
    vectors: VectorSet,
) -> list[VectorRecord]:
    """One record a pair: its own vector and its pattern's, both at the layer of the latter."""
    import torch

    from pts.steering.pair_records import pair_records, record_patterns
    from pts.steering.pivot_vectors import pivot_directions

    layers = [vectors.vectors[name].layer for name in record_patterns(vectors, division.names)]
    own: list[torch.Tensor] = [torch.empty(0)] * len(pairs)
    for layer in sorted(set(layers)):
        places = [place for place, at in enumerate(layers) if at == layer]
        found = pivot_directions(model, [pairs[place] for place in places], layer, inputs.layers_path)
        for place, direction in zip(places, found, strict=True):
            own[place] = direction
    ids = {group.name: number for number, group in enumerate(division.groups)}
    return pair_records(vectors, pairs, division.names, task_type, own, ids)


def patterns_text(inputs: ExtractInputs, division: Division) -> str:
    """The text of patterns.json: what the patterns are made of, each one's pairs, and each pair's own label."""
    clusters = division.patterns.clusters
    described: dict[str, object] = {
        "basis": division.basis,
        "requested": inputs.patterns,
        "groups": [to_json(group) for group in division.groups],
        "without_vector": dict(division.without),
        "labels": list(division.patterns.labels),
        "clusters": None
        if clusters is None
        else {
            "k": clusters.k,
            "p_value": clusters.p_value,
            "stability": clusters.stability,
            "stabilities": {str(k): value for k, value in clusters.stabilities.items()},
        },
    }
    return json.dumps(described, ensure_ascii=False, indent=2) + "\n"
