"""Problems as a user has them in Python: a name, a file, or a list of questions with answers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from pts.errors import DataError
from pts.records import Problem
from pts.runs.files import make_directories, replace_text

Problems: TypeAlias = "str | Path | Sequence[Problem | tuple[str, str] | Mapping[str, str]]"


def dataset_of(problems: Problems, folder: Path) -> str:
    """A stage's `dataset` for these problems: the name or file that was given, or a file made of a list.

    A list is written to `folder`, as JSON Lines under a name made of its content: the run that reads it can be
    continued, by the command line too. Raises DataError for an entry that is no question with its answer.
    """
    if isinstance(problems, str | Path):
        return str(problems)
    given: object = problems
    if isinstance(given, int):
        raise DataError(
            f"problems is {given}; give a name, a file, or a list of (question, answer). The maximum number of "
            f"problems is limit={given}."
        )
    if not isinstance(given, Sequence):
        raise DataError(
            f"problems is {type(given).__name__}; give a name, a file, or a list of (question, answer)."
        )
    lines = [json.dumps(_entry(number, problem), ensure_ascii=False) for number, problem in enumerate(problems)]
    if not lines:
        raise DataError("there are no problems: give at least one (question, answer).")
    text = "".join(f"{line}\n" for line in lines)
    path = folder / f"problems-{hashlib.sha256(text.encode()).hexdigest()[:12]}.jsonl"
    if not path.exists():
        make_directories(folder)
        replace_text(path, text)
    return str(path)


def _entry(number: int, problem: Any) -> dict[str, str]:
    if isinstance(problem, Problem):
        return {"id": problem.id, "question": problem.query, "answer": problem.answer}
    if isinstance(problem, Mapping) and {"question", "answer"} <= set(problem):
        found = {key: problem[key] for key in ("id", "question", "answer") if key in problem}
    elif isinstance(problem, Sequence) and not isinstance(problem, str) and len(problem) == 2:
        found = dict(zip(("question", "answer"), problem, strict=True))
    else:
        raise DataError(
            f"problem {number} is {str(problem)[:60]!r}; give (question, answer), or a dictionary with "
            "question and answer."
        )
    empty = next((key for key in ("question", "answer") if found[key] in (None, "")), None)
    if empty is not None:
        raise DataError(f"problem {number} has no {empty}: give a question and its answer as text.")
    return {key: str(value) for key, value in {"id": number, **found}.items()}
