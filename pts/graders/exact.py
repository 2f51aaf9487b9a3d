"""Answers that are words: equal text, or nothing."""

from __future__ import annotations

import re

from pts.errors import GraderError
from pts.graders.plain_characters import plain_characters
from pts.graders.run_on import answered_part
from pts.graders.statements import last_boxed, last_statement, last_tagged, plain_text

_VERDICTS = frozenset(("yes", "no", "true", "false"))
_FIRST_WORD = re.compile(
    r"\W*([a-z]+)(?:[^\w\s]|\s*[.,;:!–—-]|\s+(?:because|since|as|it|they|he|she|there|this|that)\b|\s*$)"
)


class ExactGrader:
    """The stated answer equals the reference, apart from case, spacing, markup and a final full stop.

    The stated answer is the last box, else the last `<answer>`, else what follows the last "the answer is",
    else the last line that is not empty. A completion that equals the reference as a whole (one of several
    lines, say) is right too. Of "yes", "no", "true" and "false" a reason may follow: "Yes, because …".
    """

    def check_reference(self, answer: str) -> None:
        """Raises GraderError for an answer without any text."""
        if not plain_text(plain_characters(answer)):
            raise GraderError(f"The reference answer {answer!r} has no text to compare; leave the problem out.")

    def __call__(self, completion: str, answer: str) -> bool:
        """Whether the texts are equal."""
        reference = plain_text(plain_characters(answer))
        text = plain_characters(completion)
        if plain_text(text) == reference:
            return True
        text = answered_part(text)
        if plain_text(text) == reference:
            return True
        stated = plain_text(_stated(text))
        if stated == reference:
            return True
        if reference not in _VERDICTS:
            return False
        word = _FIRST_WORD.match(stated)
        if word is None or word[1] not in _VERDICTS:
            word = _FIRST_WORD.match(plain_text(text[:200]))
        return word is not None and word[1] == reference


def _stated(text: str) -> str:
    stated = last_boxed(text)
    if stated is None:
        tagged = last_tagged(text)
        stated = last_statement(text) if tagged is None else tagged[0]
    if stated is None:
        stated = next((line for line in reversed(text.split("\n")) if line.strip()), "")
    return stated
