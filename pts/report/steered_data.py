"""What a vector set does to a search's completions, as the data of the search's report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pts.evaluation.steered_traces import ChoicePlace, Moved, SteeredTraces, TracePlace
from pts.pivot_search.results import Alternative

_THOUSAND = 1000
_DIGITS = 4


@dataclass(frozen=True, slots=True)
class SteeringData:
    """What steered the completions: the set's name and how each pattern was `added`.

    `read` of the run's completions were read steered, `of` in all. Of `fitted` of its searched problems the
    vectors have pivots that they were made of; None where the set does not say.
    """

    name: str
    added: tuple[str, ...]
    read: int
    of: int
    fitted: int | None


@dataclass(frozen=True, slots=True)
class SteeredRun:
    """A run's completions read with a vector set."""

    steering: SteeringData
    read: SteeredTraces


@dataclass(frozen=True, slots=True)
class SteeredTraceData:
    """A completion read both ways: its tokens' probabilities in thousandths, and "1" where a gate was open."""

    plain: tuple[int, ...]
    steered: tuple[int, ...]
    opened: str


@dataclass(frozen=True, slots=True)
class MovedData:
    """A probability by the model as it is and steered."""

    plain: float
    steered: float


def steered_trace(run: SteeredRun | None, place: TracePlace) -> SteeredTraceData | None:
    """What a completion's page shows; None where it was not read steered."""
    trace = None if run is None else run.read.traces.get(place)
    if trace is None:
        return None
    return SteeredTraceData(
        plain=tuple(round(token.plain * _THOUSAND) for token in trace.tokens),
        steered=tuple(round(token.steered * _THOUSAND) for token in trace.tokens),
        opened="".join("01"[opened] for opened in trace.opened),
    )


def steered_choice(
    run: SteeredRun | None,
    place: ChoicePlace,
    alternatives: Sequence[Alternative],
    order: Sequence[Alternative],
) -> tuple[MovedData, ...]:
    """What was taken and each alternative, in `order`, by both readings; empty where it was not read.

    `alternatives` are those of the candidate. Of a sentence only the sentence itself was read.
    """
    choice = None if run is None else run.read.choices.get(place)
    if choice is None:
        return ()
    if not choice.others:
        return (_rounded(choice.taken),)
    read = {other.token_id: moved for other, moved in zip(alternatives, choice.others, strict=True)}
    return tuple(_rounded(moved) for moved in (choice.taken, *(read[other.token_id] for other in order)))


def _rounded(moved: Moved) -> MovedData:
    return MovedData(_significant(moved.plain), _significant(moved.steered))


def _significant(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
