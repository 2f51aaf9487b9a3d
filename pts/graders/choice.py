"""Answers that are the letter of a choice."""

from __future__ import annotations

import re

from pts.errors import GraderError
from pts.graders.statements import last_boxed

LETTERS = "ABCDEFGHIJ"

_REFERENCE = re.compile(r"\(?\s*([A-Ja-j])\s*[).:]?")
_OPEN = r"[\s*_(\[\"'$`:]*(?:\\(?:text|textbf|mathrm|mathbf)\s*\{\s*\(?)?"
# After a letter: its own bracket or the end, never the word that an article or "I" goes on to.
_CLOSED = r"(?=\s*(?:[)\]}.,:;!?*_\"'$`]|$|\n))"
_BEFORE_REASON = r"(?=\s+(?:because|since|as|for|with|and|which|while|whereas|not|due)\b)"
_AFTER_LETTER = rf"(?:[B-HJ]\b(?!')|[AI](?:{_CLOSED}|{_BEFORE_REASON})|[a-j]{_CLOSED})"
_STATED = re.compile(
    r"(?i:\banswer\b(?:[^\n.:=]{0,80}?\bis\b|\s*[:=])"
    r"|\b(?:correct|right|best)\s+(?:choice|option|one)\b(?:[^\n.:=]{0,40}?\bis\b|\s*[:=])"
    r"|\b(?:choose|pick|select)\b)"
    r"(?i:[\s*:]*(?:(?:therefore|thus|clearly|indeed|still|the)\s+)?(?:option|choice|letter)?)"
    rf"{_OPEN}(?P<letter>{_AFTER_LETTER})"
)
_MARKED = re.compile(
    r"\((?P<round>[A-J])\)"
    r"|\*\*\s*\(?(?P<bold>[A-J])\)?[).:]?\s*(?:\*\*|(?<=[).:])[^*\n]{1,200}\*\*)"
    r"|^[ \t]*(?P<line>[A-Ja-j])[.!)]?[ \t]*$"
    r"|^[ \t]*(?P<head>[A-J])[).:](?=\s)"
    r"|(?i:\b(?:option|choice)\s+)(?P<named>[A-J])\b"
    r"|(?:^|\s)(?P<final>[A-J])[.!]?\s*\Z",
    re.MULTILINE,
)
_BOXED = re.compile(rf"{_OPEN}(?P<letter>[A-Ja-j])(?![A-Za-z0-9])")


def stated_choice(text: str) -> str | None:
    """The letter that the text settles on, in upper case; None where it names none.

    The last box, else the last "the answer is …", else the last letter set apart: "(B)", "**B**", "B)" that
    begins a line, a line of its own, "option B", or the last word.
    """
    box = last_boxed(text)
    if box is not None:
        inside = _BOXED.match(box)
        return inside.group("letter").upper() if inside else None
    stated = [match.group("letter") for match in _STATED.finditer(text)]
    if stated:
        return stated[-1].upper()
    marked = [next(group for group in match.groups() if group) for match in _MARKED.finditer(text)]
    return marked[-1].upper() if marked else None


class ChoiceGrader:
    """The letter that the completion settles on is the reference's; the article "A" is no choice."""

    def check_reference(self, answer: str) -> None:
        """Raises GraderError for an answer that is not one letter from A to J, brackets aside."""
        if _REFERENCE.fullmatch(answer.strip()) is None:
            raise GraderError(
                f"The reference answer {answer!r} is not a letter from A to J; use --grader exact or math, "
                "or name another --answer-field."
            )

    def __call__(self, completion: str, answer: str) -> bool:
        """Whether the letters agree; False where the completion names none."""
        reference = _REFERENCE.fullmatch(answer.strip())
        return reference is not None and stated_choice(completion) == reference.group(1).upper()
