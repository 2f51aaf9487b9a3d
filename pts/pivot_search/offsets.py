"""Where each token's text begins in the text of all of them."""

from __future__ import annotations

from collections.abc import Callable

from pts.records import TokenIds

WINDOW = 16
"""Tokens that are decoded before a token, at least: what a tokenizer needs to put spaces and bytes right."""
_UNFINISHED = "\ufffd"
"""What a decoder gives for the first bytes of a character whose others come with a later token."""


def text_offsets(ids: TokenIds, decode: Callable[[TokenIds], str]) -> tuple[int, ...]:
    """The offset of each token's first character, [T], by decoding a few tokens at a time.

    Tokens that share a character have the offset at which it begins.
    """
    offsets: list[int] = []
    offset, start, known = 0, 0, ""
    for i in range(len(ids)):
        offsets.append(offset)
        text = decode(ids[start : i + 1])
        if text.endswith(_UNFINISHED):
            continue
        offset += len(text) - len(known)
        known = text
        if i + 1 - start >= 2 * WINDOW:
            start += WINDOW
            known = decode(ids[start : i + 1])
    return tuple(offsets)
