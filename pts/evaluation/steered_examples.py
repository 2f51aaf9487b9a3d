"""What steering does, in examples: completions unsteered and steered, and the choice at pivots both ways."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from pts.errors import RunError
from pts.evaluation.decoder import Decoder
from pts.pivot_search.offsets import text_offsets
from pts.policies.protocol import Policy
from pts.records import Problem, Rollout, RolloutRequest, TokenIds
from pts.runs.codec import ShapeError, from_json, to_json
from pts.runs.files import replace_text
from pts.seeds import derive_seed
from pts.steering.hooks import interventions
from pts.steering.pairs import Pair
from pts.steering.set_location import EXAMPLES_NAME
from pts.steering.tables import Variant
from pts.steering.two_readings import Text, TwoReadings, read_twice
from pts.steering.vector_set import VectorSet

PROBLEMS, PIVOTS = 4, 60
"""Problems that are decoded both ways, and pivots of a pattern that are read both ways, at most."""
_CONTEXT = 220
"""Characters of the text before a pivot that are kept."""
_DIGITS = 4


@dataclass(frozen=True, slots=True)
class ReadCompletion:
    """A steered completion, token by token, beside the unsteered one with the same random numbers.

    `tokens` are the pieces of its text. `plain` and `steered` are the sampler's probability of each, after the
    same tokens, as the model is and steered. `opened` are the tokens (from 0) at which a gate was open: there
    the vector was added, and acts on what follows.
    """

    problem: str
    query: str
    answer: str
    unsteered: str
    unsteered_success: bool
    success: bool
    tokens: tuple[str, ...]
    plain: tuple[float, ...]
    steered: tuple[float, ...]
    opened: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class MovedPivot:
    """A pivot's choice: the sampler's probabilities of the better and the worse token, plain and steered.

    `better_value` and `worse_value` are the success rates after the two, as the search measured them.
    """

    context: str
    better: str
    worse: str
    better_value: float
    worse_value: float
    better_plain: float
    better_steered: float
    worse_plain: float
    worse_steered: float


@dataclass(frozen=True, slots=True)
class PatternExamples:
    """What one pattern's vector does, at its calibrated strength and gate."""

    completions: tuple[ReadCompletion, ...]
    pivots: tuple[MovedPivot, ...]


@dataclass(frozen=True, slots=True)
class SteeredExamples:
    """The examples of a vector set, by pattern."""

    patterns: Mapping[str, PatternExamples]


def steered_examples(
    decoder: Decoder,
    vectors: VectorSet,
    problems: Sequence[Problem],
    pairs: Mapping[str, Sequence[Pair]],
    seed: int,
) -> SteeredExamples:
    """The first few of `problems` decoded both ways, and each pattern's first few `pairs` read both ways.

    Neither is chosen by what steering does. The pairs must be such that the vectors were not fitted to them.
    """
    names = list(vectors.vectors)
    variants = [interventions(vectors, {name: 1.0}) for name in names]
    drawn = _decoded(decoder, variants, problems[:PROBLEMS], seed)
    return SteeredExamples(
        {
            name: PatternExamples(
                _completions(decoder, variant, problems[:PROBLEMS], drawn, place),
                _pivots(decoder, variant, pairs.get(name, ())[:PIVOTS]),
            )
            for place, (name, variant) in enumerate(zip(names, variants, strict=True), start=1)
        }
    )


def with_pivots(made: SteeredExamples, before: SteeredExamples | None) -> SteeredExamples:
    """New examples with the pivots of earlier ones, where there are any."""
    kept = {} if before is None else before.patterns
    return SteeredExamples(
        {
            name: replace(each, pivots=kept[name].pivots) if name in kept and not each.pivots else each
            for name, each in made.patterns.items()
        }
    )


def write_examples(folder: Path, examples: SteeredExamples) -> None:
    """Write them into a set's directory. Raises RunError where the system refuses."""
    replace_text(folder / EXAMPLES_NAME, json.dumps(to_json(examples), ensure_ascii=False) + "\n")


def read_examples(folder: Path) -> SteeredExamples | None:
    """The examples in a set's directory, None where it has none. Raises RunError where they cannot be read."""
    where = folder / EXAMPLES_NAME
    if not where.exists():
        return None
    try:
        return from_json(SteeredExamples, json.loads(where.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        reason = error if isinstance(error, ShapeError) else "no JSON"
        raise RunError(
            f"{where} cannot be read ({reason}): delete it, or write it again by "
            "pts vectors measure SET --examples."
        ) from error


@dataclass(frozen=True, slots=True)
class _Drawn:
    """A completion, its text, the pieces of that, and whether it is right."""

    rollout: Rollout
    text: str
    pieces: tuple[str, ...]
    success: bool


_ByPlace: TypeAlias = Mapping[tuple[str, int], _Drawn]
"""Completions by problem and variant."""


def _decoded(decoder: Decoder, variants: Sequence[Variant], problems: Sequence[Problem], seed: int) -> _ByPlace:
    """One completion of each problem by each variant (0: the model as it is), with common random numbers."""
    asked = {
        f"{index}/{variant}": (problem, variant)
        for index, problem in enumerate(problems)
        for variant in range(len(variants) + 1)
    }
    with decoder.steered(variants) as policy:
        requests = [
            RolloutRequest(
                policy.encode(problem),
                seed=derive_seed(seed, "examples", problem.id),
                variant=variant,
                key=key,
                sampling=decoder.sampling,
            )
            for key, (problem, variant) in asked.items()
        ]
        drawn = {}
        for rollout in policy.rollouts(requests):
            problem, variant = asked[rollout.request.key]
            text = policy.decode(rollout.completion, decoder.sampling.stop)
            success = rollout.finish == "end" and decoder.grade(text, problem.answer)
            pieces = _pieces(policy, rollout.completion)
            drawn[problem.id, variant] = _Drawn(rollout, text, pieces, success)
    return drawn


def _pieces(policy: Policy, ids: TokenIds) -> tuple[str, ...]:
    """The completion's text, cut into its tokens."""
    text, offsets = policy.decode(ids), text_offsets(ids, policy.decode)
    return tuple(text[start:end] for start, end in zip(offsets, (*offsets[1:], len(text)), strict=True))


def _completions(
    decoder: Decoder, variant: Variant, problems: Sequence[Problem], drawn: _ByPlace, place: int
) -> tuple[ReadCompletion, ...]:
    rollouts = [drawn[problem.id, place].rollout for problem in problems]
    readings = read_twice(
        decoder.loaded.model,
        variant,
        [Text(rollout.request.prompt, rollout.completion) for rollout in rollouts],
        decoder.sampling,
        layers_path=decoder.layers_path,
    )
    return tuple(
        _completion(problem, drawn[problem.id, 0], drawn[problem.id, place], reading)
        for problem, reading in zip(problems, readings, strict=True)
    )


def _completion(problem: Problem, unsteered: _Drawn, steered: _Drawn, reading: TwoReadings) -> ReadCompletion:
    ids = steered.rollout.completion
    return ReadCompletion(
        problem=problem.id,
        query=problem.query,
        answer=problem.answer,
        unsteered=unsteered.text,
        unsteered_success=unsteered.success,
        success=steered.success,
        tokens=steered.pieces,
        plain=tuple(round(d.prob(t), _DIGITS) for d, t in zip(reading.plain, ids, strict=True)),
        steered=tuple(round(d.prob(t), _DIGITS) for d, t in zip(reading.steered, ids, strict=True)),
        opened=tuple(place for place, opened in enumerate(reading.opened) if opened),
    )


def _pivots(decoder: Decoder, variant: Variant, pairs: Sequence[Pair]) -> tuple[MovedPivot, ...]:
    readings = read_twice(
        decoder.loaded.model,
        variant,
        [Text(pair.prompt, pair.prefix) for pair in pairs],
        decoder.sampling,
        last=True,
        layers_path=decoder.layers_path,
    )
    return tuple(_pivot(pair, reading) for pair, reading in zip(pairs, readings, strict=True))


def _pivot(pair: Pair, reading: TwoReadings) -> MovedPivot:
    (plain,), (steered,) = reading.plain, reading.steered
    better, worse = pair.better.token_id, pair.worse.token_id
    return MovedPivot(
        context=pair.before[-_CONTEXT:],
        better=pair.better.token,
        worse=pair.worse.token,
        better_value=pair.better.value,
        worse_value=pair.worse.value,
        better_plain=round(plain.prob(better), _DIGITS),
        better_steered=round(steered.prob(better), _DIGITS),
        worse_plain=round(plain.prob(worse), _DIGITS),
        worse_steered=round(steered.prob(worse), _DIGITS),
    )
