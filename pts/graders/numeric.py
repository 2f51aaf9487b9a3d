"""Answers that are numbers: the last number in the text."""

from __future__ import annotations

import math
import re

from pts.errors import GraderError

RELATIVE_TOLERANCE = 1e-6

_NUMBER = re.compile(r"(?<![\w.])[-+−]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+|(?<=\d))(?:[eE][-+]?\d+)?(?!\w*\d)")


def last_number(text: str) -> float | None:
    """The last decimal number in the text, its thousands separators taken out; None without one."""
    found = [match.group() for match in _NUMBER.finditer(text)]
    return float(found[-1].replace(",", "").replace("−", "-")) if found else None


class NumericGrader:
    """The last number in the completion equals the reference within a relative 1e-6 (exactly, for 0)."""

    def check_reference(self, answer: str) -> None:
        """Raises GraderError for an answer that is not one number, units and a currency sign aside."""
        if len(_NUMBER.findall(answer)) != 1:
            raise GraderError(
                f"The reference answer {answer!r} is not one number; use --grader math for expressions, "
                "exact for words."
            )

    def __call__(self, completion: str, answer: str) -> bool:
        """Whether the numbers agree; False for a completion without a number."""
        found, wanted = last_number(completion), last_number(answer)
        if found is None or wanted is None:
            return False
        return math.isclose(found, wanted, rel_tol=RELATIVE_TOLERANCE, abs_tol=0.0)
