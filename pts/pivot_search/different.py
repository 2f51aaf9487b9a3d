"""The counterfactual of a sentence: completions that wrote a different one in its place.

Thought anchors (Bogdan et al. 2025) compare sentences by an embedding. Here it is the words that they share:
any policy has those, and the same two sentences are always judged alike.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence

from pts.pivot_search.sentences import sentence_spans
from pts.pivot_search.values import GradedRollout
from pts.records import TokenIds

DIFFERENT_BELOW = 0.5
"""Two sentences that share less of their words than this are different."""
LONGEST = 256
"""Tokens of a completion in which the end of its sentence is looked for."""
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


def different_tally(
    rollouts: Sequence[GradedRollout], sentence: str, start: int, decode: Callable[[TokenIds], str]
) -> tuple[int, int]:
    """Successes and draws of the rollouts whose sentence from token `start` on is another than `sentence`."""
    successes = draws = 0
    words = words_of(sentence)
    for rollout in rollouts:
        tail = rollout.completion[start : start + LONGEST]
        end = sentence_spans(tail, decode)[0][1] if tail else 0
        if shared_words(words_of(decode(tail[:end])), words) < DIFFERENT_BELOW:
            successes += rollout.count * rollout.success
            draws += rollout.count
    return successes, draws
