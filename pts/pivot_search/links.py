"""Links between sentences: does keeping one change whether a later one of its trace is written?

They come from the rollouts of a sentence's confirmation, and cost no token of their own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeAlias

from pts.pivot_search.different import DIFFERENT_BELOW, shared_words, words_of
from pts.pivot_search.findings import Finding
from pts.pivot_search.results import Candidate, LaterSentence, SentenceLink
from pts.pivot_search.sentence_text import sentence_ends
from pts.pivot_search.sentences import Span
from pts.pivot_search.values import GradedRollout
from pts.records import TokenIds
from pts.stats import benjamini_hochberg, difference_interval

LATER = 24
"""Of the sentences after one in its trace, the first so many are looked for in its rollouts."""

Decode: TypeAlias = Callable[[TokenIds], str]


def later_sentences(
    kept: Sequence[GradedRollout],
    left: Sequence[GradedRollout],
    span: Span,
    later: Sequence[tuple[int, str]],
    decode: Decode,
) -> tuple[LaterSentence, ...]:
    """How often rollouts that kept the sentence at `span`, and that left it, wrote each `later` sentence.

    `later` holds the first token and the text of each. A rollout wrote one where a sentence of its own shares
    at least half of its words with it; the text counts from the sentence's end on, or from where a rollout
    may have left it.
    """
    wanted = [words_of(text) for _, text in later]
    on = _written(kept, span[1], wanted, decode)
    off = _written(left, span[0], wanted, decode)
    return tuple(
        LaterSentence(position, text, *first, *second)
        for (position, text), first, second in zip(later, on, off, strict=True)
    )


def _written(
    rollouts: Sequence[GradedRollout], start: int, wanted: Sequence[Counter[str]], decode: Decode
) -> list[tuple[int, int]]:
    """For each wanted sentence: rollouts that wrote it, and all rollouts."""
    total = sum(rollout.count for rollout in rollouts)
    found = [0] * len(wanted)
    for rollout in rollouts:
        text = decode(rollout.completion[start:])
        ends = sentence_ends(text)
        own = [words_of(text[first:end]) for first, end in zip([0, *ends], ends, strict=False)]
        for index, words in enumerate(wanted):
            if any(shared_words(words, other) >= DIFFERENT_BELOW for other in own):
                found[index] += rollout.count
    return [(written, total) for written in found]


def select_links(
    findings: Sequence[Finding], fdr: float
) -> dict[tuple[str, int, int], tuple[SentenceLink, ...]]:
    """The links of reported sentences, by problem, trace and position: Benjamini–Hochberg at `fdr` over all.

    Each later sentence that was looked for is tested with Fisher's exact test of no difference, unless all
    rollouts of both sides wrote it or none did. Intervals (Newcombe) are at level 1 − fdr·R/m for R links of m
    tested. The confirmation stops by success: where success and the later sentence go together, the tests and
    intervals of links are approximate.
    """
    from scipy.stats import fisher_exact

    tested = [
        (finding, later)
        for finding in findings
        for later in finding.candidate.later
        if 0 < later.kept_written + later.left_written < later.kept_n + later.left_n
    ]
    p_values = [float(fisher_exact(_table(later)).pvalue) for _, later in tested]
    q_values = benjamini_hochberg(p_values)
    reported = sum(q <= fdr for q in q_values)
    level = 1.0 - fdr * reported / max(len(tested), 1)
    links: dict[tuple[str, int, int], tuple[SentenceLink, ...]] = {}
    for (finding, later), p, q in zip(tested, p_values, q_values, strict=True):
        if q <= fdr:
            candidate = finding.candidate
            place = finding.problem.problem_id, candidate.trace, candidate.position
            links[place] = (*links.get(place, ()), _link(candidate, later, p, q, level))
    return links


def _table(later: LaterSentence) -> list[list[int]]:
    return [
        [later.kept_written, later.kept_n - later.kept_written],
        [later.left_written, later.left_n - later.left_written],
    ]


def _link(candidate: Candidate, later: LaterSentence, p: float, q: float, level: float) -> SentenceLink:
    counts = (later.kept_written, later.kept_n, later.left_written, later.left_n)
    low, high = difference_interval(*counts, 1.0 - (1.0 - level) / candidate.looks)
    return SentenceLink(
        later.text,
        later.position,
        later.kept_written / later.kept_n,
        later.left_written / later.left_n,
        *(low, high, p, q),
    )
