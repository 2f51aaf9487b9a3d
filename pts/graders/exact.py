"""Answers that are words: equal text, or nothing."""

from __future__ import annotations

from pts.errors import GraderError
from pts.graders.statements import last_boxed, last_statement, plain_text


class ExactGrader:
    """The stated answer equals the reference, apart from case, spacing, markup and a final full stop.

    The stated answer is the last box, else what follows the last "the answer is", else the last line that is
    not empty. A completion that equals the reference as a whole (one of several lines, say) is right too.
    """

    def check_reference(self, answer: str) -> None:
        """Raises GraderError for an answer without any text."""
        if not plain_text(answer):
            raise GraderError(
                f"The reference answer {answer!r} holds no text to compare; leave the problem out."
            )

    def __call__(self, completion: str, answer: str) -> bool:
        """Whether the texts are equal."""
        reference = plain_text(answer)
        if plain_text(completion) == reference:
            return True
        stated = last_boxed(completion)
        if stated is None:
            stated = last_statement(completion)
        if stated is None:
            lines = completion.split("\n")
            stated = next((line for line in reversed(lines) if line.strip()), "")
        return plain_text(stated) == reference
