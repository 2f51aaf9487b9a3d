"""Answers that are numbers, with their sign, currency, percent, magnitude and unit; and lists of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from pts.graders.integers import LABEL
from pts.graders.number_forms import read_number, without_separators
from pts.graders.number_words import read_magnitude, read_words
from pts.graders.units import read_unit

SIGNIFICANT = Fraction(5, 10**6)
"""Relative difference of two decimals that are the same to six digits."""
DECIMALS = Fraction(5, 10**7)
"""Difference of two decimals that are the same to six places."""
LONGEST = 300
"""Characters of the longest text that is read as quantities."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number as it was written. `other` is a second value that it may have; `unit` is "" for none or any."""

    value: Fraction
    exact: bool = True
    percent: bool = False
    unit: str = ""
    other: Fraction | None = None


Quantities = tuple[Quantity, ...]

_TEXT = re.compile(
    r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox|operatorname|boxed|fbox|mathit)\s*\{([^{}]*)\}"
)
_REPLACED = (
    (re.compile(r"\\[dtc]frac"), r"\\frac"),
    (
        re.compile(r"\\(?:left|right|displaystyle|bigl?|bigr|Bigl?|Bigr)(?![a-z])|\\[()\[\]]|\*\*|__|`|\$\$"),
        " ",
    ),
    (re.compile(r"\\%"), "%"),
    (
        re.compile(r"\b(?:US|A|C|NZ|HK)\$|\\\$|(?<![\w.])\$(?=\s?-?[\d.]+[^$]*$)|(?<!\w)\$(?=-?\d[^$]*\$-?\d)"),
        "¤",
    ),
    (re.compile(r"\$"), " "),
    (re.compile(r"\s?\^\s?\{?\s?\\circ\s?\}?|\\degree\b|º"), "°"),
    (re.compile(r"\\(?:quad|qquad|enspace|thinspace)\b|\\(?=\s)|\\[,;:!]|~"), " "),
    (re.compile(r"\\(?:approx|simeq|sim)\b|≈"), " ≈ "),
    (re.compile(r"\\pounds\b"), "£"),
)
_MONEY = re.compile(r"(?:US\$|USD|EUR|GBP|INR|Rs\.?|[$€£¥₹¤])\s*", re.IGNORECASE)
_SIGN = re.compile(r"(?:([-+])\s*|(negative|minus|positive|plus)\s+)?", re.IGNORECASE)
_PERCENT = re.compile(r"\s*-?\s*(?:%|(?:percent|per\s+cent|pct|percentage)\b(?:\s+points?\b)?)", re.IGNORECASE)
_POWER_WORD = re.compile(r"\s+(squared|cubed)\b", re.IGNORECASE)
_ORDINAL = re.compile(r"(?:\^\{?)?(?:st|nd|rd|th)\b\}?")
_OUT_OF = re.compile(r"\s+(?:out\s+of|in|over)\s+(?:every\s+)?(\d+)(?![\d.:/])")
_NAMED = re.compile(r"\s*(?:[A-Za-z]{1,2}(?:_\{?\w\}?)?|\\[a-z]+)\s*=\s*")
_LIST = re.compile(r"\s*(?:[,;]\s*(?:and|or)\b|[,;]|\b(?:and|or)\b)\s*")
_BRACES = re.compile(r"\\?\{(.*)\\?\}|\\?\[([^,\[\]]*)\\?\]|\(([^,()]*)\)", re.DOTALL)
_JOINS = re.compile(
    r"\s*(?:[,;]?\s*(?:or|to|through|by|nor|and)\s+(?:maybe\s+|perhaps\s+|possibly\s+"
    r"|even\s+)?(?:[-$¤\\.(]{0,3}\d|(?:a|one)\s+(?:half|quarter|third)|(?:two|three|four|five|six"
    r"|seven|eight|nine|ten)\b)"
    r"|[,;]\s*[-$¤\\.(]{0,3}\d|[–‒—]\s?\d)"
)
_OTHER_CLAUSE = re.compile(r"\s*[,;]\s*(?:and\s+)?[-$¤]{0,2}\d[\d.,]*\s+[a-z]{3,}")
_GOES_ON = re.compile(
    r"\s*(?:[-+*/^=<>×÷±&|_\\({\[≈·:]|(?:and|or)\s+(?:a|one)[ -]|[.]\d|(?:plus|minus|times|over"
    r"|divided|choose|mod|squared|cubed)\b)"
)
_STOPS = re.compile(r"\s*(?:$|[.!?;,:)\]}\"'*]|\()")
_REASON = re.compile(
    r"\s*(?:a|an|the|because|since|as|when|if|which|so|for|that|where|while|after|with|by|from|and"
    r"|but|not|per|at|on|of|in|is|each|than)\b",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"[.?](?=\s|$)|!(?=\s+[A-Z]|\s*$)")
_CLAUSE = re.compile(rf"{_SENTENCE.pattern}|;|,\s+(?=[a-z])")
_FIRST = re.compile(rf"{_SENTENCE.pattern}|;\s|\s\(")
_LEAD = re.compile(
    r"[\s:=*\"'(#]*(?:(?:is|was|the|a|an|about|approximately|approx\.?|around|roughly|nearly|almost"
    r"|exactly|precisely|just|only|"
    r"simply|now|therefore|thus|hence|still|indeed|probably|likely|equal|equals|to|total|sum|of|value"
    r"|number|be|then|"
    r"definitely|clearly|actually|also|again|in|fact|at|least|most|given|as|follows|it|each)\b[\s:,]*"
    r"|≈\s*|~\s*|[\s:*\"]+){0,8}",
    re.IGNORECASE,
)


def bare(text: str) -> str:
    """`text` without the marks of LaTeX and Markdown, its numbers' digits together."""
    for _ in range(3):
        text, count = _TEXT.subn(r" \1 ", text)
        if not count:
            break
    for pattern, new in _REPLACED[:1]:
        text = pattern.sub(new, text)
    text = without_separators(text)
    for pattern, new in _REPLACED[1:]:
        text = pattern.sub(new, text)
    return without_separators(text).strip()


@lru_cache(maxsize=65_536)
def read_quantities(text: str) -> Quantities | None:
    """The quantities that all of `text` is ("18", "$9{,}500", "x = 2 or x = 3"); None for anything else."""
    if len(text) > LONGEST:
        return None
    text = bare(text).strip().rstrip(" .\n\t")
    wrapped = _BRACES.fullmatch(text)
    if wrapped is not None:
        text = next(group for group in wrapped.groups() if group is not None).strip("\\ ")
    whole = _whole(text)
    if whole is not None:
        return (whole,)
    parts = [_whole(part) for part in _LIST.split(re.sub(r"^\s*(?:either|both)\s+", "", text))]
    found = tuple(part for part in parts if part is not None)
    return found if len(found) == len(parts) > 1 else None


def leading_quantities(stated: str) -> Quantities | None:
    """The quantities that a stated answer begins with, before a reason or a unit; None where others must read.

    An empty tuple is an answer that settles on no number: "between 5 and 6", "more than 5".
    """
    stated = stated[:LONGEST]
    sentence = bare(stated)
    if _UNSETTLED.match(sentence) or _MADE_OF.match(sentence):
        return ()
    found = read_quantities(_FIRST.split(sentence, maxsplit=1)[0])
    if found is not None:
        return found
    lead = _LEAD.match(sentence)
    start = lead.end() if lead else 0
    read = _read(sentence, start)
    if read is None:
        return _after_equals(sentence)
    quantity, end, words = read
    joins = _JOINS.match(sentence, end)
    if joins is not None:
        listed = read_quantities(_SENTENCE.split(sentence[start:], maxsplit=1)[0])
        unclear = listed is None and re.search(r"\b(?:or|to|through|by|nor)\b|[–‒—]", joins[0])
        if listed is None and _OTHER_CLAUSE.match(sentence, end):
            return (quantity,)
        return () if unclear else listed
    if _GOES_ON.match(sentence, end) and not _STOPS.match(sentence, end):
        return _after_equals(sentence)
    if words or _STOPS.match(sentence, end) or _REASON.match(sentence, end):
        return (quantity,)
    return None


_UNSETTLED = re.compile(
    r"[\s:*]*(?:\w+\s+){0,4}?(?:between\s+\S{1,20}\s+and\s+\S|from\s+\S{1,20}\s+to\s+\S|(?:(?:more"
    r"|less|greater|fewer|larger|smaller|higher|lower)\s+than"
    r"|over|under|above|below)\s+[-$¤]?\d|(?:[<>≤≥]|\\[lg](?:eq?|t)(?![a-z]))=?\s*[-$¤]?\d|(?:unknown|undefined|undetermined)\b)",
    re.IGNORECASE,
)

# "the square root of 12", "a multiple of 12", "far from 12" and "12 divided by 2" are not 12.
_MADE_OF = re.compile(
    r"[\s:*]*(?:(?!\d)\w+\s+){0,4}?(?:(?:root|half|third|quarter|square|multiple|factor|divisor|factorial|reciprocal)"
    r"\s+of|twice|divisible\s+by|no\s+longer|anything\s+but|far\s+from|nowhere\s+near|ranges\s+from)\s+[-$¤]?\d"
    r"|[\s:*]*-?\d[\d.,]*\s+(?:(?:divided|multiplied)\s+by|times|plus|minus|mod|modulo|choose)\s+(?:-?\d+|[b-z])\b"
    r"(?![^.]*(?:=|\b(?:is|equals|which|makes|gives|or|so)\b))",
    re.IGNORECASE,
)


def closing_quantities(text: str) -> Quantities | None:
    """The last quantity of a text that announces no answer; None where others must read, () for "5 or 6"."""
    last = _last(text[-_CLOSING:])
    if last is None:
        return None
    listed = closing_list(text)
    if listed is not None and "=" in last[1]:
        return listed
    quantity, before, after = last
    if _EITHER.search(before[-60:]) or _COMPARED.search(before[-20:]) or LABEL.search(before[-20:]):
        return ()
    joined = before[-1:] in set("+-*/^(÷×:,{√0123456789") or before.endswith((" and", "\\"))
    return None if joined or not _ENDS.fullmatch(after) else (quantity,)


def closing_list(text: str) -> Quantities | None:
    """The numbers that a text ends in, joined by commas, "and" or "or": "x = 2 and x = -3"; None for others."""
    match = _CLOSING_LIST.search(bare(text[-_CLOSING:]))
    return None if match is None else read_quantities(match[1])


_ITEM = (
    r"(?:(?<![A-Za-z])[A-Za-z](?:_\{?\w\}?)? ?= ?)?"
    r"-?(?:\d{1,12}(?:[./]\d{1,12})?|\\frac\{-?\d{1,9}\}\{\d{1,9}\})"
)
_CLOSING_LIST = re.compile(rf"(?<![\w.])({_ITEM}(?:(?:, | and | or |, and |, or ){_ITEM}){{1,9}})[.\s]*\Z")


def last_quantity(text: str) -> Quantity | None:
    """The last number that a text holds, with what stands beside it; None without one, and for "5 or 6"."""
    digit = re.search(r"\d", text[::-1])
    if digit is None:
        return None
    end = len(text) - digit.start()
    start = max(0, end - _CLOSING)
    last = _last(text[start : end + 60])
    if last is None or _EITHER.search(last[1][-60:]) or _COMPARED.search(last[1][-20:]):
        return None
    return last[0]


def _last(text: str) -> tuple[Quantity, str, str] | None:
    """The last quantity of a short text, and what stands before and after it."""
    tail = bare(text)
    found, position = None, 0
    for match in _BEGINS.finditer(tail):
        if match.start() >= position:
            read = _read(tail, match.start())
            if read is not None:
                found, position = (read[0], match.start()), read[1]
    return None if found is None else (found[0], tail[: found[1]].rstrip(), tail[position:])


_COMPARED = re.compile(r"[<≤≥]\Z|[^\s>][ \t]*>\Z")  # not the mark of a quotation, "> 42"
_CLOSING = 400
_BEGINS = re.compile(r"(?<![\w.\\^_{}/])(?:[-+]?[$€£¥₹¤]?-?(?:\d|\.\d|\\frac))")
_ENDS = re.compile(r"[^\d\\^_={}+*/<>×÷]*")
_EITHER = re.compile(
    r"(?:(?:\d\S{0,12}|\b(?:one|two|three|four|five|six|seven|eight|nine|ten))\s*,?\s*\b(?:or"
    r"|nor)(?:\s+(?:maybe|perhaps|possibly|even))?|\d\s?[–—]"
    r"|\bbetween\s+\S{1,20}\s+and"
    r"|\b(?:more|less|greater|fewer)\s+than)\Z",
    re.IGNORECASE,
)


def decimal_comma(text: str) -> Quantities | None:
    """The number that "3,14" is to those who write decimals with a comma; None for any other text."""
    match = _DECIMAL_COMMA.fullmatch(bare(text[:LONGEST]).strip(" ."))
    return None if match is None else read_quantities(f"{match[1]}.{match[2]}{match[3]}")


_DECIMAL_COMMA = re.compile(r"\D{0,4}?(-?\d{1,12}),(\d{1,2}|\d{4,12})(?!\d)(\s*[^\d,]*)")


def _after_equals(sentence: str) -> Quantities | None:
    """What follows the last "=" of the first sentence: "6! = 720", "3 + 4 = 7 apples"."""
    clause = _CLAUSE.split(sentence, maxsplit=1)[0]
    before, sign, after = clause.rpartition("≈" if "≈" in clause else "=")
    if not sign or before[-1:] in set("<>!≤≥") or (before.count("=") and re.search(r"\band\b|,", before)):
        return None
    return read_quantities(after)


def _whole(text: str) -> Quantity | None:
    text = text.strip()
    named = _NAMED.match(text)
    read = _read(text, named.end() if named else 0)
    if read is None:
        return None
    quantity, end, _ = read
    while end < len(text):
        unit, after = read_unit(text, end)
        if not unit:
            break
        end = after
    return quantity if re.fullmatch(r"[\s.!]*", text[end:]) else None


def _read(text: str, start: int) -> tuple[Quantity, int, bool] | None:
    """The quantity at `start`, its end, and whether a word such as a unit belongs to it."""
    sign, position = _sign(text, start)
    money = _MONEY.match(text, position)
    unit = ""
    if money is not None:
        unit, _ = read_unit(money[0].strip(" .") + " ", 0)
        second, position = _sign(text, money.end())
        sign *= second
    number = read_number(text, position)
    if number is None:
        spelt = read_words(text, position)
        if spelt is None:
            return None
        number = (spelt[0], None, True, spelt[1])
    value, other, exact, end = number
    power = _POWER_WORD.match(text, end)
    if power is not None:
        value, end = value ** (2 if power[1].lower() == "squared" else 3), power.end()
    ordinal = _ORDINAL.match(text, end)
    end = ordinal.end() if ordinal else end
    factor, after = read_magnitude(text, end, money is not None)
    words = after > end
    percent = _PERCENT.match(text, after)
    if percent is not None:
        return Quantity(sign * value * factor, exact, True), percent.end(), True
    out_of = _OUT_OF.match(text, after)
    if out_of is not None and int(out_of[1]):
        other, after, words = value / int(out_of[1]), out_of.end(), True
    named, end = read_unit(text, after)
    if named:
        words, unit = True, named if named != "?" else unit
    else:
        end = after
    if other is not None:
        other *= sign
    return Quantity(sign * value * factor, exact, False, unit, other), end, words


def _sign(text: str, start: int) -> tuple[int, int]:
    match = _SIGN.match(text, start)
    assert match is not None
    return (-1 if (match[1] == "-" or (match[2] or "").lower() in ("negative", "minus")) else 1), match.end()


def same_quantities(wanted: Quantities, found: Quantities) -> bool:
    """Whether both are the same quantities, in any order."""
    if len(wanted) != len(found):
        return False
    left = list(found)
    for quantity in wanted:
        match = next((other for other in left if same_quantity(quantity, other)), None)
        if match is None:
            return False
        left.remove(match)
    return True


def same_quantity(wanted: Quantity, found: Quantity) -> bool:
    """Whether both are the same number, of units that do not contradict each other.

    A percentage is the same as its number of hundredths, and as the plain number where the reference has the
    percent sign or is at least 1.
    """
    if wanted.unit and found.unit and wanted.unit != found.unit:
        return False
    exact = wanted.exact and found.exact
    values = [found.value] if found.other is None else [found.value, found.other]
    golds = [wanted.value]
    if wanted.percent and not found.percent:
        golds.append(wanted.value / 100)
    if found.percent and not wanted.percent:
        values = [found.value / 100, *([found.value] if abs(wanted.value) >= 1 else [])]
    return any(_close(gold, value, exact) for gold in golds for value in values)


def _close(wanted: Fraction, found: Fraction, exact: bool) -> bool:
    difference = abs(wanted - found)
    if exact or not difference:
        return not difference
    return difference <= DECIMALS and difference <= SIGNIFICANT * max(abs(wanted), abs(found))
