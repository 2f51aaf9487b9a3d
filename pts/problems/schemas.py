"""The shape of a data set: which fields hold the question, the answer and the choices."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pts.data_files import Row
from pts.errors import DataError
from pts.problems.answers import no_answer, reference, worked_answer
from pts.problems.choices import (
    letter_of,
    read_choices,
    require_agreement,
    shuffled,
    with_choices,
)
from pts.problems.code_sets import code_set
from pts.problems.entry import Entry, value_at
from pts.problems.known_sets import KNOWN_SETS, LETTERED, KnownSet, nested_set, yes_no_set
from pts.problems.source import ProblemSource
from pts.setting_names import setting

_GPQA_FIELDS = ("Question", "Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")
_QUESTION_TEXTS = ("question", "problem", "Question", "Problem", "query")
_QUESTIONS = (*_QUESTION_TEXTS, "prompt")
_ANSWERS = ("answer", "Answer", "solution", "Solution")
_CHOICE_ANSWERS = (
    *("answer", "answerKey", "correct", "correct_option", "answer_idx", "label", "Answer"),
    *("correct_answer", "answer_letter"),
)
_PLAIN_PAIRS = (
    ("question", "answer"),
    ("Question", "Answer"),
    ("query", "answer"),
    ("question", "Answer"),
    ("question", "final_ans"),
    ("problem", "expected_answer"),
    ("question", "expected_answer"),
    ("input", "target"),
)
_PASSAGES = ("passage", "context", "article")
_SECOND_ANSWERS = ("answer_index", "answer_idx", "answer_letter")


@dataclass(frozen=True, slots=True)
class Schema:
    """How to read one row. `text` gives (query, reference answer), or raises DataError.

    `fields` are those that `text` reads or that repeat it; `grader` is None where the answers themselves must
    tell. `unfit` says why a row is no problem at all, None where it is one.
    """

    name: str
    fields: tuple[str, ...]
    text: Callable[[Entry], tuple[str, str]]
    grader: str | None
    unfit: Callable[[Row], str | None] | None = None


def detect_schema(source: ProblemSource, first: Row) -> Schema:
    """The schema that the source names, or that its first row shows.

    Raises DataError, with the fields that are there, for a named field that is not and for unknown shapes.
    """
    names = set(first)
    _check_named(source, first)
    if source.question_field or source.answer_field or source.choices_field:
        return _named(source, first)
    if names >= set(_GPQA_FIELDS):
        return Schema("gpqa", _GPQA_FIELDS, _gpqa_text, "choice")
    for known in KNOWN_SETS:
        if names >= set(known.fields):
            return _of_known(known)
    special = nested_set(first) or code_set(first)
    if special is not None:
        return _of_known(special)
    found = _choice_set(first) or _lettered(names)
    if found is not None:
        return found
    two = two_questions(first)
    if two is not None:
        raise DataError(
            f"{source.dataset} has two fields that could be the question, {two[0]} and {two[1]}; name the one "
            f"to ask with {setting('question_field')}."
        )
    yes_no = yes_no_set(first)
    found = _of_known(yes_no) if yes_no is not None else _free_answers(source, first)
    if found is not None:
        return found
    raise DataError(
        f"The fields of {source.dataset} are not those of a known data set: name them with "
        f"{setting('question_field')} and {setting('answer_field')}. Its fields are: "
        f"{', '.join(first)}."
    )


def two_questions(row: Row) -> tuple[str, str] | None:
    """Two known fields with different questions; None where there is one, or one only words the other anew.

    A field whose text holds the other's, such as the question with an instruction, says the same.
    """
    texts = {name: " ".join(text.split()) for name in _QUESTION_TEXTS if isinstance(text := row.get(name), str)}
    named = [(name, text) for name, text in texts.items() if text]
    for at, (name, text) in enumerate(named):
        for other, another in named[at + 1 :]:
            if text not in another and another not in text:
                return name, other
    return None


def _choice_set(first: Row) -> Schema | None:
    """A question with a list of choices and an answer, in one of the names that they have."""
    names = set(first)
    question = next((name for name in ("question", "query", "Question") if name in names), None)
    choices = next((name for name in ("options", "choices") if name in names), None)
    answers = [name for name in _CHOICE_ANSWERS if name in names]
    answer = next((name for name in answers if first[name] is not None), next(iter(answers), None))
    if question is None or choices is None or answer is None:
        return None
    name = {
        ("question", "options", "answer"): "mmlu-pro",
        ("question", "choices", "answer"): "mmlu",
        ("question", "choices", "answerKey"): "arc",
    }.get((question, choices, answer), "choices")
    logiqa = ("text",) if names >= {"text", "type", "options"} else ()
    passages = tuple(passage for passage in (*_PASSAGES, *logiqa) if passage in names)
    unfit = None
    if {"error_type", "correct_answer"} <= names:
        name, unfit = "mmlu-redux", _redux_fault
    return _choices(name, question, answer, choices, passages, known=True, unfit=unfit)


def _lettered(names: set[str]) -> Schema | None:
    """A question with its choices in columns A, B, C, ..., as many translations of MMLU have them."""
    question = next((name for name in ("question", "Question", "input") if name in names), None)
    answer = next((name for name in ("answer", "Answer", "target") if name in names), None)
    columns = [letter for letter in LETTERED if letter in names]
    if question is None or answer is None or columns != list(LETTERED[: len(columns)]) or len(columns) < 2:
        return None
    return _of_known(KnownSet.of_columns("mmlu-columns", question, answer, columns))


def _free_answers(source: ProblemSource, first: Row) -> Schema | None:
    """A question with an answer of its own words."""
    names = set(first)
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
    for question, answer in _PLAIN_PAIRS:
        if question in names and answer in names:
            number = _is_number(str(first[answer]))
            name = "svamp" if number and "svamp" in source.dataset.lower() else "qa"
            passages = tuple(passage for passage in _PASSAGES if passage in names)
            return _plain(name, question, answer, "math" if number else None, passages=passages)
    return None


def _check_named(source: ProblemSource, first: Row) -> None:
    named = (source.question_field, source.answer_field, source.choices_field, source.id_field)
    for field in named:
        if field is not None and field not in first and value_at(first, field) is None:
            raise DataError(f"{source.dataset} has no field {field!r}. Its fields are: {', '.join(first)}.")


def _named(source: ProblemSource, first: Row) -> Schema:
    question = source.question_field or _first_of(_QUESTIONS, first, source.dataset, setting("question_field"))
    answer = source.answer_field or _first_of(_ANSWERS, first, source.dataset, setting("answer_field"))
    if source.choices_field:
        return _choices("named", question, answer, source.choices_field, (), known=False)
    return _plain("named", question, answer, grader=None)


def _first_of(names: Sequence[str], first: Row, dataset: str, option: str) -> str:
    found = next((name for name in names if name in first), None)
    if found is None:
        raise DataError(f"Name the field with {option}: {dataset} has {', '.join(first)}.")
    return found


def _plain(
    name: str,
    question: str,
    answer: str,
    grader: str | None = "math",
    extra: tuple[str, ...] = (),
    passages: tuple[str, ...] = (),
) -> Schema:
    """A schema whose query is one field, after passages where there are any. `extra` is no metadata."""
    read = worked_answer if answer in ("solution", "Solution") and name != "named" else reference

    def text(entry: Entry) -> tuple[str, str]:
        before = [entry.text(passage) for passage in passages if entry.has_text(passage)]
        return "\n\n".join([*before, entry.text(question)]), read(entry, answer)

    unfit = no_answer if answer == "answer" and name != "named" else None
    return Schema(name, (question, answer, *extra, *passages), text, grader, unfit)


def _choices(
    name: str,
    question: str,
    answer: str,
    choices: str,
    passages: tuple[str, ...],
    known: bool,
    unfit: Callable[[Row], str | None] | None = None,
) -> Schema:
    """A schema whose query ends in lettered choices and whose reference is the letter."""
    others = tuple(field for field in _SECOND_ANSWERS if field != answer)

    def text(entry: Entry) -> tuple[str, str]:
        before = [entry.text(passage) for passage in passages if entry.has_text(passage)]
        asked = "\n\n".join([*before, entry.text(question)])
        found = read_choices(entry, choices)
        letter = letter_of(entry, answer, found, known)
        for field in others if known else ():
            require_agreement(entry, letter, field, found)
        return with_choices(asked, found.texts), letter

    return Schema(name, (question, answer, choices, *passages, *others), text, "choice", unfit)


def _of_known(known: KnownSet) -> Schema:
    return Schema(known.name, (*known.fields, *known.extra), known.text, known.grader)


def _redux_fault(row: Row) -> str | None:
    """MMLU-Redux says which questions of MMLU are wrong, in themselves or in their answer."""
    kind = row.get("error_type")
    return None if kind is None or str(kind).casefold() in ("ok", "") else f"error_type {kind}"


def _gpqa_text(entry: Entry) -> tuple[str, str]:
    question, right, *wrong = (entry.text(field) for field in _GPQA_FIELDS)
    return shuffled(entry, question, right, wrong, "gpqa")


def _is_number(text: str) -> bool:
    return re.fullmatch(r"\s*[-+]?[\d,]*\.?\d+\s*", text) is not None
