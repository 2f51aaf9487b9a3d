"""Times of day and ratios: numbers that a colon joins."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from math import gcd

_PARTS = r"\d{1,6}(?:\.\d+)?(?:\s*:\s*\d{1,6}(?:\.\d+)?){1,5}"
_COLON = re.compile(
    rf"[\s$*\"'(]*(?:at\s+|about\s+"
    rf"|the\s+ratio\s+(?:is\s+)?)?(?P<parts>{_PARTS})(?!\s*:)\s*(?P<half>[ap]\.?\s?m\b\.?)?(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
_TO = re.compile(r"[\s$*]*(\d{1,6})\s+to\s+(\d{1,6})[\s.$*]*")
_BREAKS = re.compile(r"\s*(?:$|[.,;!?)\]*$\"'\\]|[A-Za-z])")


@dataclass(frozen=True, slots=True)
class Colons:
    """Numbers joined by colons; `half` is "a" or "p" for a time of the morning or afternoon, else ""."""

    parts: tuple[Fraction, ...]
    clock: bool
    half: str

    @property
    def quotient(self) -> Fraction | None:
        """The first part over the second, of a ratio of two."""
        return self.parts[0] / self.parts[1] if len(self.parts) == 2 and self.parts[1] else None


def read_colons(text: str) -> Colons | None:
    """What a text that begins so says: "3:30 p.m.", "3 : 4", "1:2:3", "3 to 4"; None for anything else."""
    text = (
        text[:200]
        .replace("\\colon", ":")
        .replace("\\,", " ")
        .replace("{:}", ":")
        .replace("\\text{", " ")
        .replace("}", " ")
    )
    to = _TO.fullmatch(text)
    if to is not None:
        return Colons((Fraction(to[1]), Fraction(to[2])), False, "")
    match = _COLON.match(text)
    if match is None or not _BREAKS.match(match["rest"]):
        return None
    written = [part.strip() for part in match["parts"].split(":")]
    clock = (
        len(written) <= 3
        and int(float(written[0])) < 25
        and all(len(p) == 2 and int(p) < 60 for p in written[1:] if "." not in p)
    )
    return Colons(tuple(Fraction(part) for part in written), clock, (match["half"] or "")[:1].lower())


def same_colons(wanted: Colons, found: Colons) -> bool:
    """Whether both are the same time, or the same ratio."""
    if wanted.clock and found.clock:
        return _time(wanted, found) == _time(found, wanted)
    if wanted.half or found.half or len(wanted.parts) != len(found.parts):
        return False
    return _reduced(wanted) == _reduced(found)


def _time(colons: Colons, other: Colons) -> tuple[Fraction, ...]:
    """The time in 24 hours where both halves of the day are known, else as it is written."""
    hour, *rest = colons.parts
    if colons.half and (other.half or other.parts[0] > 12 or other.parts[0] == 0):
        hour = hour % 12 + (12 if colons.half == "p" else 0)
    return (hour, *rest)


def _reduced(colons: Colons) -> tuple[Fraction, ...]:
    scale = 1
    for part in colons.parts:
        scale = scale * part.denominator // gcd(scale, part.denominator)
    whole = [int(part * scale) for part in colons.parts]
    divisor = gcd(*whole) or 1
    return tuple(Fraction(part, divisor) for part in whole)
