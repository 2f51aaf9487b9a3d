"""Data sets with fields of their own: how each is asked and answered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pts.data_files import Row
from pts.problems.answers import all_answers, number_of, reference, same_answer, truth_value
from pts.problems.choices import (
    letter_at,
    letter_of,
    read_choices,
    read_columns,
    shuffled,
    with_choices,
)
from pts.problems.entry import Entry

LETTERED = tuple("ABCDEFGHIJ")
"""Names of columns with one choice each."""

Text = Callable[[Entry], tuple[str, str]]


@dataclass(frozen=True, slots=True)
class KnownSet:
    """A data set known by its `fields`. `text` gives (query, reference); `extra` only repeats or explains."""

    name: str
    fields: tuple[str, ...]
    text: Text
    grader: str | None
    extra: tuple[str, ...] = ()

    @classmethod
    def of_columns(cls, name: str, question: str, answer: str, columns: Sequence[str]) -> KnownSet:
        """A set with its choices in columns, and a letter for its answer."""

        def text(entry: Entry) -> tuple[str, str]:
            found = read_columns(entry, columns)
            query = with_choices(entry.text(question), found.texts)
            return query, letter_of(entry, answer, found, known=True)

        return cls(name, (question, answer, *columns), text, "choice")


def _indexed(question: Sequence[str], columns: Sequence[str], answer: str, first: int) -> Text:
    """The choices in columns, or in one list, and the answer an index that counts from `first`."""

    def text(entry: Entry) -> tuple[str, str]:
        asked = "\n".join(entry.text(field) for field in question)
        found = read_columns(entry, columns) if len(columns) > 1 else read_choices(entry, columns[0])
        return with_choices(asked, found.texts), letter_at(entry, answer, len(found.texts), first)

    return text


def _labelled(question: str) -> Text:
    """ARC and those that follow it: choices with labels, and the label of the right one."""

    def text(entry: Entry) -> tuple[str, str]:
        found = read_choices(entry, "choices")
        return with_choices(entry.text(question), found.texts), letter_of(entry, "answerKey", found, known=True)

    return text


def nested_set(first: Row) -> KnownSet | None:
    """ARC and CommonsenseQA as first published: the stem and the choices inside `question`."""
    question = first.get("question")
    if "answerKey" not in first or not isinstance(question, dict) or not {"stem", "choices"} <= set(question):
        return None

    def text(entry: Entry) -> tuple[str, str]:
        found = read_choices(entry, "question.choices")
        query = with_choices(entry.text("question.stem"), found.texts)
        return query, letter_of(entry, "answerKey", found, known=True)

    return KnownSet("arc", ("question", "answerKey"), text, "choice")


def _sciq(entry: Entry) -> tuple[str, str]:
    wrong = [entry.text(f"distractor{number}") for number in (1, 2, 3)]
    return shuffled(entry, entry.text("question"), entry.text("correct_answer"), wrong, "sciq")


def _truthful(entry: Entry) -> tuple[str, str]:
    """TruthfulQA's single-answer targets; the right one is first in every row, so they are shuffled."""
    choices, labels = entry.items("mc1_targets.choices"), entry.items("mc1_targets.labels")
    if (
        choices is None
        or labels is None
        or len(choices) != len(labels)
        or list(map(str, labels)).count("1") != 1
    ):
        raise entry.failure("has no mc1_targets with a label for each choice, one of them 1")
    at = list(map(str, labels)).index("1")
    wrong = [choice for place, choice in enumerate(choices) if place != at]
    return shuffled(entry, entry.text("question"), choices[at], wrong, "truthfulqa")


def yes_no_set(first: Row) -> KnownSet | None:
    """BoolQ and its like: a passage, a question and a truth value; None where the first row is none of it."""
    answer = "answer" if "answer" in first else "label"
    if not {"question", "passage", answer} <= set(first):
        return None
    truth = str(first[answer]).strip().casefold()
    if truth not in ("true", "false", "yes", "no") and not (
        answer == "label" and truth in ("0", "1", "0.0", "1.0")
    ):
        return None

    def text(entry: Entry) -> tuple[str, str]:
        return f"{entry.text('passage')}\n\n{entry.text('question')}", truth_value(entry, answer)

    return KnownSet("boolq", ("question", "passage", answer), text, "exact")


def _svamp(entry: Entry) -> tuple[str, str]:
    body, question = entry.text("Body"), entry.text("Question")
    stop = "" if body.endswith((".", "!", "?", ",")) else "."
    return f"{body}{stop} {question}", entry.text("Answer")


def _asdiv(entry: Entry) -> tuple[str, str]:
    return f"{entry.text('body')} {entry.text('question')}", number_of(entry, "answer")


def _olympiad(entry: Entry) -> tuple[str, str]:
    """A question, with the context that some rows have, and all of its final answers."""
    context = [entry.text("context")] if entry.has_text("context") else []
    return "\n\n".join([*context, entry.text("question")]), all_answers(entry, "final_answer")


def _spans(field: str, inner: str) -> Text:
    """A passage, and the spans that annotators accept."""

    def text(entry: Entry) -> tuple[str, str]:
        passage = "passage" if "passage" in entry.row else "context"
        accepted: Any = entry.items(f"{field}.{inner}")
        if accepted is None:
            raise entry.failure(f"has no list in {field}.{inner}")
        query = f"{entry.text(passage)}\n\n{entry.text('question')}"
        return query, same_answer(entry, f"{field}.{inner}", accepted)

    return text


def _copa(entry: Entry) -> tuple[str, str]:
    """What happened, and whether its cause or its effect is asked for."""
    asked = {"cause": "What was the cause?", "effect": "What happened as a result?"}.get(entry.text("question"))
    if asked is None:
        raise entry.failure("asks for neither cause nor effect")
    found = read_columns(entry, ["choice1", "choice2"])
    return with_choices(f"{entry.text('premise')} {asked}", found.texts), letter_at(entry, "label", 2)


def _pubmed(entry: Entry) -> tuple[str, str]:
    passages = entry.items("context.contexts") or []
    return "\n\n".join([*map(str, passages), entry.text("question")]), entry.text("final_decision")


def _plain(question: str, answer: str, read: Callable[[Entry, str], str] = reference) -> Text:
    def text(entry: Entry) -> tuple[str, str]:
        return entry.text(question), read(entry, answer)

    return text


_MEDMCQA = ("opa", "opb", "opc", "opd")
_SIQA = ("answerA", "answerB", "answerC")
_SWAG = ("ending0", "ending1", "ending2", "ending3")
_STORY = ("input_sentence_1", "input_sentence_2", "input_sentence_3", "input_sentence_4")
_COSMOS = ("answer0", "answer1", "answer2", "answer3")

KNOWN_SETS: tuple[KnownSet, ...] = (
    KnownSet("openbookqa", ("question_stem", "choices", "answerKey"), _labelled("question_stem"), "choice"),
    KnownSet(
        "piqa",
        ("goal", "sol1", "sol2", "label"),
        _indexed(["goal"], ["sol1", "sol2"], "label", 0),
        "choice",
    ),
    KnownSet(
        "hellaswag",
        ("ctx", "endings", "label"),
        _indexed(["ctx"], ["endings"], "label", 0),
        "choice",
        ("ctx_a", "ctx_b"),
    ),
    KnownSet(
        "winogrande",
        ("sentence", "option1", "option2", "answer"),
        _indexed(["sentence"], ["option1", "option2"], "answer", 1),
        "choice",
    ),
    KnownSet(
        "siqa",
        ("context", "question", *_SIQA, "label"),
        _indexed(["context", "question"], _SIQA, "label", 1),
        "choice",
    ),
    KnownSet(
        "cosmosqa",
        ("context", "question", *_COSMOS, "label"),
        _indexed(["context", "question"], _COSMOS, "label", 0),
        "choice",
    ),
    KnownSet(
        "medmcqa",
        ("question", *_MEDMCQA, "cop"),
        _indexed(["question"], _MEDMCQA, "cop", 0),
        "choice",
        ("exp",),
    ),
    KnownSet("copa", ("premise", "choice1", "choice2", "question", "label"), _copa, "choice"),
    KnownSet(
        "swag",
        ("startphrase", *_SWAG, "label"),
        _indexed(["startphrase"], _SWAG, "label", 0),
        "choice",
        ("sent1", "sent2", "gold-source"),
    ),
    KnownSet(
        "storycloze",
        (*_STORY, "sentence_quiz1", "sentence_quiz2", "answer_right_ending"),
        _indexed(_STORY, ["sentence_quiz1", "sentence_quiz2"], "answer_right_ending", 1),
        "choice",
    ),
    KnownSet(
        "reclor",
        ("context", "question", "answers", "label", "id_string"),
        _indexed(["context", "question"], ["answers"], "label", 0),
        "choice",
    ),
    KnownSet("mgsm", ("question", "answer_number"), _plain("question", "answer_number"), "math", ("answer",)),
    KnownSet("pubmedqa", ("question", "context", "final_decision"), _pubmed, "exact", ("long_answer",)),
    KnownSet("truthfulqa", ("question", "mc1_targets"), _truthful, "choice", ("mc2_targets",)),
    KnownSet(
        "sciq",
        ("question", "correct_answer", "distractor1", "distractor2", "distractor3"),
        _sciq,
        "choice",
        ("support",),
    ),
    KnownSet(
        "svamp",
        ("question_concat", "Answer"),
        _plain("question_concat", "Answer"),
        "math",
        ("Body", "Question"),
    ),
    KnownSet("svamp", ("Body", "Question", "Answer"), _svamp, "math"),
    KnownSet("asdiv", ("body", "question", "answer"), _asdiv, "math"),
    KnownSet("multiarith", ("sQuestion", "lSolutions"), _plain("sQuestion", "lSolutions", all_answers), "math"),
    KnownSet("final-answer", ("question", "final_answer"), _olympiad, "math", ("solution", "context")),
    KnownSet("drop", ("passage", "question", "answers_spans"), _spans("answers_spans", "spans"), None),
    KnownSet("squad", ("context", "question", "answers"), _spans("answers", "text"), None),
)
"""Tried in this order, before the shapes that many data sets share."""
