"""Texts that end a completion as an end token does, found in the text of its tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_BYTES = "�"
"""What tokens decode to that hold a part of a character only."""


def before_stop(text: str, stops: Sequence[str]) -> str:
    """A text up to where the first of the stop texts begins; all of it where there is none."""
    return text[: min((at for stop in stops if (at := text.find(stop)) >= 0), default=len(text))]


class StopTexts:
    """Finds the token that completes a stop text in a completion.

    A stop text is found in the text of all the completion's tokens together: it may begin and end in the middle
    of tokens. So that not every token is decoded with those before it, a token is first looked at by itself.

        stops = StopTexts(tokenizer, ("\\n\\nQuestion:",))
        stops.end_in(tokenizer.encode("7\\n\\nQuestion: What"))  # 5, say: up to and with the colon
    """

    def __init__(self, tokenizer: Any, texts: Sequence[str]) -> None:
        self.texts = tuple(texts)
        self._tokenizer = tokenizer
        self._longest = max(map(len, self.texts))
        self._may_complete: dict[int, bool] = {}

    def within(self, completion: Sequence[int]) -> bool:
        """Whether a completion's text holds a stop text."""
        return self._held_by(self._decode(completion))

    def completed_by_last(self, completion: Sequence[int]) -> bool:
        """Whether a completion's text holds a stop text, where without its last token it held none."""
        return (
            self.may_complete(completion[-1])
            and self._held_by(self._tail(completion))
            # What a tail shows may be undone by bytes before it.
            and self.within(completion)
        )

    def end_in(self, completion: Sequence[int]) -> int | None:
        """How many tokens there are up to the first that completes a stop text; None where none does."""
        if not self.texts or not self.within(completion):
            return None
        return next(end for end in range(1, len(completion) + 1) if self.completed_by_last(completion[:end]))

    def _tail(self, completion: Sequence[int]) -> str:
        """Text that ends as the completion's does, by more characters than a stop text and the last token have.

        The last tokens alone can read otherwise at their beginning: a space left out, bytes of a character.
        """
        wanted = self._longest + len(self._decode(completion[-1:])) + 4
        size = self._longest + 1
        while True:
            text = self._decode(completion[-size:])
            if size >= len(completion) or len(text.lstrip(_BYTES)) >= wanted:
                return text
            size *= 2

    def may_complete(self, token: int) -> bool:
        """Whether a token's text holds a stop text, begins with the end of one, or has part of a character."""
        known = self._may_complete.get(token)
        if known is None:
            alone = self._decode([token])
            # After another token it may have a space in front that it has not alone.
            texts = (alone, self._decode([token, token])[len(alone) :])
            known = self._may_complete[token] = any(map(self._may_end, texts))
        return known

    def _may_end(self, text: str) -> bool:
        return _BYTES in text or any(
            stop in text or any(text.startswith(stop[at:]) for at in range(1, len(stop))) for stop in self.texts
        )

    def _held_by(self, text: str) -> bool:
        return any(stop in text for stop in self.texts)

    def _decode(self, ids: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)
        return text
