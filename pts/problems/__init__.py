"""Problems from files, the hub, or the demo generator."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from pts.errors import DataError
from pts.problems.files import Row, looks_local, read_local
from pts.problems.hub import read_hub
from pts.problems.schemas import Schema, answer_text, detect_schema
from pts.problems.source import (
    DEMO,
    DEMO_PROBLEMS,
    ProblemSet,
    ProblemSource,
    fingerprint_of,
    problem_digest,
    question_words,
)
from pts.records import Problem

__all__ = [
    "ProblemSet",
    "ProblemSource",
    "fingerprint_of",
    "load_problems",
    "problem_digest",
    "question_words",
]

LONGEST_METADATA = 200
"""Characters of the longest text that is kept as metadata: solutions and passages are not."""

_ID_FIELDS = ("id", "unique_id", "ID", "question_id", "problem_id", "task_id", "Record ID", "Id", "idx")


def load_problems(source: ProblemSource) -> ProblemSet:
    """The problems of a source, in its order, with the grader that fits them.

    Raises DataError, in one line, for a data set that is missing, empty or malformed, a field that is not
    there, an empty question or answer, and ids that repeat; ConfigError for a setting that does not apply.
    """
    if source.is_demo:
        return _demo(source)
    local = looks_local(source.dataset)
    rows = read_local(source.dataset, source.split, source.limit) if local else read_hub(source)
    if not rows:
        raise DataError(f"The data set {source.dataset} is empty; give one with problems in it.")
    schema = detect_schema(source, rows)
    id_field = source.id_field or next((field for field in _ID_FIELDS if field in rows[0]), None)
    problems = tuple(_problem(row, index, schema, id_field) for index, row in enumerate(rows))
    _check_ids(problems, source, id_field)
    name = Path(source.dataset).name if local else source.dataset
    return ProblemSet(problems, name, schema.name, schema.grader or fitting_grader(problems))


def fitting_grader(problems: Sequence[Problem]) -> str:
    """The grader for answers of no known shape: choice, math or exact where all are of its kind, else mixed."""
    answers = [problem.answer for problem in problems]
    if all(re.fullmatch(r"\(?[A-J]\)?", answer) for answer in answers):
        return "choice"
    mathematical = [re.search(r"[\d\\$]", answer) is not None for answer in answers]
    if all(mathematical):
        return "math"
    return "mixed" if any(mathematical) else "exact"


def _demo(source: ProblemSource) -> ProblemSet:
    from pts.demo.expressions import Split
    from pts.demo.problems import demo_problems

    split = cast(Split, source.split or "train")  # demo_problems refuses an unknown one
    problems = demo_problems(split, source.limit or DEMO_PROBLEMS, source.seed, source.levels)
    return ProblemSet(tuple(problems), DEMO, "demo", "demo")


def _problem(row: Row, index: int, schema: Schema, id_field: str | None) -> Problem:
    item = str(index)
    if id_field is not None:
        item = answer_text(row.get(id_field), f"The field {id_field} of row {index}")
    query, answer = schema.text(row, item)
    metadata: dict[str, str | int | float] = {}
    for field, value in row.items():
        if field in schema.fields or field == id_field or not isinstance(value, (str, int, float)):
            continue
        long = isinstance(value, str) and len(value) > LONGEST_METADATA
        if not long and not (isinstance(value, float) and math.isnan(value)):
            metadata[field] = value
    return Problem(item, query, answer, metadata)


def _check_ids(problems: Sequence[Problem], source: ProblemSource, id_field: str | None) -> None:
    seen: set[str] = set()
    for problem in problems:
        if problem.id in seen:
            raise DataError(
                f"The id {problem.id!r} of field {id_field} occurs twice in {source.dataset}; make the ids "
                "unique, or name another field with --id-field."
            )
        seen.add(problem.id)
