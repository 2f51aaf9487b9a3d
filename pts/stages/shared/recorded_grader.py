"""Which grader judges a run's answers: once a run has begun it is the same for good."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pts.errors import GraderError
from pts.records import Problem
from pts.setting_names import setting

if TYPE_CHECKING:
    from pts.graders import Grader
    from pts.runs.manifest import Manifest


def graded_by(given: str | None, earlier: Manifest | None, fitting: str) -> str:
    """The grader's name: the one given, else the one that an earlier session recorded, else what fits the data.

    What fits is inferred from the answers that were read: with more of them it may be another. Raises
    GraderError where that is the grader of programs, which runs what the model writes: it is asked for by name.
    """
    recorded = None if earlier is None else earlier.resolved.get("grader")
    if given is None and not isinstance(recorded, str) and fitting == "code":
        raise GraderError(
            f"the answers of this data set are unit tests: give {setting('grader', 'code')}, which runs "
            "the programs that the "
            "model writes, in a sandbox."
        )
    return given or (recorded if isinstance(recorded, str) else fitting)


def check_references(
    grader: Grader, problems: Iterable[Problem], earlier: Manifest | None = None, name: str = ""
) -> None:
    """Raise GraderError for a reference answer that the grader cannot read, `name` being that of the run."""
    for problem in problems:
        try:
            grader.check_reference(problem.answer)
        except GraderError as error:
            if earlier is None:
                raise
            raise GraderError(
                f"{error} (The run goes on with the grader that it recorded, {name}: keep to the problems that "
                f"it reads, or start again with another {setting('output')} or {setting('fresh', True)}.)"
            ) from error
