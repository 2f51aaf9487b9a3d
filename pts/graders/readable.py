"""Whether a text holds anything that could be graded: a format failure is told from a wrong answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pts.graders.choice import stated_choice
from pts.graders.numeric import last_number
from pts.graders.registered import registered_grader
from pts.graders.statements import last_boxed, last_statement


def is_readable(grader: str, text: str) -> bool:
    """Whether `grader` (its name) finds an answer of its kind in a text, be it right or wrong."""
    registered = registered_grader(grader)
    reads = _READ.get(grader, _anything) if registered is None else registered.reads
    return bool(text.strip()) and reads(text)


def _mathematics(text: str) -> bool:
    return last_boxed(text) is not None or last_statement(text) is not None or last_number(text) is not None


def _anything(_text: str) -> bool:
    return True


_READ: Mapping[str, Callable[[str], bool]] = {
    "choice": lambda text: stated_choice(text) is not None,
    "numeric": lambda text: last_number(text) is not None,
    "math": _mathematics,
}
"""By grader; the others compare text, and any text can be compared."""
