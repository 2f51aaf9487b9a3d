"""The counterfactual of a sentence: completions that wrote a different one in its place.

Sentences are compared by the words that they share: any policy has those, and the same two sentences are always
judged alike. Or by embeddings of the model itself (`pts.pivot_search.embedded`), as thought anchors do (Bogdan
et al. 2025).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeAlias

from pts.pivot_search.sentences import sentence_spans
from pts.pivot_search.values import GradedRollout
from pts.records import TokenIds

DIFFERENT_BELOW = 0.5
"""Two sentences that share less of their words than this are different."""
LONGEST = 256
"""Tokens of a completion in which the end of its sentence is looked for."""
Differs: TypeAlias = Callable[[str, Sequence[str]], Sequence[bool]]
"""Of a sentence and others: which of the others are different from it."""
_WORD = re.compile(r"\d+(?:[.,]\d+)*|\w+|[^\w\s]")


def words_of(text: str) -> Counter[str]:
    """The words of a text with their counts, in lower case.

    Numbers and signs are words, but for the marks that end sentences.
    """
    return Counter(word for word in _WORD.findall(text.lower()) if word not in ".,;:!?")


def shared_words(one: Counter[str], other: Counter[str]) -> float:
    """The share of words that two texts have in common, from 0 to 1 (Dice 1945, of words with their counts)."""
    total = one.total() + other.total()
    return 2 * (one & other).total() / total if total else 1.0


def other_words(sentence: str, others: Sequence[str]) -> list[bool]:
    """Which of `others` share less than half of their words with a sentence."""
    words = words_of(sentence)
    return [shared_words(words_of(other), words) < DIFFERENT_BELOW for other in others]


def sentences_at(rollouts: Sequence[GradedRollout], start: int, decode: Callable[[TokenIds], str]) -> list[str]:
    """The sentence that each rollout wrote from token `start` on."""
    tails = [rollout.completion[start : start + LONGEST] for rollout in rollouts]
    ends = [sentence_spans(tail, decode)[0][1] if tail else 0 for tail in tails]
    return [decode(tail[:end]) for tail, end in zip(tails, ends, strict=True)]


def different_tally(
    rollouts: Sequence[GradedRollout], sentence: str, written: Sequence[str], differs: Differs = other_words
) -> tuple[int, int]:
    """Successes and draws of the rollouts whose sentence, `written`, is another than `sentence`."""
    different = [r for r, other in zip(rollouts, differs(sentence, written), strict=True) if other]
    return sum(r.count * r.success for r in different), sum(r.count for r in different)
