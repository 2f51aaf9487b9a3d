"""Right completions of a search, without the sentences of their thinking that hardly move the value.

A search knows the value along each of its completions, so the effect of every sentence. Those below a minimum
are dropped one after the other, the smallest effect first, and each only where the model, made to answer right
after what is left, still answers right.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from statistics import fmean

from pts.pivot_search.results import ProblemResult, SearchedTrace
from pts.pivot_search.sentences import Span, sentence_spans
from pts.policies.protocol import SteerablePolicy
from pts.records import Problem, RolloutRequest, TokenIds
from pts.seeds import derive_seed
from pts.training.drawing import lead_of
from pts.training.modes import Modes
from pts.training.samples import Asker, Sample
from pts.training.solutions import Solution, by_length

DRAWS = 4
"""Answers that the model is made to draw after shortened thinking; all must be right."""


@dataclass(frozen=True, slots=True)
class Thought:
    """A right completion of a search.

    `completion` is what follows the lead; its first `thinking` tokens are its thinking, the closing tag
    included, of `sentences` sentences. `spare` are those that hardly move the value, the smallest effect first.
    """

    problem: Problem
    trace: int
    completion: TokenIds
    thinking: int
    sentences: int
    spare: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Shortened:
    """What became of a thought: the completion to learn, and the sentences that it lacks."""

    completion: TokenIds
    dropped: int


def thoughts_of(
    problem: Problem,
    result: ProblemResult,
    modes: Modes,
    decode: Callable[[TokenIds], str],
    min_effect: float,
) -> list[Thought]:
    """The right completions of a problem whose thinking ends, with the sentences that may go.

    Traces without values (of an earlier version) are left out, and so are those that begin otherwise than the
    modes do.
    """
    found = []
    for number, trace in enumerate(result.traces):
        lead = len(modes.lead)
        completion = trace.completion[lead:]
        thinking, answer = modes.split(completion)
        begun = trace.completion[:lead] == modes.lead and modes.thinks(completion)
        if trace.success and trace.details is not None and begun and thinking and answer:
            # The tag that closes thinking is a sentence of its own, the last one of it.
            within = [
                (abs(effect), (start - lead, end - lead))
                for (start, end), effect in sentence_effects(result, number, trace, decode).items()
                if start >= lead and end - lead < len(thinking)
            ]
            spare = tuple(span for effect, span in sorted(within) if effect < min_effect)
            found.append(Thought(problem, number, completion, len(thinking), len(within), spare))
    return found


def sentence_effects(
    result: ProblemResult, number: int, trace: SearchedTrace, decode: Callable[[TokenIds], str]
) -> dict[Span, float]:
    """What each sentence of a trace changes in the probability of success.

    It is the value after its last token less that before its first one, as the search's belief has both (the
    prompt's value before the first token), and what the confirmation measured where the sentence was confirmed.
    """
    assert trace.details is not None
    values = (result.prompt_value, *trace.details.values)
    spans = trace.sentences or sentence_spans(trace.completion, decode)
    confirmed = {
        (one.position, one.end): one.delta
        for one in result.candidates
        if one.trace == number and one.end is not None
    }
    return {(start, end): confirmed.get((start, end), values[end] - values[start]) for start, end in spans}


def without(ids: TokenIds, spans: Collection[Span]) -> TokenIds:
    """Token ids without those of some spans."""
    gone = {place for start, end in spans for place in range(start, end)}
    return tuple(token for place, token in enumerate(ids) if place not in gone)


def shorten_thoughts(
    thoughts: Sequence[Thought], policy: SteerablePolicy, asker: Asker, seed: int
) -> list[Shortened]:
    """Each thought without the sentences that can go; as it was where none can.

    A sentence goes where all of `DRAWS` answers after the shorter thinking are right. One sentence stays at
    least: thinking without any would be another mode.
    """
    dropped: list[list[Span]] = [[] for _ in thoughts]
    best = [thought.completion for thought in thoughts]
    for turn in range(max((len(thought.spare) for thought in thoughts), default=0)):
        tried = {
            place: [*dropped[place], thought.spare[turn]]
            for place, thought in enumerate(thoughts)
            if turn < len(thought.spare) and len(dropped[place]) + 1 < thought.sentences
        }
        requests = [
            RolloutRequest(
                policy.encode(thoughts[place].problem) + lead_of(asker),
                prefix=without(thoughts[place].completion[: thoughts[place].thinking], spans),
                n=DRAWS,
                seed=derive_seed(seed, thoughts[place].problem.id, thoughts[place].trace, turn),
                key=str(place),
                sampling=asker.sampling,
            )
            for place, spans in tried.items()
        ]
        drawn: dict[int, list[Sample]] = defaultdict(list)
        for finished in policy.finished(requests):
            place = int(finished.rollout.request.key)
            drawn[place] += asker.samples(policy, thoughts[place].problem, finished)
        for place, spans in tried.items():
            right = [sample.completion for sample in drawn[place] if sample.success]
            if len(right) == DRAWS:
                dropped[place] = spans
                best[place] = min(right, key=by_length)
    return [Shortened(completion, len(spans)) for completion, spans in zip(best, dropped, strict=True)]


def searched_solution(
    problem: str, digest: str, result: ProblemResult, thoughts: Sequence[Thought], shorter: Sequence[Shortened]
) -> Solution:
    """What is learnt of a searched problem: its shortest completion, shortened, and its longest as drawn."""
    best = min(shorter, key=lambda one: by_length(one.completion), default=None)
    whole = [thought.completion for thought in thoughts]
    return Solution(
        problem,
        digest,
        "thinking",
        len(result.traces),
        len(thoughts),
        fmean(len(trace.completion) for trace in result.traces),
        fmean(map(len, whole)) if whole else None,
        None if best is None else best.completion,
        max(whole, key=by_length, default=None),
        0 if best is None else best.dropped,
    )
