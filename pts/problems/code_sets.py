"""Data sets whose answers are programs: HumanEval, MBPP, and plain unit tests."""

from __future__ import annotations

from pts.data_files import Row
from pts.errors import GraderError
from pts.graders.code_tests import row_tests
from pts.problems.entry import Entry
from pts.problems.known_sets import KnownSet

_TASKS = ("prompt", "question", "text", "problem", "description", "instruction")
_TESTS = ("test", "test_list", "tests", "unit_tests", "test_cases", "input_output", "public_tests")
_REST = (
    *("entry_point", "canonical_solution", "code", "solution", "solutions", "test_setup_code", "test_imports"),
    *("challenge_test_list", "fn_name", "private_tests", "generated_tests"),
)


def code_set(first: Row) -> KnownSet | None:
    """A task with unit tests and no answer beside them; None where the first row is none."""
    tests = [field for field in _TESTS if first.get(field)]
    if "test" in tests and not first.get("entry_point"):
        tests.remove("test")
    task = next((field for field in _TASKS if isinstance(first.get(field), str)), None)
    if not tests or task is None or "answer" in first:
        return None

    def text(entry: Entry) -> tuple[str, str]:
        try:
            found = row_tests(entry.row)
        except GraderError as error:
            raise entry.failure(f"has tests that cannot be read ({error})") from error
        if found is None:
            raise entry.failure(f"has no tests in {tests[0]}")
        query = entry.text(task)
        if "test_list" in entry.row:  # MBPP names the function in its tests alone
            query = "\n".join([query, "Your code should pass these tests:", "", *found.tests])
        return query, found.to_answer()

    return KnownSet("code", (task, *_TESTS), text, "code", _REST)
