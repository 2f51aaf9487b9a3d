"""Answers that are the letter of a choice."""

from __future__ import annotations

import re

from pts.errors import GraderError
from pts.graders.choice_statements import letter_in, marked_letter, stated_letters
from pts.graders.plain_characters import plain_characters
from pts.graders.run_on import answered_part
from pts.graders.statements import last_boxed
from pts.setting_names import setting

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

_REFERENCE = re.compile(r"[(\[]?\s*([A-Za-z])\s*[)\].:]?")


def stated_choice(text: str) -> str | None:
    """The letter that the text settles on, in upper case; None where it names none, or several at once.

    The last statement counts: a box that holds a letter, "the answer is …", "… is correct", "go with …" and
    their like, in other languages too. Without one, it is the last letter set apart: "(B)", "**B**", "B)" that
    begins a line, a line of its own, "option B", or the last word. A letter that is denied, or only spoken of,
    is not stated.
    """
    text = answered_part(plain_characters(text))
    stated = stated_letters(text)
    box = last_boxed(text)
    if box is not None:
        where = max(text.rfind("\\boxed"), text.rfind("\\fbox"), text.rfind("\\fboxed"))
        if not box and text.rstrip().count("{", where) > text.count("}", where):
            return None  # cut in the midst of its answer
        letter = letter_in(box)
        if letter is not None:
            stated.append((where, letter))
    if stated:
        return max(stated, key=lambda found: found[0])[1] or None
    return marked_letter(text)


class ChoiceGrader:
    """The letter that the completion settles on is the reference's; the article "A" is no choice."""

    def check_reference(self, answer: str) -> None:
        """Raises GraderError for an answer that is not one letter from A to Z, brackets aside."""
        if _REFERENCE.fullmatch(plain_characters(answer).strip()) is None:
            raise GraderError(
                f"The reference answer {answer!r} is not a letter from A to Z; use "
                f"{setting('grader', 'exact')} or math, "
                f"or name another {setting('answer_field')}."
            )

    def __call__(self, completion: str, answer: str) -> bool:
        """Whether the letters agree; False where the completion names none."""
        reference = _REFERENCE.fullmatch(plain_characters(answer).strip())
        return reference is not None and stated_choice(completion) == reference.group(1).upper()
