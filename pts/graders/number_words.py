"""Numbers that are written out, and the words that multiply a number."""

from __future__ import annotations

import re
from fractions import Fraction

_ONES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
_ONES += ["eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_VALUES = {word: value for value, word in enumerate(_ONES)}
_VALUES |= {word: 10 * value for value, word in enumerate(_TENS, start=2)}
_MAGNITUDES = {
    "hundred": 100,
    "thousand": 1_000,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
    "quadrillion": 10**15,
    "dozen": 12,
    "lakh": 10**5,
    "crore": 10**7,
    "mn": 10**6,
    "mln": 10**6,
    "bn": 10**9,
    "tn": 10**12,
}
_SHORT = {"k": 1_000, "K": 1_000, "M": 10**6, "MM": 10**6, "B": 10**9, "T": 10**12}
_SHARES = {"tenth": 10, "hundredth": 100, "thousandth": 1_000, "millionth": 10**6}

_NUMBER_WORD = rf"(?:{'|'.join((*_ONES, *_TENS))})(?:[ -](?:{'|'.join(_ONES[1:10])}))?(?![\w-])"
_WORDS = re.compile(
    rf"{_NUMBER_WORD}(?:\s+(?:hundred|thousand|million)(?:(?:\s+and|,)?\s+{_NUMBER_WORD})?)*(?![\w-])"
    rf"|a\s+dozen\b",
    re.IGNORECASE,
)
_PARTS = {
    **{"half": 2, "halve": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7},
    **{"eighth": 8, "ninth": 9, "tenth": 10},
}
_NOT_OF_A_NUMBER = r"(?![\w-])(?!\s+of\s+(?:\w+\s+)?[$\\]?\d)"
_PART = re.compile(
    rf"(?:(?P<whole>{_NUMBER_WORD})\s+and\s+(?P<one>a|one)[ -]"
    rf"|(?P<above>{'|'.join(_ONES[1:20])})[ -])(?P<below>{'|'.join(_PARTS)})s?{_NOT_OF_A_NUMBER}",
    re.IGNORECASE,
)
_HALF_A = re.compile(r"half\s+an?\s+(?P<word>dozen|hundred|thousand|million|billion|trillion)\b", re.IGNORECASE)
MAGNITUDE = rf"(?:{'|'.join(word for word in _MAGNITUDES if len(word) > 3)})s?\b|(?:mn|mln|bn|tn)\b"
_MAGNITUDE = re.compile(
    rf"\s*-?\s*(?:(?P<word>{MAGNITUDE})|(?P<share>tenth|hundredth|thousandth|millionth)s?\b)", re.IGNORECASE
)
_SHORTENED = re.compile(r"(?P<short>[kK]|MM?|B|T)(?![\w^/·*])")


def read_words(text: str, start: int) -> tuple[Fraction, int] | None:
    """The number that is written out at `start`, "twenty-one", "two thirds" or "a dozen"; and its end."""
    part, half = _PART.match(text, start), _HALF_A.match(text, start)
    if part is not None:
        return _read_part(part), part.end()
    if half is not None:
        return Fraction(_MAGNITUDES[half["word"].lower()], 2), half.end()
    match = _WORDS.match(text, start)
    if match is None:
        return None
    words = re.findall(r"[a-z]+", match[0].lower())
    if words == ["a", "dozen"]:
        return Fraction(12), match.end()
    total = current = 0
    for word in words:
        if word in _VALUES:
            current += _VALUES[word]
        elif word == "hundred":
            current *= 100
        elif word in _MAGNITUDES:
            total += current * _MAGNITUDES[word]
            current = 0
    return Fraction(total + current), match.end()


def _read_part(match: re.Match[str]) -> Fraction:
    below = _PARTS[match["below"].lower()]
    if match["above"] is not None:
        return Fraction(_VALUES[match["above"].lower()], below)
    whole = sum(_VALUES[word] for word in re.findall(r"[a-z]+", match["whole"].lower()))
    return whole + Fraction(1, below)


def read_magnitude(text: str, start: int, money: bool = False) -> tuple[Fraction, int]:
    """What the words after a number multiply it by ("million", "k", "dozen", "tenths"), and where they end."""
    factor, end = Fraction(1), start
    short = _SHORTENED.match(text, start) or (_SHORTENED.match(text, start + 1) if money else None)
    if short is not None:
        return Fraction(_SHORT[short["short"]]), short.end()
    for _ in range(3):
        match = _MAGNITUDE.match(text, end)
        if match is None:
            break
        if match["share"]:
            return factor / _SHARES[match["share"].lower()], match.end()
        factor *= _MAGNITUDES[match["word"].lower().removesuffix("s")]
        end = match.end()
    return factor, end
