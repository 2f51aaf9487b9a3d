"""Answers that are numbers: the last number in the text."""

from __future__ import annotations

import math
import re

from pts.errors import GraderError
from pts.graders.plain_characters import plain_characters
from pts.graders.quantities import Quantity, bare, last_quantity
from pts.graders.run_on import answered_part
from pts.graders.statements import last_boxed, last_tagged, without_denied
from pts.setting_names import setting

RELATIVE_TOLERANCE = 1e-6

_NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?(?!\w*\d)")


def last_number(text: str) -> float | None:
    """The last number in the text, without its thousands separators and percent sign; None without one."""
    found = last_quantity(plain_characters(text))
    return None if found is None else _float(found)


class NumericGrader:
    """The completion's last number equals the reference within a relative 1e-6 (exactly, for 0).

    It is the last number of the last box or `<answer>`, where there is one. A percentage is read as `math`
    reads it, and "5 or 6" is no number.
    """

    def check_reference(self, answer: str) -> None:
        """Raises GraderError for an answer that is not one number, units and a currency sign aside."""
        if len(_NUMBER.findall(bare(plain_characters(answer)))) != 1:
            raise GraderError(
                f"The reference answer {answer!r} is not one number; use {setting('grader', 'math')} "
                "for expressions, "
                "exact for words."
            )

    def __call__(self, completion: str, answer: str) -> bool:
        """Whether the numbers agree; False for a completion without a number."""
        found = last_quantity(_marked(without_denied(answered_part(plain_characters(completion)))))
        wanted = last_quantity(plain_characters(answer))
        if found is None or wanted is None:
            return False
        given, stated = _float(wanted), _float(found)
        golds, values = [given], [stated]
        if wanted.percent and not found.percent:
            golds.append(given / 100)
        if found.percent and not wanted.percent:
            values = [stated / 100, *([stated] if abs(given) >= 1 else [])]
        return any(
            math.isclose(gold, value, rel_tol=RELATIVE_TOLERANCE, abs_tol=0.0)
            for gold in golds
            for value in values
        )


def _marked(text: str) -> str:
    box = last_boxed(text)
    if box is not None:
        return box
    tagged = last_tagged(text)
    return text if tagged is None else tagged[0]


def _float(quantity: Quantity) -> float:
    try:
        return float(quantity.value)
    except OverflowError:
        return math.inf if quantity.value > 0 else -math.inf
