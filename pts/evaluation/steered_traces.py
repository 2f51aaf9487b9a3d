"""A search's completions read again with a vector set: where gates open, and how the choices at pivots move."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, TypeAlias

from pts.errors import ModelError
from pts.pivot_search.results import Candidate, ProblemResult, SearchedTrace
from pts.records import Sampling, TokenDistribution, TokenIds
from pts.steering.tables import Variant
from pts.steering.two_readings import Text, TwoReadings, read_twice

MOST_TOKENS = 60_000
"""Tokens of completions that are read, at most: this bounds the time, and what a report embeds."""
SAME = 0.05
"""Mean difference from the recorded probabilities above which the model is not taken for the one searched."""

TracePlace: TypeAlias = tuple[str, int]
"""A problem's id and the number of a completion there."""
ChoicePlace: TypeAlias = tuple[str, int, int, int | None]
"""A problem's id, a completion, a position, and the token after a sentence's last; None for a token."""


@dataclass(frozen=True, slots=True)
class Moved:
    """The probability of one token, or of all tokens of a sentence, by the model as it is and steered."""

    plain: float
    steered: float


@dataclass(frozen=True, slots=True)
class SteeredTrace:
    """A completion of the search read both ways: each token's probability [tokens] after the same tokens.

    `opened` [tokens] says where a gate was open: there the vector was added, and acts on what follows.
    """

    tokens: tuple[Moved, ...]
    opened: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class SteeredChoice:
    """A tested token or sentence read both ways, and the token's alternatives in the candidate's order."""

    taken: Moved
    others: tuple[Moved, ...]


@dataclass(frozen=True, slots=True)
class SteeredTraces:
    """The completions that were read, and the choices of the tested candidates in them."""

    traces: Mapping[TracePlace, SteeredTrace]
    choices: Mapping[ChoicePlace, SteeredChoice]


def read_steered(
    model: Any,
    results: Sequence[ProblemResult],
    variant: Variant,
    sampling: Sampling,
    *,
    reported: Sequence[tuple[ProblemResult, Candidate]] = (),
    layers_path: str | None = None,
    most_tokens: int = MOST_TOKENS,
    observe: Callable[[int, float], None] | None = None,
) -> SteeredTraces:
    """Read the completions of `results` with and without a variant, one forward pass each way, nothing drawn.

    Probabilities are those of `sampling`, truncation included. Completions with the strongest `reported`
    candidates come first, then the others in their order, up to `most_tokens` (the first in any case).
    `observe` gets the number of tokens just read and the share done. Raises VectorError for a vector that does
    not fit the model, ModelError for a model whose probabilities are not those that were recorded.
    """
    chosen = _chosen(results, reported, most_tokens)
    total = sum(len(result.traces[index].completion) for result, index in chosen)
    traces: dict[TracePlace, SteeredTrace] = {}
    choices: dict[ChoicePlace, SteeredChoice] = {}
    gaps, done = 0.0, 0
    for result, index in chosen:
        trace = result.traces[index]
        candidates = [candidate for candidate in result.candidates if candidate.trace == index]
        text = Text(result.prompt, trace.completion, _alternatives(candidates))
        (reading,) = read_twice(model, variant, [text], sampling, layers_path=layers_path)
        read = _trace(trace, reading)
        traces[result.problem_id, index] = read
        for candidate in candidates:
            place = (result.problem_id, index, candidate.position, candidate.end)
            choices[place] = _choice(candidate, read, reading)
        recorded = zip(read.tokens, trace.token_probs, strict=True)
        gaps += sum(abs(token.plain - prob) for token, prob in recorded)
        done += len(trace.completion)
        if observe is not None:
            observe(len(trace.completion), done / total)
    if done and gaps / done > SAME:
        raise ModelError(
            f"the model gives the tokens of the run other probabilities than the search recorded (by "
            f"{gaps / done:.2f} in the mean): it is not the model that was searched, or not its sampler."
        )
    return SteeredTraces(traces, choices)


def _chosen(
    results: Sequence[ProblemResult], reported: Sequence[tuple[ProblemResult, Candidate]], most_tokens: int
) -> list[tuple[ProblemResult, int]]:
    """The completions to read, in order."""
    strongest = sorted(reported, key=lambda found: -abs(found[1].delta))
    places = {(result.problem_id, candidate.trace): result for result, candidate in strongest}
    rest = ((result.problem_id, index) for result in results for index in range(len(result.traces)))
    every = {result.problem_id: result for result in results}
    chosen: list[tuple[ProblemResult, int]] = []
    left = most_tokens
    for name, index in dict.fromkeys([*places, *rest]):
        result = every[name]
        left -= len(result.traces[index].completion)
        if left < 0 and chosen:
            break
        chosen.append((result, index))
    return chosen


def _alternatives(candidates: Sequence[Candidate]) -> dict[int, TokenIds]:
    """The alternatives of each tested token, by position."""
    return {c.position: tuple(other.token_id for other in c.alternatives) for c in candidates if c.end is None}


def _trace(trace: SearchedTrace, reading: TwoReadings) -> SteeredTrace:
    moved = zip(reading.plain, reading.steered, trace.completion, strict=True)
    return SteeredTrace(tuple(_moved(plain, steered, token) for plain, steered, token in moved), reading.opened)


def _moved(plain: TokenDistribution, steered: TokenDistribution, token: int) -> Moved:
    return Moved(plain.prob(token), steered.prob(token))


def _choice(candidate: Candidate, read: SteeredTrace, reading: TwoReadings) -> SteeredChoice:
    if candidate.end is not None:
        tokens = read.tokens[candidate.position : candidate.end]
        whole = Moved(prod(token.plain for token in tokens), prod(token.steered for token in tokens))
        return SteeredChoice(whole, ())
    plain, steered = reading.plain[candidate.position], reading.steered[candidate.position]
    return SteeredChoice(read.tokens[candidate.position], tuple(_others(candidate, plain, steered)))


def _others(candidate: Candidate, plain: TokenDistribution, steered: TokenDistribution) -> Iterator[Moved]:
    return (_moved(plain, steered, other.token_id) for other in candidate.alternatives)
