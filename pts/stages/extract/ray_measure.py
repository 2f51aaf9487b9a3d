"""Completions of calibration and test on Ray: this process fits, chooses and writes, workers decode."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from pts.calibration.measurer import Count, Keep, Stream, measure_stream
from pts.errors import ModelError
from pts.evaluation.outcomes import Outcomes
from pts.stages.extract.calibration import stage_decoder
from pts.stages.extract.inputs import ExtractInputs
from pts.stages.search.reload import Again, Loaded
from pts.stages.shared.ray_pool import AHEAD, Pool, dated, other_engine
from pts.stages.shared.ray_worker import Feed
from pts.stages.shared.recorded import dtype_name
from pts.steering.hooks import Variant


@dataclass(frozen=True, slots=True)
class MeasureFound:
    """What a worker's model turned out to be."""

    model_id: str
    model_revision: str | None
    dtype: str
    attention: str | None
    device: str


@dataclass(frozen=True, slots=True)
class Measured:
    """A variant's outcomes on a part's problems, and the completions that could not be decided."""

    part: str
    number: int
    outcomes: Outcomes
    undecided: int


@dataclass(slots=True)
class _Part:
    """Some problems of a stream: `left` are the numbers of the variants that are still to be measured."""

    name: str
    place: int
    first: int
    stream: Stream
    left: list[int]

    def packed(self) -> tuple[str, list[int], Stream]:
        """What a worker gets of it."""
        variants = tuple(self.stream.variants[number - 1] for number in self.left if number)
        return self.name, list(self.left), replace(self.stream, variants=variants)


@dataclass(slots=True)
class MeasureOnRay:
    """Measures streams in Ray's actors, each with a decoder. Outcomes are those of one process.

    A worker that dies is replaced, and what it had not measured is drawn again. `undecided` counts the
    completions that the workers' graders could not decide.
    """

    pool: Pool[_Part]
    undecided: int = 0

    def __call__(self, streams: Sequence[Stream], keep: Keep, count: Count) -> None:
        """Measure all of them."""
        whole = {
            (place, number): _Joined(len(stream.problems))
            for place, stream in enumerate(streams)
            for number in stream.numbers
        }
        for worker, event in self.pool.each_in_turn(self._parts(streams)):
            part = worker.jobs[event.part]
            part.left.remove(event.number)
            if not part.left:
                del worker.jobs[event.part]
            self.undecided += event.undecided
            successes, tokens, _ = event.outcomes.sums
            count(event.outcomes.samples * len(successes), sum(tokens))
            joined = whole[part.place, event.number].with_part(part.first, event.outcomes)
            if joined is not None:
                keep(part.place, event.number, joined)

    def _parts(self, streams: Sequence[Stream]) -> Iterator[tuple[str, _Part]]:
        """The streams, cut by problems where they are fewer than the workers have room for."""
        cuts = -(-AHEAD * len(self.pool.workers) // max(1, len(streams)))
        for place, stream in enumerate(streams):
            size = -(-len(stream.problems) // cuts)
            sent = replace(stream, variants=tuple(map(_on_cpu, stream.variants)))
            for first in range(0, len(stream.problems), max(1, size)):
                name = f"{place}/{first}"
                problems = stream.problems[first : first + size]
                yield name, _Part(name, place, first, replace(sent, problems=problems), stream.numbers)


@dataclass(slots=True)
class _Joined:
    """A variant's outcomes on so many problems, as its parts come."""

    missing: int
    parts: dict[int, Outcomes] = field(default_factory=dict)

    def with_part(self, first: int, outcomes: Outcomes) -> Outcomes | None:
        """Add a part that begins at a problem; the whole once it is there."""
        self.parts[first] = outcomes
        self.missing -= len(outcomes.successes)
        if self.missing:
            return None
        joined, *others = (self.parts[each] for each in sorted(self.parts))
        for more in others:
            joined = joined.joined(more)
        return joined


def open_pool(inputs: ExtractInputs, again: Again, search: Loaded) -> Pool[_Part]:
    """Workers with the search's model, the one that is loaded here. Raises PtsError."""
    again = replace(again, recorded=dated(again.recorded))
    most = inputs.calibration_problems * inputs.samples
    pool: Pool[_Part] = Pool(inputs, partial(MeasureEngine, inputs, again), inputs.device, most, _Part.packed)
    # The device may be another one: a GPU there, a CPU here.
    here = replace(_found(search), device=pool.found.device)
    if here != pool.found:
        pool.close()
        raise ModelError(
            "the workers' model is not the one that is loaded here "
            f"({'; '.join(other_engine(here, pool.found))}): give all machines the same model and packages."
        )
    return pool


class MeasureEngine:
    """The engine of a worker: a decoder with the search's model, prompts, sampler and grader."""

    progress = None

    def __init__(self, inputs: ExtractInputs, again: Again) -> None:
        search = again.load()
        self._decoder = stage_decoder(inputs, search)
        self.found = _found(search)

    def hear(self, told: object) -> None:
        """Nothing: there is nothing to hear."""

    def work(self, jobs: Feed[tuple[str, list[int], Stream]], send: Callable[[Measured], None]) -> None:
        """Measure what comes; each variant's outcomes are sent as they are done."""
        from pts.graders.undecided import undecided_by

        for name, numbers, stream in jobs:
            before = undecided_by(self._decoder.grade)

            def keep(number: int, outcomes: Outcomes, name: str = name, numbers: list[int] = numbers) -> None:
                nonlocal before
                now = undecided_by(self._decoder.grade)
                send(Measured(name, numbers[max(0, number - 1)], outcomes, now - before))
                before = now

            measure_stream(self._decoder, stream, keep)
            jobs.landed()


def _found(search: Loaded) -> MeasureFound:
    loaded = search.loaded
    device = loaded.device.type
    return MeasureFound(loaded.model_id, loaded.revision, dtype_name(loaded), loaded.attention, device)


def _on_cpu(variant: Variant) -> Variant:
    """A variant whose tensors any machine can read."""
    return tuple(
        replace(
            each,
            vector=each.vector.detach().cpu(),
            gate=replace(
                each.gate, weight=None if each.gate.weight is None else each.gate.weight.detach().cpu()
            ),
        )
        for each in variant
    )
