"""Mathematical answers: the last one stated, compared by Math-Verify."""

from __future__ import annotations

import re
from functools import lru_cache

from pts.errors import GraderError
from pts.graders.integers import as_integer, closing_integer, leading_integer
from pts.graders.math_verify_process import MathVerifyProcess
from pts.graders.statements import last_boxed, last_statement, plain_text

TAIL_LENGTH = 1000
"""Characters at a completion's end that are read for an answer nobody announced; and the longest answer."""

_MOST_BARE_WORDS = 3
_TEXT_GROUP = re.compile(r"\\(?:text\w*|mathrm|mathbf|mbox|operatorname|begin|end)\s*\*?\{[^{}]*\}")
_COMMAND = re.compile(r"\\[A-Za-z]+")
_WORD = re.compile(r"[A-Za-z]{2,}")
_QUANTITY = re.compile(r"([\\$€£\s]*[-+]?[\d.,]*\d)\s+((?!pi\b)[A-Za-z]{2}[A-Za-z \-/]*)")
_WORDS = re.compile(r"(?!(?:sin|cos|tan|log|inf|infinity)\b)[A-Za-z]{3,}(?:[ '\-][A-Za-z]+)*")

_MATH_VERIFY = MathVerifyProcess()


class MathGrader:
    r"""The completion's last answer equals the reference as mathematics (Math-Verify, reference first).

    The answer is the last `\\boxed{}`, else what the last "answer is", "answer:" or "####" states, else the
    last formula or number near the end. Whole numbers are compared at once; everything else by Math-Verify in
    a process of its own, where an expression that cannot be decided in five seconds counts as wrong.
    """

    def check_reference(self, answer: str) -> None:
        """Raises GraderError for an answer in which Math-Verify reads no expression, or that is prose."""
        if not answer.strip():
            raise GraderError(f"The reference answer {answer!r} is empty; name another --answer-field.")
        if as_integer(answer) is not None:
            return
        if len(_bare_words(answer)) > _MOST_BARE_WORDS:
            raise GraderError(
                f"The reference answer {_shortened(answer)} is prose, not mathematics; use --grader exact, or "
                "name another --answer-field."
            )
        if len(answer) > TAIL_LENGTH or not _MATH_VERIFY.reads(_boxed(answer)):
            raise GraderError(
                f"The reference answer {_shortened(answer)} cannot be read as mathematics; use --grader exact, "
                "or name another --answer-field."
            )

    def __call__(self, completion: str, answer: str) -> bool:
        """Whether the last answer is right; False where there is none."""
        stated = last_boxed(completion)
        boxed = stated is not None
        if stated is None:
            stated = last_statement(completion)
        if stated is not None and plain_text(stated) and plain_text(stated) == plain_text(answer):
            return True
        wanted = as_integer(answer)
        if wanted is not None:
            found = leading_integer(stated) if stated is not None else closing_integer(completion)
            if found is not None:
                return found == wanted
        targets = _targets(completion, stated, boxed)
        return bool(targets) and _agrees(_boxed(answer), targets)


@lru_cache(maxsize=65_536)
def _agrees(gold: str, targets: tuple[str, ...]) -> bool:
    return _MATH_VERIFY.agrees(gold, targets)


def _targets(completion: str, stated: str | None, boxed: bool) -> tuple[str, ...]:
    """What Math-Verify is to read, best first; the next only where one holds no mathematics."""
    if stated is not None and boxed:
        return (_boxed(stated),) if 0 < len(stated) <= TAIL_LENGTH else ()
    tail = completion[-TAIL_LENGTH:]
    if len(completion) > TAIL_LENGTH and "\n" in tail:
        tail = tail.split("\n", 1)[1]
    if stated is None:
        return (tail,)
    stated = stated[:TAIL_LENGTH]
    announced = f"The answer is {stated}."
    if _bare_words(stated):
        return (announced, tail)
    return (_boxed(stated), announced, tail)


def _boxed(answer: str) -> str:
    r"""`answer` in the form that Math-Verify reads most surely, its plain words marked as text.

    Unmarked, "18 dollars" would be read as 18·d·o·l·l·a·r·s, and "east" as an anagram of "seat".
    """
    latex = answer.strip().strip("*").strip().removesuffix(".")
    quantity = _QUANTITY.fullmatch(latex)
    if quantity:
        latex = rf"{quantity.group(1)}\text{{ {quantity.group(2)}}}"
    elif _WORDS.fullmatch(latex):
        latex = rf"\text{{{latex}}}"
    return rf"\boxed{{{latex}}}"


def _bare_words(latex: str) -> list[str]:
    """The words that LaTeX would take for products of letters."""
    return _WORD.findall(_COMMAND.sub(" ", _TEXT_GROUP.sub(" ", latex)))


def _shortened(answer: str) -> str:
    return repr(answer if len(answer) <= 60 else answer[:57] + "…")
