"""Where a think tag ends among tokens: an added token, or text that tokens share with what stands beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from pts.records import TokenIds


class Tag(Protocol):
    """A tag as a reader of token ids meets it; `ids` is how it is put in."""

    @property
    def ids(self) -> TokenIds:
        """The tag alone, encoded."""

    def completed_by(self, tail: Sequence[int]) -> int:
        """How many tokens at the end of `tail` hold the tag; 0 where its last token does not complete it."""

    def completing(self, tail: Sequence[int]) -> TokenIds:
        """The tokens that would complete the tag after `tail`."""


@dataclass(frozen=True, slots=True)
class TokenTag:
    """A tag that is always the same tokens: an added token of the vocabulary, or a sequence known as such."""

    ids: TokenIds

    def completed_by(self, tail: Sequence[int]) -> int:
        """The tag's length where `tail` ends with it, else 0."""
        size = len(self.ids)
        return size if size <= len(tail) and tuple(tail[-size:]) == self.ids else 0

    def completing(self, tail: Sequence[int]) -> TokenIds:
        """Its last token, where the others are written."""
        rest = self.ids[:-1]
        return self.ids[-1:] if not rest or tuple(tail[-len(rest) :]) == rest else ()


@dataclass(frozen=True, slots=True, eq=False)
class TextTag:
    """A tag that is no token of its own: the model may write it in any tokens, the last with more behind it.

    The text of the last tokens is what counts; its tokens then include one that has other text beside the tag.
    """

    tokenizer: Any
    text: str
    ids: TokenIds
    _may_end: dict[int, bool] = field(default_factory=dict)
    _beginning_with: dict[str, TokenIds] = field(default_factory=dict)

    def completed_by(self, tail: Sequence[int]) -> int:
        """How many last tokens hold the tag, where the last of them completes it; else 0."""
        if not tail or not self._can_end(tail[-1]):
            return 0
        window = list(tail[-self._longest :])
        at = self._decode(window).rfind(self.text)
        # Where the last token only follows the tag, the tag stands without it too.
        if at < 0 or self._decode(window[:-1]).rfind(self.text) >= at:
            return 0
        size = 1
        while size < len(window) and self.text not in self._decode(window[-size:]):
            size += 1
        return size

    def completing(self, tail: Sequence[int]) -> TokenIds:
        """Every token of the vocabulary that begins with what is missing of the tag."""
        written = self._decode(list(tail[-self._longest :]))
        missing = [
            self.text[size:]
            for size in range(len(self.text))
            if written.endswith(self.text[:size]) or size == 0
        ]
        return tuple(dict.fromkeys(token for rest in missing for token in self._beginning(rest)))

    @property
    def _longest(self) -> int:
        return len(self.text.encode()) + 1

    def _can_end(self, token: int) -> bool:
        """Whether the token's text has the tag's last character, or bytes that are no character alone."""
        if token not in self._may_end:
            text = self._decode([token])
            self._may_end[token] = self.text[-1] in text or "�" in text
        return self._may_end[token]

    def _beginning(self, rest: str) -> TokenIds:
        """Tokens whose text begins with `rest`. Pieces of a vocabulary write plain characters as themselves."""
        if rest not in self._beginning_with:
            likely = [
                i for piece, i in self.tokenizer.get_vocab().items() if rest[0] in piece or not piece.isascii()
            ]
            self._beginning_with[rest] = tuple(i for i in likely if self._decode([i]).startswith(rest))
        return self._beginning_with[rest]

    def _decode(self, ids: list[int]) -> str:
        text: str = self.tokenizer.decode(ids, clean_up_tokenization_spaces=False)
        return text


def make_tag(tokenizer: Any, text: str, ids: TokenIds) -> Tag:
    """The tag of that text, encoded as `ids`: tokens where it is added whole, text otherwise."""
    whole = len(ids) == 1 and ids[0] in tokenizer.get_added_vocab().values()
    return TokenTag(ids) if whole else TextTag(tokenizer, text.strip(), ids)


def last_end(tag: Tag, ids: Sequence[int]) -> int:
    """Where in `ids` the last tag ends, the index after it; −1 where there is none."""
    return next((end for end in range(len(ids), 0, -1) if tag.completed_by(ids[:end])), -1)
