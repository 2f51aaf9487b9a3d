"""Problems from files, the hub, or a registered data set."""

from __future__ import annotations

from dataclasses import replace

from pts.problems.benchmarks import BENCHMARKS, benchmark_problems, search_source
from pts.problems.load import fitting_grader, read_problems
from pts.problems.source import (
    ProblemSet,
    ProblemSource,
    fingerprint_of,
    problem_digest,
    question_words,
)

__all__ = [
    "ProblemSet",
    "ProblemSource",
    "fingerprint_of",
    "fitting_grader",
    "load_problems",
    "problem_digest",
    "question_words",
]


def load_problems(source: ProblemSource) -> ProblemSet:
    """The problems of a source, in its order, with the grader that fits them.

    A name that pts knows (`pts.problems.benchmarks`) stands for its data set, of the split to search. Raises
    DataError, in one line, for a data set that is missing, empty or malformed, a field that is not there, an
    empty question or answer, and ids that repeat; ConfigError for a setting that does not apply.
    """
    benchmark = None if source.registered else BENCHMARKS.get(source.dataset)
    if benchmark is None:
        return read_problems(source)
    loaded = benchmark_problems(benchmark, search_source(benchmark, source))
    return loaded if loaded.schema == "named" else replace(loaded, grader=benchmark.grader)
