"""Data sets that mix kinds of answers: each reference graded by the kind that reads it."""

from __future__ import annotations

import re

from pts.graders.choice import ChoiceGrader
from pts.graders.exact import ExactGrader
from pts.graders.mathematics import MathGrader
from pts.graders.protocol import Grader

_LETTER = re.compile(r"\s*\(?[A-J]\)?\s*")
_MATHEMATICAL = re.compile(r"[\d\\$]")


class MixedGrader:
    """A letter is graded as a choice, an answer of words alone as exact text, anything else as mathematics."""

    def __init__(self) -> None:
        self._choice = ChoiceGrader()
        self._exact = ExactGrader()
        self._math = MathGrader()

    @property
    def undecided(self) -> int:
        """How many completions could not be decided, and so counted as wrong."""
        return self._math.undecided

    def check_reference(self, answer: str) -> None:
        """As the grader for this kind of answer does."""
        self._for(answer).check_reference(answer)

    def __call__(self, completion: str, answer: str) -> bool:
        """The verdict of the grader for this kind of answer."""
        return self._for(answer)(completion, answer)

    def _for(self, answer: str) -> Grader:
        if _LETTER.fullmatch(answer):
            return self._choice
        # Prose with a number in it is still prose, and mathematics would refuse it.
        prose = len(re.findall(r"(?<![\\A-Za-z])[A-Za-z]{2,}", answer)) > 3
        return self._math if _MATHEMATICAL.search(answer) and not prose else self._exact
