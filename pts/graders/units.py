"""Units after a number: which words are one and the same."""

from __future__ import annotations

import re

_SAME = (
    "dollar dollars usd $ us$ ¤",
    "cent cents ¢",
    "euro euros eur €",
    "pound pounds gbp £",
    "yen jpy ¥",
    "rupee rupees rs inr ₹",
    "mm millimeter millimeters millimetre millimetres",
    "cm centimeter centimeters centimetre centimetres",
    "m meter meters metre metres",
    "km kilometer kilometers kilometre kilometres",
    "inch inches",
    "ft foot feet",
    "yd yard yards",
    "mi mile miles",
    "mg milligram milligrams",
    "g gram grams",
    "kg kilogram kilograms",
    "oz ounce ounces",
    "lb lbs",
    "s sec secs second seconds",
    "min mins minute minutes",
    "h hr hrs hour hours",
    "day days",
    "week weeks",
    "month months",
    "year years yr yrs",
    "ml milliliter milliliters millilitre millilitres",
    "l liter liters litre litres",
    "mph",
    "km/h kmh kph",
    "m/s",
    "° degree degrees deg",
    "rad radian radians",
    "°c",
    "°f",
    "n newton newtons",
    "j joule joules",
    "kj kilojoule kilojoules",
    "w watt watts",
    "kw kilowatt kilowatts",
    "v volt volts",
    "hz hertz",
    "pa pascal pascals",
    "kpa",
    "mol mole moles",
)
_NAMES = {name: names.split()[0] for names in _SAME for name in names.split()}
_LETTERS = frozenset("mgshlLNJWVKCF")
"""Units of one letter: any other letter after a number is a variable."""
_NO_UNIT = (
    r"pi|sqrt|sin|cos|tan|sec|csc|cot|log|ln|exp|mod|choose|inf|infinity|times|plus|minus|over"
    r"|divided|and|or|to|by|"
    r"squared|cubed|factorial|point|out|in|of|nor|through|than|but|times|half|halves|thirds?"
    r"|quarters?|fourths?|fifths?|"
    r"sixths?|sevenths?|eighths?|ninths?|per|multiplied|raised|root"
)
_RAISED = r"(?:\s?\^\s?\{?-?\d\}?)?"
_UNIT = re.compile(
    rf"\s*-?(?P<unit>°\s?[CF]?(?![A-Za-z])|[€£¥₹¢¤$](?!\d)"
    rf"|(?!(?:{_NO_UNIT})\b)[A-Za-z]+(?:/[A-Za-z]+)?(?![A-Za-z])){_RAISED}",
    re.IGNORECASE,
)


def read_unit(text: str, start: int) -> tuple[str, int]:
    """The name of the unit at `start` and its end; ("", start) where none is, ("?", end) for any other word.

    A single letter is a unit only where it is a known one.
    """
    match = _UNIT.match(text, start)
    if match is None:
        return "", start
    unit = match["unit"].replace(" ", "")
    if len(unit) == 1 and unit.isalpha() and unit not in _LETTERS:
        return "", start
    raised = text[match.end("unit") : match.end()].strip(" ^{}")
    name = _NAMES.get(unit.lower(), "?")
    return (name + raised if name != "?" else name), match.end()
