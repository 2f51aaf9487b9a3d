"""A completion's sentences as spans of its tokens."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from typing import TypeAlias

from pts.pivot_search.offsets import text_offsets
from pts.pivot_search.sentence_text import sentence_ends
from pts.records import TokenIds

Span: TypeAlias = tuple[int, int]
"""The first token of a sentence, and the first after it."""


def sentence_spans(completion: TokenIds, decode: Callable[[TokenIds], str]) -> tuple[Span, ...]:
    """The sentences of a completion, in order; every token is in exactly one of them.

    A token that holds the end of one sentence and the start of the next belongs to the former. White space and
    an end token belong to the sentence before them.
    """
    if not completion:
        return ()
    text = decode(completion)
    ends = sentence_ends(text)
    offsets = text_offsets(completion, decode)
    starts, current = [0], 0
    for position, offset in enumerate(offsets):
        # Tokens that share a character have one offset: all of them belong to where it stands.
        after = bisect_right(offsets, offset)
        shown = text[offset : offsets[after] if after < len(offsets) else len(text)]
        sentence = bisect_right(ends, offset + len(shown) - len(shown.lstrip()))
        if shown.strip() and sentence > current:
            current = sentence
            if position:
                starts.append(position)
    return tuple(zip(starts, [*starts[1:], len(completion)], strict=True))
