"""The shapes of the common data sets: which fields hold the question, the answer and the choices."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pts.errors import DataError
from pts.graders.choice import LETTERS
from pts.graders.statements import last_boxed
from pts.problems.files import Row
from pts.problems.source import ProblemSource

_GPQA_FIELDS = ("Question", "Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")
_QUESTION_FIELDS = ("question", "problem", "Question", "Problem", "query", "prompt")
_ANSWER_FIELDS = ("answer", "Answer", "solution", "Solution")
_FINAL = re.compile(r"####\s*(.+?)\s*$")


@dataclass(frozen=True, slots=True)
class Schema:
    """How to read one row. `text` gives (query, reference answer) of (row, id), or raises DataError.

    `fields` are those that `text` reads; `grader` is None where the answers themselves must tell.
    """

    name: str
    fields: tuple[str, ...]
    text: Callable[[Row, str], tuple[str, str]]
    grader: str | None


def detect_schema(source: ProblemSource, rows: Sequence[Row]) -> Schema:
    """The schema that the source names, or that its first row shows.

    Raises DataError, with the fields that are there, for a named field that is not and for unknown shapes.
    """
    first = rows[0]
    names = set(first)
    _check_named(source, first)
    if source.question_field or source.answer_field or source.choices_field:
        return _named(source, first)
    if names >= set(_GPQA_FIELDS):
        return Schema("gpqa", _GPQA_FIELDS, _gpqa_text, "choice")
    if names >= {"question", "options", "answer"}:
        return _choices("mmlu-pro", "question", "answer", "options", extra=("answer_index",))
    if names >= {"question", "choices", "answer"}:
        return _choices("mmlu", "question", "answer", "choices")
    if names >= {"question_concat", "Answer"}:
        return _plain("svamp", "question_concat", "Answer", extra=("Body", "Question"))
    if names >= {"Body", "Question", "Answer"}:
        return Schema("svamp", ("Body", "Question", "Answer"), _svamp_text, "math")
    if names >= {"id", "category", "question", "answer"} and str(first["id"]).startswith(
        f"{first['category']}_"
    ):
        return _plain("optillmbench", "question", "answer", grader="mixed")
    if names >= {"question", "answer"} and "####" in str(first["answer"]):
        return _plain("gsm8k", "question", "answer")
    for question, answers in (("problem", ("answer", "solution")), ("Problem", ("Answer", "Solution"))):
        answer = next((name for name in answers if name in names), None)
        if question in names and answer:
            aime = question == "Problem" or "year" in names or "aime" in source.dataset.lower()
            unread = ("solution", "Solution") if answer in ("answer", "Answer") else ()
            return _plain("aime" if aime else "math", question, answer, extra=unread)
    if names >= {"question", "answer"} and _is_number(str(first["answer"])):
        return _plain("svamp" if "svamp" in source.dataset.lower() else "qa", "question", "answer")
    raise DataError(
        f"The fields of {source.dataset} are not those of a known data set; name them with --question-field "
        f"and --answer-field. It has: {', '.join(first)}."
    )


def final_answer(text: str) -> str:
    r"""The answer that a worked solution ends in: what follows its last "####", else its last `\\boxed{}`.

    The whole text where it has neither.
    """
    marked = _FINAL.search(text[text.rfind("####") :]) if "####" in text else None
    if marked:
        return marked.group(1)
    return last_boxed(text) or text.strip()


def answer_text(value: object, where: str) -> str:
    """A field's value as text: whole floats without ".0". Raises DataError for an empty one or a list."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if value is None or isinstance(value, (list, dict)) or not str(value).strip():
        raise DataError(f"{where} is {value!r}, not text or a number; mend or remove the row.")
    return str(value).strip()


def with_choices(question: str, choices: object, where: str) -> str:
    """The question with its choices on lettered lines. Raises DataError for other than 2 to 10 choices."""
    if not isinstance(choices, (list, tuple)) or not 2 <= len(choices) <= len(LETTERS):
        raise DataError(f"{where} has {choices!r} for its choices, not a list of 2 to {len(LETTERS)}.")
    lines = [f"{letter}) {str(choice).strip()}" for letter, choice in zip(LETTERS, choices, strict=False)]
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


def _check_named(source: ProblemSource, first: Row) -> None:
    named = (source.question_field, source.answer_field, source.choices_field, source.id_field)
    for field in named:
        if field is not None and field not in first:
            raise DataError(f"{source.dataset} has no field {field!r}. It has: {', '.join(first)}.")


def _named(source: ProblemSource, first: Row) -> Schema:
    question = source.question_field or _first_of(_QUESTION_FIELDS, first, source.dataset, "--question-field")
    answer = source.answer_field or _first_of(_ANSWER_FIELDS, first, source.dataset, "--answer-field")
    if source.choices_field:
        return _choices("named", question, answer, source.choices_field)
    return _plain("named", question, answer, grader=None)


def _first_of(names: Sequence[str], first: Row, dataset: str, option: str) -> str:
    found = next((name for name in names if name in first), None)
    if found is None:
        raise DataError(f"Name the field with {option}: {dataset} has {', '.join(first)}.")
    return found


def _plain(
    name: str, question: str, answer: str, grader: str | None = "math", extra: tuple[str, ...] = ()
) -> Schema:
    """A schema whose query is one field. `extra` are fields that only repeat it, kept out of the metadata."""

    def text(row: Row, item: str) -> tuple[str, str]:
        query = answer_text(row.get(question), f"The field {question} of problem {item}")
        reference = answer_text(row.get(answer), f"The field {answer} of problem {item}")
        return query, final_answer(reference)

    return Schema(name, (question, answer, *extra), text, grader)


def _choices(name: str, question: str, answer: str, choices: str, extra: tuple[str, ...] = ()) -> Schema:
    """A schema whose query ends in lettered choices and whose reference is the letter."""

    def text(row: Row, item: str) -> tuple[str, str]:
        query = answer_text(row.get(question), f"The field {question} of problem {item}")
        listed = row.get(choices)
        query = with_choices(query, listed, f"Problem {item}")
        return query, _letter(row.get(answer), [str(choice).strip() for choice in listed or ()], item)

    return Schema(name, (question, answer, choices, *extra), text, "choice")


def _letter(value: object, choices: Sequence[str], item: str) -> str:
    """The letter of an answer given as an index from 0, a letter, or a choice's own text."""
    stated = answer_text(value, f"The answer of problem {item}")
    letters = LETTERS[: len(choices)]
    if stated in choices and not isinstance(value, int):
        return letters[choices.index(stated)]
    if stated.isdigit() and int(stated) < len(choices):
        return letters[int(stated)]
    letter = stated.strip("().").upper()
    if len(letter) == 1 and letter in letters:
        return letter
    raise DataError(
        f"The answer {stated!r} of problem {item} is not one of its {len(choices)} choices: give a letter, an "
        "index from 0, or the choice's text."
    )


def _gpqa_text(row: Row, item: str) -> tuple[str, str]:
    question, *choices = (
        answer_text(row.get(field), f"The field {field} of problem {item}") for field in _GPQA_FIELDS
    )
    order = list(range(len(choices)))
    random.Random(f"gpqa-{item}").shuffle(order)
    query = with_choices(question, [choices[index] for index in order], f"Problem {item}")
    return query, LETTERS[order.index(0)]


def _svamp_text(row: Row, item: str) -> tuple[str, str]:
    body, question, answer = (
        answer_text(row.get(field), f"The field {field} of problem {item}")
        for field in ("Body", "Question", "Answer")
    )
    stop = "" if body.endswith((".", "!", "?", ",")) else "."
    return f"{body}{stop} {question}", answer


def _is_number(text: str) -> bool:
    return re.fullmatch(r"\s*[-+]?[\d,]*\.?\d+\s*", text) is not None
