"""Whole numbers, read at once where Math-Verify could only say the same.

Most answers are whole numbers, and reading one with sympy takes a millisecond. Each function here reads the
plain cases and gives None for the rest, which is then Math-Verify's to read.
"""

from __future__ import annotations

import re
from functools import lru_cache

from pts.graders.number_words import MAGNITUDE

_CURRENCY = r"(?:\\?\$|[€£¥₹])?"
_INTEGER = r"-?(?:[1-9]\d{0,2}(?:,\d{3})+|\d+)(?:\.0+)?"
_MOST_DIGITS = 30
_WHOLE = re.compile(rf"\s*\$?\s*({_INTEGER})\s*\$?\s*\.?\s*")
_STATED = re.compile(
    rf"[\s*]*{_CURRENCY}({_INTEGER})\**\$?\**[.,;:!?]?\**(?:\s+(?!pi\b)([A-Za-z]{{2}}[^\W\d][^\d]*"
    rf"|[a-z]{{2}}))?\s*"
)
_NOT_WORDS = re.compile(
    rf"[-+*/^=%\\$(){{}}\[\]<>|×÷~&_!:]|percent|\bper\s+cent\b|\bpct\b|\bpi\b|\b(?:{MAGNITUDE})"
    rf"|\b(?:and|or|to|by|point|over|"
    r"(?:tenth|hundredth|thousandth)s?|squared|cubed|factorial|times|plus|minus)\b|[^\x00-\x7f]",
    re.IGNORECASE,
)
_LAST_DIGIT_RUN = re.compile(r"(\d[\d.,]*\d|\d)(?=\D*\Z)")
_BEFORE = re.compile(rf"(?:^|[\s=])(?:\*\*)?{_CURRENCY}(-?)\Z")
_CONTINUES = re.compile(
    rf"[.\s]*[-+*/^()÷×!:]|\s*(?:%|percent|per\s+cent|pct)|[,.]?\w|\s*-?\s*(?:{MAGNITUDE})"
    rf"|\s+(?:(?:and|or|to|point|over)\b|"
    r"(?:tenth|hundredth|thousandth)s?\b|(?:squared|cubed|factorial|times|plus|minus)\b)",
    re.IGNORECASE,
)
_UNSETTLED = re.compile(
    r"(?:(?:\d|\b(?:one|two|three|four|five|six|seven|eight|nine|ten)\b)\s*(?:,?\s*(?:or"
    r"|nor)(?:\s+(?:maybe|perhaps|possibly))?|[-–—:])"
    r"|=[ \t]*-?[\d.]+[ \t]*(?:,[ \t]*)?(?:\bor\b|\band\b)?[ \t]*[A-Za-z]\w?[ \t]*=?"
    r"|\b(?:between\s+\S{1,20}\s+and|not|never|cannot\s+be|(?:more|less|greater|fewer)\s+than|minus"
    r"|negative)|n't(?:\s+be)?)\s*\Z",
    re.IGNORECASE,
)
LABEL = re.compile(
    r"\b(?:problem|question|step|equation|eq\.|figure|table|section|theorem|lemma|exercise|page)\s*[(#]?\s*\Z",
    re.IGNORECASE,
)
"""What stands before a number that is a name: "step 12"."""
_SCANNED = 400


@lru_cache(maxsize=65_536)
def as_integer(text: str) -> int | None:
    """The whole number that the text is ("18", "1,234", "$18$", "18.0"); None for anything else."""
    match = _WHOLE.fullmatch(text)
    return _value(match.group(1)) if match else None


def leading_integer(stated: str) -> int | None:
    """The whole number that a stated answer is, words such as units after it ("18 dollars a day")."""
    match = _STATED.fullmatch(stated)
    if match is None or _NOT_WORDS.search(match.group(2) or ""):
        return None
    return _value(match.group(1))


def closing_integer(completion: str) -> int | None:
    """The whole number that is the last number of a text without formulas near its end."""
    tail = completion[-_SCANNED:]
    if "answer" in tail.lower() or (len(completion) > _SCANNED and "answer" in completion.lower()):
        return None
    match = _LAST_DIGIT_RUN.search(tail)
    if match is None:
        return None
    sign = _BEFORE.search(tail, 0, match.start())
    after = tail[match.end() :].removeprefix("**")
    if sign is None or not re.fullmatch(_INTEGER, match.group(1)):
        return None
    before = tail[: sign.start()].rstrip()
    if LABEL.search(before[-20:]):
        return None
    if before[-1:] in set("+-*/^(÷×:–<>≤≥0123456789") or _UNSETTLED.search(before[-60:]):
        return None
    if _CONTINUES.match(after) or set(after) & set("$\\]"):
        return None
    return _value(sign.group(1) + match.group(1))


def _value(digits: str) -> int | None:
    whole = digits.partition(".")[0].replace(",", "")
    return int(whole) if len(whole) <= _MOST_DIGITS else None
