"""Problems from the rows of a file or of a data set on the hub."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

from pts.data_files import FileRow, id_text, text_fault
from pts.errors import DataError
from pts.graders.choice import LETTERS
from pts.problems.entry import Entry, value_at
from pts.problems.files import local_rows, looks_local
from pts.problems.hub import hub_rows
from pts.problems.schemas import Schema, detect_schema
from pts.problems.source import ProblemSet, ProblemSource
from pts.records import Problem
from pts.setting_names import setting

logger = logging.getLogger(__name__)

LONGEST_METADATA = 200
"""Characters of the longest text that is kept as metadata: solutions and passages are not."""

_ID_FIELDS = (
    *("id", "unique_id", "ID", "question_id", "problem_id", "task_id", "Record ID", "Id", "idx"),
    "uuid",
)


def read_problems(source: ProblemSource) -> ProblemSet:
    """The problems of a file, the hub, or a registered data set. Raises as `load_problems` does."""
    registered = source.registered
    if registered is not None:
        count, split = source.limit or registered.count, source.split or registered.search_split
        drawn = registered.draw(split, count, source.seed, source.levels)
        return ProblemSet(tuple(drawn), source.dataset, source.dataset, registered.grader)
    local = looks_local(source.dataset)
    rows = local_rows(source.dataset, source.split) if local else hub_rows(source)
    first = next(rows, None)
    if first is None:
        raise DataError(f"The data set {source.dataset} is empty; give another one.")
    schema = detect_schema(source, first.fields)
    id_field = source.id_field or next((field for field in _ID_FIELDS if field in first.fields), None)
    fit = _fit_rows(chain([first], rows), schema, source.dataset)
    kept = list(islice(fit, source.limit))
    if not kept:
        raise DataError(f"The data set {source.dataset} has no row that is a problem; give another one.")
    problems = tuple(_problem(row, index, schema, id_field, source.dataset) for index, row in kept)
    _check_ids(problems, [row for _, row in kept], source.dataset, id_field)
    name = Path(source.dataset).name if local else source.dataset
    return ProblemSet(problems, name, schema.name, schema.grader or fitting_grader(problems))


def fitting_grader(problems: Sequence[Problem]) -> str:
    """The grader for answers of no known shape: choice, math or exact where all are of its kind, else mixed."""
    answers = [problem.answer for problem in problems]
    if all(answer.strip("() ") in LETTERS and len(answer.strip("() ")) == 1 for answer in answers):
        return "choice"
    mathematical = [
        any(character.isdigit() or character in "\\$" for character in answer) for answer in answers
    ]
    if all(mathematical):
        return "math"
    return "mixed" if any(mathematical) else "exact"


def _fit_rows(rows: Iterable[FileRow], schema: Schema, dataset: str) -> Iterator[tuple[int, FileRow]]:
    """The rows that are problems, with their places from 0; a warning says where the first other one is."""
    unfit: list[str] = []
    for index, row in enumerate(rows):
        why = None if schema.unfit is None else schema.unfit(row.fields)
        if why is None:
            yield index, row
            continue
        unfit.append(f"{row.place}: {why}")
        if len(unfit) == 1:
            logger.warning(
                "%s: rows that the data set itself marks as unfit are left out (the first is %s).",
                dataset,
                unfit[0],
            )
    if unfit:
        logger.info("%s: %d rows were left out.", dataset, len(unfit))


def _problem(row: FileRow, index: int, schema: Schema, id_field: str | None, dataset: str) -> Problem:
    place, item = f"{dataset} {row.place}", str(index)
    if id_field is not None:
        item = id_text(value_at(row.fields, id_field), f"{place}: The field {id_field} of row {index}")
    query, answer = schema.text(Entry(row.fields, item, place))
    metadata: dict[str, str | int | float] = {}
    for field, value in row.fields.items():
        if field in schema.fields or field == id_field or not isinstance(value, (str, int, float)):
            continue
        if isinstance(value, str) and (len(value) > LONGEST_METADATA or text_fault(value) is not None):
            continue
        if not (isinstance(value, float) and not math.isfinite(value)):
            metadata[field] = value
    return Problem(item, query, answer, metadata)


def _check_ids(
    problems: Sequence[Problem], rows: Sequence[FileRow], dataset: str, id_field: str | None
) -> None:
    seen: dict[str, str] = {}
    for problem, row in zip(problems, rows, strict=True):
        if problem.id in seen:
            raise DataError(
                f"The id {problem.id!r} of field {id_field} occurs twice in {dataset} ({seen[problem.id]} and "
                f"{row.place}); make the ids unique, or name another field with {setting('id_field')}."
            )
        seen[problem.id] = row.place
