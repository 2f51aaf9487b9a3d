"""Questions with choices: the lettered lines, and which letter a data set's answer means."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pts.data_files import field_text
from pts.errors import DataError
from pts.graders.choice import LETTERS
from pts.problems.entry import Entry

_OWN_LETTER = re.compile(r"\s*\(?([A-Za-z])\s*[).:]\s*(.*\S)\s*", re.DOTALL)
_LETTER = re.compile(r"[\s(\[]*([A-Za-z])[\s).:\]]*")
_WHOLE = re.compile(r"(\d+)(?:\.0*)?")
_PAIRED = tuple((label, text) for label in ("label", "key", "letter", "id") for text in ("text", "value"))
"""Names that an object has for a choice's label and its text."""
_PLACEHOLDERS = frozenset({"n/a", "[n/a]", "<n/a>"})


@dataclass(frozen=True, slots=True)
class Choices:
    """The choices of a problem: their texts, the same as the row wrote them, and its own labels, if any."""

    texts: tuple[str, ...]
    written: tuple[str, ...]
    labels: tuple[str, ...] | None = None


def with_choices(question: str, choices: Sequence[str]) -> str:
    """The question with its choices on lettered lines."""
    lines = [f"{letter}) {choice}" for letter, choice in zip(LETTERS, choices, strict=False)]
    return "\n".join([question, "", *lines])


def count_choices(query: str) -> int:
    """How many lettered choices a query of `with_choices` ends in; 0 where it has none."""
    start, count = query.rfind(f"\n\n{LETTERS[0]}) "), 0
    for letter in LETTERS if start >= 0 else "":
        start = query.find(f"\n{letter}) ", start)
        if start < 0:
            break
        count += 1
    return count


def read_choices(entry: Entry, field: str) -> Choices:
    """The choices in a field: a list, or texts with labels in one of the shapes that those have.

    An object of `text` and `label` lists, a list of objects with both, or an object of texts by label. Raises
    DataError for anything else, too few or too many choices, and an empty one.
    """
    value = entry.value(field)
    if isinstance(value, dict):
        return _labelled(entry, field, value)
    listed = entry.items(field)
    if listed is None:
        raise entry.failure(f"has {str(value)[:60]!r} for its choices, not a list of 2 to {len(LETTERS)}")
    for label, text in _PAIRED:
        if listed and all(isinstance(item, dict) and {label, text} <= set(item) for item in listed):
            return _choices(entry, [item[text] for item in listed], [item[label] for item in listed])
    return _choices(entry, listed, None)


def read_columns(entry: Entry, fields: Sequence[str]) -> Choices:
    """The choices in fields of their own. Raises DataError for an empty one."""
    return _choices(entry, [entry.value(field) for field in fields], None)


def shuffled(entry: Entry, question: str, right: Any, wrong: Sequence[Any], name: str) -> tuple[str, str]:
    """The query and the letter where the right choice is told apart: an order drawn from data set and id."""
    choices = _choices(entry, [right, *wrong], None).written
    order = list(range(len(choices)))
    random.Random(f"{name}-{entry.item}").shuffle(order)
    return with_choices(question, [choices[index] for index in order]), LETTERS[order.index(0)]


def letter_at(entry: Entry, field: str, count: int, first: int = 0) -> str:
    """The letter of an index that counts from `first`, be it 2, 2.0 or "2". Raises DataError for another."""
    value = entry.value(field)
    index = _index(value)
    if index is None:
        stated = field_text(value, entry.where(field))
        raise entry.failure(f"has {stated!r} for its {field}, not an index from {first}")
    if not first <= index < first + count:
        raise entry.failure(
            f"has {index} for its {field}; its {count} choices are {first} to {first + count - 1}"
        )
    return LETTERS[index - first]


def letter_of(entry: Entry, field: str, choices: Choices, known: bool) -> str:
    """The letter that an answer means: a label or letter, an index from 0, or the text of a choice.

    In a `known` schema they are tried in this order, but for digits in quotes, which may be an index or a text;
    elsewhere, and for those, two readings that disagree are an error. Raises DataError.
    """
    value = entry.value(field)
    if isinstance(value, bool):
        raise entry.failure(f"has {value} for its answer, which is none of its {len(choices.texts)} choices")
    stated = field_text(value, f"{entry.place}: the answer of problem {entry.item}")
    number = not isinstance(value, str)
    letter, index = _by_letter(stated, choices), _by_index(value, choices)
    texts = {at for at, pair in enumerate(_texts(choices)) if stated in pair} or _by_both(stated, choices)
    if choices.labels is not None and index is not None and letter is None:
        index = None  # an index beside labels would be a guess
    if known and letter is not None:
        return LETTERS[letter]
    if known and number:
        texts = set()
    readings = {reading for reading in (letter, index) if reading is not None}
    found = readings | texts
    if texts & readings == readings and len(readings) == 1:
        found = readings  # the text is there twice, and the letter says which
    if len(found) == 1:
        return LETTERS[found.pop()]
    if not found:
        means = "one of its labels" if choices.labels else "a letter, an index from 0,"
        raise DataError(
            f"{entry.place}: the answer {stated!r} of problem {entry.item} is not one of its "
            f"{len(choices.texts)} choices; give {means} or the choice's text."
        )
    letters = " or ".join(LETTERS[at] for at in sorted(found))
    raise entry.failure(f"has the answer {stated!r}, which can be read as {letters}; give the letter")


def require_agreement(entry: Entry, letter: str, field: str, choices: Choices) -> None:
    """Raise DataError where a second field says another answer; an empty one says nothing."""
    value = entry.value(field)
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return
    other = letter_of(entry, field, choices, known=True)
    if other != letter:
        raise entry.failure(f"has the answer {letter} by one field and {other} by {field}")


def _choices(entry: Entry, listed: Sequence[Any], labels: Sequence[Any] | None) -> Choices:
    if not 2 <= len(listed) <= len(LETTERS):
        raise entry.failure(f"has {len(listed)} choices, not a list of 2 to {len(LETTERS)}")
    written = tuple(_choice_text(entry, item, LETTERS[place]) for place, item in enumerate(listed))
    own = [_OWN_LETTER.fullmatch(text) for text in written]
    texts = written
    if all(match is not None and match[1].upper() == LETTERS[place] for place, match in enumerate(own)):
        texts = tuple(match[2] for match in own if match is not None)
    if labels is None:
        return Choices(texts, written)
    names = tuple(field_text(label, f"{entry.place}: a label of problem {entry.item}") for label in labels)
    if len(names) != len(texts) or len(set(names)) < len(names):
        raise entry.failure(f"has {len(texts)} choices and the labels {', '.join(names)}: one each is needed")
    return Choices(texts, written, names)


def _labelled(entry: Entry, field: str, value: dict[str, Any]) -> Choices:
    texts, labels = value.get("text"), value.get("label")
    if isinstance(texts, list) and isinstance(labels, list):
        return _choices(entry, texts, labels)
    # A column of objects gives every row the keys of all: the last ones are None where they are not this row's.
    named = dict(value)
    while named and list(named.values())[-1] is None:
        named.popitem()
    if not named or any(isinstance(item, list | dict) for item in named.values()):
        raise entry.failure(f"has an object ({', '.join(value)[:60]}) for its {field}, not choices by label")
    return _choices(entry, list(named.values()), list(named))


def _choice_text(entry: Entry, value: Any, letter: str) -> str:
    where = f"{entry.place}: choice {letter} of problem {entry.item}"
    text = str(value) if isinstance(value, bool) else field_text(value, where)
    if text.casefold() in _PLACEHOLDERS:
        raise entry.failure(f"has the placeholder {text!r} for choice {letter}")
    return text


def _texts(choices: Choices) -> list[tuple[str, str]]:
    return list(zip(choices.texts, choices.written, strict=True))


def _by_letter(stated: str, choices: Choices) -> int | None:
    """The place of a label of the row's own, or of a letter where it has none."""
    if choices.labels is not None:
        bare, labels = stated.strip("(). "), [label.strip("(). ") for label in choices.labels]
        for named in (choices.labels, labels):
            for same in (stated, bare, bare.upper(), bare.lower()):
                if list(named).count(same) == 1:
                    return named.index(same)
        return None
    match = _LETTER.fullmatch(stated)
    place = -1 if match is None else LETTERS.find(match[1].upper())
    return place if 0 <= place < len(choices.texts) else None


def _by_both(stated: str, choices: Choices) -> set[int]:
    """The place of a choice that the answer names by its letter and its text together, "C) 12 m"."""
    match = _OWN_LETTER.fullmatch(stated)
    place = None if match is None else _by_letter(match[1], choices)
    return set() if place is None or match is None or match[2] not in _texts(choices)[place] else {place}


def _by_index(value: Any, choices: Choices) -> int | None:
    index = _index(value)
    return index if index is not None and index < len(choices.texts) else None


def _index(value: Any) -> int | None:
    """A whole number at or above 0, be it 2, 2.0 or "2"."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return int(value) if math.isfinite(value) and value >= 0 and value == int(value) else None
    match = _WHOLE.fullmatch(value.strip()) if isinstance(value, str) else None
    return None if match is None else int(match[1])
