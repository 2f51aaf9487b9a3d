"""Reference answers that are free text: what a worked solution ends in, lists, and truth values."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pts.data_files import Row, field_text
from pts.errors import DataError
from pts.graders.statements import last_boxed
from pts.problems.entry import Entry
from pts.setting_names import setting

_FINAL = re.compile(r"####\s*(.+?)\s*$")
_LONGEST_BARE = 100
"""Characters of a solution that may be an answer by itself; a longer one without a mark is a text."""
_NO_ANSWERS = frozenset({"proof", "notfound", "not found"})
"""What NuminaMath writes where a problem has no answer."""


def final_answer(text: str) -> str:
    r"""The answer that a worked solution ends in: what follows its last "####", else its last `\\boxed{}`.

    The whole text where it has neither.
    """
    marked = _FINAL.search(text[text.rfind("####") :]) if "####" in text else None
    if marked:
        return marked.group(1)
    return last_boxed(text) or text.strip()


def reference(entry: Entry, field: str) -> str:
    """The answer in a field; of a list of one, that one. Raises DataError for an empty or structured value."""
    value = entry.value(field)
    if isinstance(value, list | tuple):
        return _only(entry, field, value)
    if isinstance(value, dict):
        inner = "value" if "value" in value else next(iter(value), "value")
        raise entry.failure(
            f"has an object ({', '.join(value)[:60]}) for its {field}; name the part to grade against, such as "
            f"{setting('answer_field', f'{field}.{inner}')}"
        )
    return final_answer(field_text(value, entry.where(field)))


def worked_answer(entry: Entry, field: str) -> str:
    """The answer of a worked solution. Raises DataError where a long one marks none."""
    text = reference(entry, field)
    if len(text) > _LONGEST_BARE or "\n" in text:
        raise DataError(
            f"{entry.where(field)} marks no answer by \\boxed{{}} or ####; remove the row, or name the field "
            f"that holds the answer with {setting('answer_field')}."
        )
    return text


def no_answer(row: Row) -> str | None:
    """What NuminaMath writes where a problem has no answer, such as a proof; None where there is one."""
    stated = row.get("answer")
    text = stated.strip().casefold() if isinstance(stated, str) else None
    return f"answer {text!r}" if text in _NO_ANSWERS else None


def all_answers(entry: Entry, field: str) -> str:
    """Several answers, all of which are asked for, as one text with commas. Raises DataError for none."""
    values = entry.value(field)
    if not isinstance(values, list | tuple):
        return reference(entry, field)  # text that looks like a list is an interval or a tuple
    if not values:
        raise entry.failure(f"has an empty list for its {field}")
    texts = [final_answer(field_text(value, entry.where(field))) for value in values]
    return ", ".join(dict.fromkeys(texts))


def same_answer(entry: Entry, field: str, accepted: Sequence[Any]) -> str:
    """The one text of a list of accepted answers. Raises DataError where they differ: a grader takes one."""
    texts = list(dict.fromkeys(field_text(value, entry.where(field)) for value in accepted))
    if len(texts) == 1:
        return texts[0]
    if not texts:
        raise entry.failure(f"has an empty list for its {field}")
    raise entry.failure(
        f"has {len(texts)} accepted answers in {field} ({texts[0][:40]!r}, {texts[1][:40]!r}, ...), and a "
        "grader compares with one: write that to a field of its own, or name one of them, such as "
        f"{setting('answer_field', f'{field}.0')}"
    )


def truth_value(entry: Entry, field: str) -> str:
    """Yes or no, of true, false, 1, 0 or their words. Raises DataError for anything else."""
    value = entry.value(field)
    stated = field_text(value, entry.where(field)).casefold()
    for word, meaning in (
        ("yes", "yes"),
        ("no", "no"),
        ("true", "yes"),
        ("false", "no"),
        ("1", "yes"),
        ("0", "no"),
    ):
        if stated == word:
            return meaning
    raise entry.failure(f"has {stated[:40]!r} for its {field}, neither true nor false")


def number_of(entry: Entry, field: str) -> str:
    """A number without the unit in brackets after it, as ASDiv writes them: "9 (apples)" is 9."""
    text = reference(entry, field)
    bare = re.fullmatch(r"(.*\d\S*)\s*\([^()]*\)", text)
    return bare.group(1) if bare else text


def _only(entry: Entry, field: str, values: Sequence[Any]) -> str:
    if any(isinstance(value, list | dict) for value in values):
        raise entry.failure(
            f"has a list of lists or objects for its {field}; name the part to grade against, such as "
            f"{setting('answer_field', f'{field}.0')}"
        )
    return final_answer(same_answer(entry, field, values))
