"""The forms in which one number is written, read as an exact fraction."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction

_MOST_DIGITS = 4_000
_SEPARATOR = r"(?:\{,\}|,\\!|\\[,!;: ]|[,'~ ])"
_GROUPED = re.compile(
    rf"(?<![\d.,^_{{/])(?<!\d )([1-9]\d{{0,2}})(?=({_SEPARATOR})\s?\d{{3}})((?:\2\s?\d{{3}})+)"
    r"(?![\d/])(?![,.]\d*,)(?!\s+\d+/)"
)
_INDIAN = re.compile(r"(?<![\d.,])[1-9]\d?(?:,\d\d)+,\d{3}(?![\d,])")
_CONTINENTAL = re.compile(
    r"(?<![\d.,])[1-9]\d{0,2}(?:(?:\.\d{3}){2,}(?:,\d+)?|(?:\.\d{3})+,\d{1,2}"
    r"|(?: \d{3})+,\d{1,2})(?![\d.,]\d|\d)"
)
_SEPARATORS = re.compile(_SEPARATOR + r"|\s")

_INSIDE = r"\{\s*(-?\d+(?:\.\d+)?)\s*\}"
_FRAC = rf"\\frac\s*(?:{_INSIDE}|(\d))\s*(?:{_INSIDE}|(\d))"
_MIXED = re.compile(rf"(\d+)\s*(?:and\s+|&\s*)?{_FRAC}")
_MIXED_SLASH = re.compile(r"(\d+)(?:\s+|\s+and\s+|\s*&\s*)(\d+)\s*/\s*(\d+)(?![\d/.])")
_HALF = re.compile(r"(\d+)\s+and\s+(?:a|one)[ -](half|third|quarter|fifth)\b")
_FRACTION = re.compile(_FRAC)
_SLASH = re.compile(r"(\d+(?:\.\d+)?)\s*/\s*(-?\d+(?:\.\d+)?)(?![\d/])")
_TO = r"\s*(?:\^|\*\*)\s*(?:\{\s*([-+]?\d{1,4})\s*\}|\(\s*([-+]?\d{1,4})\s*\)|([-+]?\d{1,4}))(?!\d)"
_POWER = re.compile(rf"(\d{{1,9}}){_TO}")
_SCIENTIFIC = re.compile(rf"(\d+(?:\.\d*)?|\.\d+)\s*(?:×|x|X|\*|·|\\times|\\cdot)\s*10{_TO}")
_DECIMAL = re.compile(r"(\d+(?:\.\d+)?|\.\d+)(?!\.?\d)(?:[eE]([-+]?\d{1,4})(?![\w.]))?")
_REPEATING = re.compile(
    r"(\d*)\.(\d*)(?:\\(?:overline|bar|dot)\s*(?:\{\s*(\d+)\s*\}|(\d))|\((\d+)\))(?![\d.]|\s*\\(?:dot|bar|overline))"
)
_FACTORIAL = re.compile(r"!(?![!=])")
_LARGEST_FACTORIAL = 200
_PARTS = {"half": 2, "third": 3, "quarter": 4, "fifth": 5}


def without_separators(text: str) -> str:
    r"""`text` with the digits of each number together: "12 345", "9{,}500", "1,23,456" and "1.234.567,8"."""
    if not any(mark in text for mark in ",'~ \\."):
        return text
    text = _INDIAN.sub(lambda match: match[0].replace(",", ""), text)
    text = _CONTINENTAL.sub(lambda match: re.sub(r"[. ]", "", match[0]).replace(",", "."), text)
    return _GROUPED.sub(lambda match: match[1] + _SEPARATORS.sub("", match[3]), text)


def read_number(text: str, start: int) -> tuple[Fraction, Fraction | None, bool, int] | None:
    """The unsigned number at `start`: its value, another that it may have, whether it is exact, and its end.

    The other value is that of "6!", whose exclamation mark may end the sentence. None where no number begins.
    """
    for pattern, value in _FORMS:
        match = pattern.match(text, start)
        if match is None:
            continue
        number = value(match)
        if number is None:
            return None
        factorial = _factorial(number, text, match.end())
        end = match.end() if factorial is None else match.end() + 1
        return number, factorial, "." not in match[0], end
    return None


def _factorial(number: Fraction, text: str, end: int) -> Fraction | None:
    if number.denominator != 1 or number > _LARGEST_FACTORIAL or not _FACTORIAL.match(text, end):
        return None
    product = 1
    for factor in range(2, int(number) + 1):
        product *= factor
    return Fraction(product)


def _over(above: str, below: str) -> Fraction | None:
    bottom = Fraction(below)
    return Fraction(above) / bottom if bottom else None


def _mixed(match: re.Match[str]) -> Fraction | None:
    part = _over(match[2] or match[3], match[4] or match[5])
    return None if part is None or part < 0 else Fraction(match[1]) + part


def _mixed_slash(match: re.Match[str]) -> Fraction | None:
    part = _over(match[2], match[3])
    return None if part is None else Fraction(match[1]) + part


def _fraction(match: re.Match[str]) -> Fraction | None:
    return _over(match[1] or match[2], match[3] or match[4])


def _scientific(match: re.Match[str]) -> Fraction:
    return _decimal(match[1]) * Fraction(10) ** int(match[2] or match[3] or match[4])


def _repeating(match: re.Match[str]) -> Fraction | None:
    repeated = match[3] or match[4] or match[5]
    if len(match[0]) > _MOST_DIGITS:
        return None
    period = Fraction(int(repeated), 10 ** len(match[2]) * (10 ** len(repeated) - 1))
    return _decimal(f"{match[1] or 0}.{match[2]}") + period


def _power(match: re.Match[str]) -> Fraction | None:
    base, exponent = int(match[1]), int(match[2] or match[3] or match[4])
    if len(match[1]) * abs(exponent) > _MOST_DIGITS or (base == 0 and exponent < 0):
        return None
    return Fraction(base) ** exponent


def _decimal(digits: str) -> Fraction:
    return Fraction("0" + digits if digits.startswith(".") else digits.rstrip("."))


def _plain(match: re.Match[str]) -> Fraction | None:
    if len(match[1]) > _MOST_DIGITS:
        return None
    return _decimal(match[1]) * Fraction(10) ** int(match[2] or 0)


_FORMS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], Fraction | None]], ...] = (
    (_MIXED, _mixed),
    (_MIXED_SLASH, _mixed_slash),
    (_HALF, lambda match: Fraction(match[1]) + Fraction(1, _PARTS[match[2]])),
    (_FRACTION, _fraction),
    (_SLASH, lambda match: _over(match[1], match[2])),
    (_SCIENTIFIC, _scientific),
    (_POWER, _power),
    (_REPEATING, _repeating),
    (_DECIMAL, _plain),
)
