"""Mathematical answers: the last one stated, compared by Math-Verify."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache

from pts.errors import GraderError
from pts.graders.colons import read_colons, same_colons
from pts.graders.integers import as_integer, closing_integer, leading_integer
from pts.graders.math_verify_process import MathVerifyProcess
from pts.graders.number_words import MAGNITUDE, read_magnitude
from pts.graders.plain_characters import plain_characters
from pts.graders.quantities import (
    Quantities,
    closing_list,
    closing_quantities,
    decimal_comma,
    leading_quantities,
    read_quantities,
    same_quantities,
)
from pts.graders.run_on import answered_part
from pts.graders.statements import (
    after_last_box,
    last_boxed,
    last_statement,
    last_tagged,
    plain_text,
    without_denied,
)
from pts.graders.undecided import warn_undecided
from pts.setting_names import setting

TAIL_LENGTH = 1000
"""Characters at a completion's end that are read for an answer nobody announced; and the longest answer."""

_MOST_BARE_WORDS = 3
_TEXT_GROUP = re.compile(r"\\(?:text\w*|mathrm|mathbf|mbox|operatorname|begin|end)\s*\*?\{[^{}]*\}")
_COMMAND = re.compile(r"\\[A-Za-z]+")
_WORD = re.compile(r"[A-Za-z]{2,}")
_QUANTITY = re.compile(r"([\\$€£\s]*[-+]?[\d.,]*\d)\s+((?!pi\b)[A-Za-z]{2}[A-Za-z \-/]*)")
_WORDS = re.compile(r"(?!(?:sin|cos|tan|log|inf|infinity)\b)[A-Za-z]{3,}(?:[ '\-][A-Za-z]+)*")

_ANSWERS_AGAIN = re.compile(
    r"(?<!check )(?<!check the )(?<!verify the )(?<!check my )\banswer\**\s*(?:is|should\s+be|must\s+be|:)",
    re.IGNORECASE,
)
_AFTER_BOX = re.compile(rf"[\s$)\]\\*]{{0,6}}(?P<word>{MAGNITUDE}|\\?%|percent\b|pct\b)", re.IGNORECASE)
_E_NOTATION = re.compile(r"\d[eE][-+]?\d")
_COLONS = re.compile(
    r"(?<![\d:.])\d{1,6} to \d{1,6}\b|(?<![\d:.])\d{1,6}\s?:\s?\d{1,6}(?:\s?:\s?\d{1,6})*(?:\s?[ap]\.?m\b)?",
    re.IGNORECASE,
)

_LETTER_BEFORE = re.compile(
    r"\s*\\(?:text|textbf|textrm|mathrm|mathbf)\s*\{\s*\(?[A-F]\)?[.):]?\s*\}"
    r"(?:\\[ ,;:!]|\\q?quad\b|~|[\s:])*(?=\S)"
)
_WORDS_BEFORE = re.compile(r"\s*\\text\w*\s*\{[^{}]*\b(?:is|are|be|equals)\s*:?\s*\}\s*(?=\S)")
_ROOT = re.compile(r"(?<![$\\\w])(\d*)\s?√\s?\(?(\d+)\)?")
_PI = re.compile(r"π|(?<=\d)\s*\*?\s*\bpi\b")

_LONGEST_FORMULA = 100
_SAYS_IS = re.compile(r"[^.\n]*[A-Za-z]{2}[^.\n]*\bis\s+(\S.*)", re.DOTALL)
_STATEMENT_HINT = re.compile(r"\banswer\b|####", re.IGNORECASE)
_BRACKETS = re.compile(r"[(\[{][^()\[\]{}]*,[^()\[\]{}]*[)\]}]|=[^=]*,[^=]*=")
_NUMBERS_ALONE = re.compile(r"[-\d.,]+\s+to\s+[-\d.,]+")

_MATH_VERIFY = MathVerifyProcess()


class MathGrader:
    r"""The completion's last answer equals the reference as mathematics (Math-Verify, reference first).

    The answer is the last `\\boxed{}`, else what the last "answer is", "answer:" or "####" states, else the
    last formula or number near the end. Whole numbers are compared at once; everything else by Math-Verify in
    a process of its own, where an expression that cannot be decided in five seconds counts as wrong.
    """

    def __init__(self) -> None:
        self.undecided = 0

    def check_reference(self, answer: str) -> None:
        """Raises GraderError for an answer in which Math-Verify reads no expression, or that is prose."""
        if not answer.strip():
            raise GraderError(
                f"The reference answer {answer!r} is empty; name another {setting('answer_field')}."
            )
        answer = plain_characters(answer)
        if (
            as_integer(answer) is not None
            or read_quantities(answer) is not None
            or read_colons(answer) is not None
        ):
            return
        if len(_bare_words(answer)) > _MOST_BARE_WORDS:
            raise GraderError(
                f"The reference answer {_shortened(answer)} is prose, not mathematics; use "
                f"{setting('grader', 'exact')}, or "
                f"name another {setting('answer_field')}."
            )
        if len(answer) > TAIL_LENGTH or not _MATH_VERIFY.reads(_boxed(answer)):
            raise GraderError(
                f"The reference answer {_shortened(answer)} cannot be read as mathematics; use "
                f"{setting('grader', 'exact')}, "
                f"or name another {setting('answer_field')}."
            )

    def __call__(self, completion: str, answer: str) -> bool:
        """Whether the last answer is right; False where there is none."""
        text = without_denied(answered_part(plain_characters(completion)))
        answer = plain_characters(answer)
        statement = stated_mathematics(text)
        if (
            statement.boxed
            and statement.text
            and as_integer(answer) is not None
            and _LETTER_BEFORE.match(statement.text)
        ):
            statement = replace(statement, text=_LETTER_BEFORE.sub("", statement.text, count=1))
        stated, boxed = statement.text, statement.boxed
        if stated is not None and plain_text(stated) and plain_text(stated) == plain_text(answer):
            return True
        wanted = as_integer(answer)
        if wanted is not None and not statement.after and not _needs_more(statement, answer):
            found = leading_integer(stated) if stated is not None else closing_integer(text)
            if found is not None:
                return found == wanted
        by_form = _same_form(text, statement, answer)
        if by_form is not None:
            return by_form
        targets = _targets(text, stated, boxed)
        return bool(targets) and self._agrees(_boxed(answer), targets)

    def _agrees(self, gold: str, targets: tuple[str, ...]) -> bool:
        verdict = _agrees(gold, targets)
        if verdict is None:
            self.undecided += 1
            warn_undecided()
        return bool(verdict)


@dataclass(frozen=True, slots=True)
class Stated:
    """An answer as stated: its text (None where none is), whether it is boxed, and a word after its box."""

    text: str | None
    boxed: bool = False
    after: str = ""


def stated_mathematics(text: str) -> Stated:
    """The last box or `<answer>`, else the last statement; one after a box counts if it has a number."""
    box, tagged = last_boxed(text), last_tagged(text)
    if box is not None:
        after = after_last_box(text)
        later = last_statement(after) if _ANSWERS_AGAIN.search(after) else None
        if later is not None and box and leading_quantities(later):
            return Stated(later)
        if tagged is None or last_boxed(tagged[0]) is not None or text.find("<answer>") < 0:
            word = _AFTER_BOX.match(after)
            box = _WORDS_BEFORE.sub("", box, count=1) if _WORDS_BEFORE.match(box) else box
            return Stated(box, True, word[0] if word else "")
    if tagged is not None and len(tagged[0]) <= TAIL_LENGTH:
        inner = last_statement(tagged[0])
        statement = _SAYS_IS.match(tagged[0])
        return Stated(inner or (tagged[0] if statement is None else statement[1]), True)
    if box is not None:
        return Stated(box, True)
    stated = last_statement(text)
    if stated is None and not _STATEMENT_HINT.search(text):
        last = text.rstrip().rpartition("\n")[2].strip()
        if len(last) <= _LONGEST_FORMULA and not _bare_words(last) and _BRACKETS.search(last):
            return Stated(last.strip("$* ").rstrip("."))
        if last == text.strip() and _NUMBERS_ALONE.fullmatch(last):
            return Stated(last)
    return Stated(stated)


def _needs_more(statement: Stated, answer: str) -> bool:
    """Whether more than a whole number must be read: a factorial in a box, or cents for dollars."""
    if statement.text is None:
        return False
    return (statement.boxed and "!" in statement.text) or ("$" in answer and "cent" in statement.text)


def _same_form(text: str, statement: Stated, answer: str) -> bool | None:
    """Whether both are the same time, ratio or quantities; None where one of them is none of these."""
    stated = statement.text
    colons = read_colons(answer) if ":" in answer or " to " in answer else None
    if colons is not None or ":" in (text[-60:] if stated is None else stated[:40]):
        other = read_colons(stated if stated is not None else _last_colons(text))
        if colons is not None and other is not None:
            return same_colons(colons, other)
        gold, ratio = read_quantities(answer), (other or colons)
        found = _found(text, statement)
        if colons is not None and found and len(found) == 1 and not colons.clock:
            return colons.quotient == found[0].value
        if colons is None and other is not None and gold is not None and ratio is not None:
            return ratio.quotient == gold[0].value and not other.clock
        if colons is not None:
            return None
    gold = read_quantities(answer)
    found = None if gold is None else _found(text, statement)
    if gold is not None and len(gold) > 1 and statement.text is None:
        found = closing_list(text) or found
    if gold is None or found is None:
        return None
    if len(gold) != len(found) and same_quantities(
        decimal_comma(answer) or gold, _by_comma(statement.text) or found
    ):
        return True
    if statement.after and len(found) == 1:
        factor, _ = read_magnitude(statement.after, 0)
        if factor != 1 and same_quantities(gold, (replace(found[0], value=found[0].value * factor),)):
            return True
    return same_quantities(gold, found)


def _found(text: str, statement: Stated) -> Quantities | None:
    if statement.text is None:
        return closing_quantities(text)
    if statement.boxed:
        whole = read_quantities(statement.text)
        if whole is not None:
            return whole
    return leading_quantities(statement.text)


def _by_comma(stated: str | None) -> Quantities | None:
    return None if stated is None else decimal_comma(stated)


def _last_colons(text: str) -> str:
    last = None
    for last in _COLONS.finditer(text[-400:]):  # noqa: B007
        pass
    return "" if last is None or re.search(r"\d", last.string[last.end() :]) else last[0]


@lru_cache(maxsize=65_536)
def _agrees(gold: str, targets: tuple[str, ...]) -> bool | None:
    return _MATH_VERIFY.agrees(gold, targets)


def _targets(completion: str, stated: str | None, boxed: bool) -> tuple[str, ...]:
    """What Math-Verify is to read, best first; the next only where one holds no mathematics."""
    if stated is not None and boxed:
        return (_boxed(stated),) if 0 < len(stated) <= TAIL_LENGTH else ()
    tail = _ROOT.sub(r"$\1\\sqrt{\2}$", completion[-TAIL_LENGTH:])
    if len(completion) > TAIL_LENGTH and "\n" in tail:
        tail = tail.split("\n", 1)[1]
    if stated is None:
        return (tail,)
    stated = _PI.sub(r"\\pi ", _ROOT.sub(r"\1\\sqrt{\2}", stated[:TAIL_LENGTH]))
    announced = f"The answer is {stated}."
    if _bare_words(stated):
        return (announced, tail)
    return (_boxed(stated), announced, tail)


def _boxed(answer: str) -> str:
    r"""`answer` in the form that Math-Verify reads most surely, its plain words marked as text.

    Unmarked, "18 dollars" would be read as 18·d·o·l·l·a·r·s, and "east" as an anagram of "seat".
    """
    latex = answer.strip().strip("*").strip().removesuffix(".")
    if _E_NOTATION.search(latex):
        read = read_quantities(latex)
        if read is not None and len(read) == 1 and not read[0].percent:
            return rf"\boxed{{\frac{{{read[0].value.numerator}}}{{{read[0].value.denominator}}}}}"
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
