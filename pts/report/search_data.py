"""A search run as the data of its report: what the page draws, problem by problem, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pts.errors import DataError, ModelError
from pts.lexicon import label_pivot, label_sentence
from pts.pivot_search.findings import Finding, effect_interval
from pts.pivot_search.offsets import text_offsets
from pts.pivot_search.results import Candidate, ProblemResult, ProblemStatus, SearchedTrace, SentenceLink
from pts.pivot_search.sentences import sentence_spans
from pts.records import TokenIds
from pts.report.continuations import Continuation, Place, example_continuations
from pts.report.steered_data import (
    MovedData,
    SteeredRun,
    SteeredTraceData,
    SteeringData,
    steered_choice,
    steered_trace,
)
from pts.runs.run_tokenizer import load_run_detokenizer
from pts.runs.search_run import SearchResults
from pts.runs.search_summary import SearchSummary, search_summary
from pts.stats import proportion_interval
from pts.steering.formats.dpo import preference_pairs

LEVEL = 0.95
"""Level of the intervals of values; that of a reported effect allows for having selected it."""
_THOUSAND = 1000
"""Probabilities and values of tokens are whole thousandths: a report is read by eye, and sent by mail."""

_OFF = {"top-p": 1, "top-k": 0, "min-p": 0}
"""The values that switch a truncation of the sampler off."""

Decode = Callable[[TokenIds], str]


@dataclass(frozen=True, slots=True)
class Rate:
    """A success rate with its interval at `LEVEL` and the rollouts behind it."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True)
class OtherToken:
    """An alternative at a pivot: its text, its probability by the policy and the success rate after it."""

    token: str
    prob: float
    rate: Rate


@dataclass(frozen=True, slots=True)
class PairTexts:
    """The better and the worse next token of a confirmed preference pair, as text."""

    chosen: str
    rejected: str


@dataclass(frozen=True, slots=True)
class EventData:
    """A confirmed candidate: its effect, what was measured on both sides, and example continuations.

    `end` is the token after a sentence's last, None for a token. `audited` says that the audit drew it at
    random from what the screen had dropped. `reported` says whether it is a finding; then `low` to `high` is
    the interval that allows for the selection, else the one at `LEVEL`. `examples` and `pairs` are empty where
    the tokenizer was not to be had. `entropy` is in nats, None for a sentence or where the run has none.
    `links` are the later sentences that a reported one makes more or less likely. `pattern` is the reasoning
    pattern that the words around a reported token speak for (`pts.lexicon`), empty for others. `moved` is the
    probability of what was taken and of each of `others`, unsteered and steered; empty where it was not read.
    """

    position: int
    end: int | None
    token: str
    prob: float
    entropy: float | None
    delta: float
    low: float
    high: float
    p_value: float
    q_value: float | None
    reported: bool
    audited: bool
    before: Rate
    after: Rate
    instead: Rate
    others: tuple[OtherToken, ...]
    pairs: tuple[PairTexts, ...]
    examples: tuple[Continuation, ...]
    links: tuple[SentenceLink, ...] = ()
    pattern: str = ""
    moved: tuple[MovedData, ...] = ()


@dataclass(frozen=True, slots=True)
class TraceData:
    """A completion as text with a number for each token.

    `lengths` cut `text` into tokens, in UTF-16 units, by which browsers count. `probs` are q in thousandths,
    `values`, `lows` and `highs` the believed value after each token likewise; None, as `fates`, in a run of an
    earlier version. `sentences` are the first tokens of its sentences. The first `thinking` tokens are the
    model's thinking. `moved` is None where it was not read steered.
    """

    text: str
    lengths: tuple[int, ...]
    probs: tuple[int, ...]
    fates: str | None
    values: tuple[int, ...] | None
    lows: tuple[int, ...] | None
    highs: tuple[int, ...] | None
    thinking: int
    sentences: tuple[int, ...]
    success: bool
    cut: bool
    events: tuple[EventData, ...]
    moved: SteeredTraceData | None = None


@dataclass(frozen=True, slots=True)
class ProblemData:
    """A problem: its texts, the value of its prompt, what was searched and what that took in tokens."""

    id: str
    query: str
    answer: str
    prompt: str
    status: ProblemStatus
    value: Rate | None
    tokens: int
    traces: tuple[TraceData, ...]


@dataclass(frozen=True, slots=True)
class SearchData:
    """A whole run. `name` is its directory's; `without_tokenizer` says why texts are joined from tokens.

    `sampler` says in words how completions were sampled. `steering` says what its completions were read with,
    None where with nothing.
    """

    name: str
    summary: SearchSummary
    problems: tuple[ProblemData, ...]
    without_tokenizer: str | None
    sampler: str
    steering: SteeringData | None = None
    kind: Literal["search"] = "search"


def search_data(run: SearchResults, steered: SteeredRun | None = None) -> SearchData:
    """What a report shows of a run, complete or not, and of what steering does to its completions.

    Raises RunError where its files cannot be read.
    """
    decode: Decode | None
    pairs: Mapping[Place, tuple[PairTexts, ...]] = {}
    examples: Mapping[Place, tuple[Continuation, ...]] = {}
    reason = None
    try:
        decode = load_run_detokenizer(run)
        pairs = _pairs(run, decode)
    except ModelError as error:
        decode, reason = None, str(error)
    if decode is not None:
        examples = example_continuations(run, decode)
    found = {_place(f.problem, f.candidate): f for f in run.findings}
    whole = _Run(run, decode, found, pairs, examples, steered)
    return SearchData(
        name=Path(run.path).resolve().name,
        summary=search_summary(run),
        problems=tuple(_problem(whole, result) for result in run.results),
        without_tokenizer=reason,
        sampler=_sampler(run),
        steering=None if steered is None else steered.steering,
    )


def _sampler(run: SearchResults) -> str:
    """How the run's completions were sampled, in words, what is switched off left out. Raises RunError."""
    sampling = run.sampling
    truncation = {"top-p": sampling.top_p, "top-k": sampling.top_k, "min-p": sampling.min_p}
    parts = [f"temperature {sampling.temperature:g}" if sampling.temperature else "greedy"]
    parts += [f"{name} {value:g}" for name, value in truncation.items() if value != _OFF[name]]
    thinking = run.manifest.settings.get("thinking")
    if isinstance(thinking, bool):
        parts.append("with thinking" if thinking else "without thinking")
    return f"{', '.join(parts)}; at most {sampling.budget:,} new tokens"


def traces_of_findings(run: SearchResults, most: int) -> list[tuple[ProblemResult, int, TraceData]]:
    """The completions with the largest effects, each once: its problem, its number there, and its data.

    Without example continuations, for which the journal would be read. Tokens are joined where the tokenizer is
    not to be had.
    """
    try:
        decode: Decode | None = load_run_detokenizer(run)
    except ModelError:
        decode = None
    findings = run.findings
    found = {_place(f.problem, f.candidate): f for f in findings}
    whole = _Run(run, decode, found, {}, {})
    places = {(f.problem.problem_id, f.candidate.trace): f.problem for f in findings}
    chosen = list(places.items())[:most]
    return [(problem, index, _trace(whole, problem, index)) for (_, index), problem in chosen]


@dataclass(frozen=True, slots=True)
class _Run:
    """A run with what is looked up for each of its problems."""

    results: SearchResults
    decode: Decode | None
    found: Mapping[Place, Finding]
    pairs: Mapping[Place, tuple[PairTexts, ...]]
    examples: Mapping[Place, tuple[Continuation, ...]]
    steered: SteeredRun | None = None


def _problem(run: _Run, result: ProblemResult) -> ProblemData:
    successes = round(result.prompt_value * result.prompt_n) if result.prompt_n else 0
    return ProblemData(
        id=result.problem_id,
        query=result.query,
        answer=result.answer,
        prompt=result.query if run.decode is None else run.decode(result.prompt),
        status=result.status,
        value=_rate(successes, result.prompt_n) if result.prompt_n else None,
        tokens=result.tokens_generated,
        traces=tuple(_trace(run, result, index) for index in range(len(result.traces))),
    )


def _trace(run: _Run, result: ProblemResult, index: int) -> TraceData:
    trace = result.traces[index]
    text, offsets = _text(trace, run.decode)
    ends = [*offsets[1:], len(text)]
    pieces = [text[start:end] for start, end in zip(offsets, ends, strict=True)]
    details = trace.details
    events = [_event(run, result, candidate) for candidate in result.candidates if candidate.trace == index]
    return TraceData(
        text=text,
        lengths=tuple(_utf16_length(piece) for piece in pieces),
        probs=_thousandths(trace.token_probs),
        fates=None if details is None else details.fates,
        values=None if details is None else _thousandths(details.values),
        lows=None if details is None else _thousandths(details.values_low),
        highs=None if details is None else _thousandths(details.values_high),
        thinking=_thinking(text, offsets, run.results.resolved.think_end),
        sentences=_sentences(trace, run.decode),
        success=trace.success,
        cut=trace.finish == "budget",
        events=tuple(sorted(events, key=lambda event: event.position)),
        moved=steered_trace(run.steered, (result.problem_id, index)),
    )


def _text(trace: SearchedTrace, decode: Decode | None) -> tuple[str, Sequence[int]]:
    """The completion's text and where each token begins in it, in characters."""
    if decode is None:
        ends = [0]
        for token in trace.tokens:
            ends.append(ends[-1] + len(token))
        return "".join(trace.tokens), ends[:-1]
    text = decode(trace.completion)
    offsets = text_offsets(trace.completion, decode) if trace.details is None else trace.details.offsets
    return text, [min(offset, len(text)) for offset in offsets]


def _sentences(trace: SearchedTrace, decode: Decode | None) -> tuple[int, ...]:
    """The first token of each sentence; those that were searched, where sentences were."""
    if trace.sentences or decode is None:
        return tuple(start for start, _ in trace.sentences)
    return tuple(start for start, _ in sentence_spans(trace.completion, decode))


def _place(result: ProblemResult, candidate: Candidate) -> Place:
    return result.problem_id, candidate.trace, candidate.position, candidate.end


def _thinking(text: str, offsets: Sequence[int], think_end: str | None) -> int:
    """How many tokens the thinking takes, its end included; 0 where the completion has no such end."""
    at = text.find(think_end) if think_end else -1
    if at < 0 or think_end is None:
        return 0
    end = at + len(think_end)
    return sum(offset < end for offset in offsets)


def _pattern(run: _Run, finding: Finding) -> str:
    context = run.results.context(finding)
    if finding.candidate.unit == "sentence":
        return label_sentence(finding.candidate.token)
    return label_pivot(context.before, context.token, context.after)


def _event(run: _Run, result: ProblemResult, candidate: Candidate) -> EventData:
    place = _place(result, candidate)
    finding = run.found.get(place)
    low, high = (finding.ci_low, finding.ci_high) if finding else effect_interval(candidate, LEVEL)
    after = _rate(candidate.value_successes, candidate.value_n)
    instead = _rate(candidate.off_trace_successes, candidate.off_trace_n)
    others = sorted(candidate.alternatives, key=lambda other: -other.prob)
    return EventData(
        position=candidate.position,
        end=candidate.end,
        token=candidate.token,
        prob=candidate.token_prob,
        entropy=None if candidate.entropy is None else round(candidate.entropy, 3),
        delta=candidate.delta,
        low=low,
        high=high,
        p_value=candidate.p_value,
        q_value=None if finding is None else finding.q_value,
        reported=finding is not None,
        audited=candidate.audit_weight is not None,
        before=_mixed(candidate.token_prob, after, instead),
        after=after,
        instead=instead,
        others=tuple(OtherToken(o.token, o.prob, _rate(round(o.value * o.n), o.n)) for o in others),
        pairs=run.pairs.get(place, ()),
        examples=run.examples.get(place, ()),
        links=() if finding is None else run.results.links_of(finding),
        pattern="" if finding is None else _pattern(run, finding),
        moved=steered_choice(run.steered, place, candidate.alternatives, others),
    )


def _pairs(run: SearchResults, decode: Decode) -> dict[Place, tuple[PairTexts, ...]]:
    """The texts of the confirmed preference pairs, by their place. Raises ModelError for another tokenizer."""
    try:
        pairs = preference_pairs(run, decode)
    except DataError:
        return {}
    texts: dict[Place, tuple[PairTexts, ...]] = {}
    for pair in pairs:
        place = (pair.dataset_item_id, pair.trace, pair.position, None)
        texts[place] = (*texts.get(place, ()), PairTexts(pair.chosen, pair.rejected))
    return texts


def _rate(successes: int, n: int) -> Rate:
    low, high = proportion_interval(successes, n, LEVEL)
    return Rate(successes / n if n else 0.0, low, high, n)


def _mixed(q: float, after: Rate, instead: Rate) -> Rate:
    """The value before a token, q·V + (1 − q)·O, with an interval from those of both (Zou and Donner 2008)."""
    value = q * after.value + (1 - q) * instead.value
    below = ((q * (after.value - after.low)) ** 2 + ((1 - q) * (instead.value - instead.low)) ** 2) ** 0.5
    above = ((q * (after.high - after.value)) ** 2 + ((1 - q) * (instead.high - instead.value)) ** 2) ** 0.5
    return Rate(value, max(0.0, value - below), min(1.0, value + above), after.n + instead.n)


def _thousandths(values: Sequence[float]) -> tuple[int, ...]:
    return tuple(round(value * _THOUSAND) for value in values)


def _utf16_length(text: str) -> int:
    return len(text) + sum(ord(character) > 0xFFFF for character in text)
