"""Which problems a run is about, and the problems once they are loaded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass

from pts.errors import ConfigError
from pts.records import Problem
from pts.registered import RegisteredDataset, registered_dataset


@dataclass(frozen=True, slots=True)
class ProblemSource:
    """Where problems come from, and under which field names.

    `dataset` is a .jsonl, .json, .csv or .parquet file, a directory written by `save_to_disk`, a hub id, or a
    registered name. The fields are found for the common data sets and need a name for others. `limit` keeps
    the first problems only. `seed` and `levels` are for registered data sets. Raises ConfigError for a
    setting that is out of range or that the source would not use.
    """

    dataset: str
    config: str | None = None
    split: str | None = None
    revision: str | None = None
    question_field: str | None = None
    answer_field: str | None = None
    id_field: str | None = None
    choices_field: str | None = None
    limit: int | None = None
    seed: int = 0
    levels: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if not self.dataset.strip():
            raise ConfigError("The data set has no name; give a file, a Hub id, or demo.")
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"The number of problems is {self.limit}; it must be at least 1.")
        if self.registered is None:
            return
        unused = ("config", "revision", "question_field", "answer_field", "id_field", "choices_field")
        given = [name for name in unused if getattr(self, name) is not None]
        if given:
            raise ConfigError(
                f"The {self.dataset} data set has no {given[0].replace('_', ' ')}; leave the option out."
            )

    @property
    def registered(self) -> RegisteredDataset | None:
        """The registered data set that the problems come from; None for a file or the hub."""
        return registered_dataset(self.dataset)


@dataclass(frozen=True, slots=True)
class ProblemSet:
    """Loaded problems, in the data set's order.

    `name` is what records call the data set, `schema` the known shape its fields have ("named" where none
    was known), `grader` the name of the grader that fits its answers.
    """

    problems: tuple[Problem, ...]
    name: str
    schema: str
    grader: str

    @property
    def digests(self) -> tuple[str, ...]:
        """`problem_digest` of each problem: a run that is extended compares these one by one."""
        return tuple(problem_digest(problem) for problem in self.problems)

    @property
    def fingerprint(self) -> str:
        """`fingerprint_of` all the problems."""
        return fingerprint_of(self.problems)


def problem_digest(problem: Problem) -> str:
    """SHA-256, in hex, of the problem's id, query and answer; metadata does not count."""
    return hashlib.sha256(json.dumps([problem.id, problem.query, problem.answer]).encode()).hexdigest()


def question_words(problem: Problem) -> str:
    """The query's words, however they are spaced: data sets hold one question under several ids."""
    return " ".join(problem.query.split())


def fingerprint_of(problems: Iterable[Problem]) -> str:
    """SHA-256, in hex, of the problems' digests in order.

    The first n problems of a longer list have the fingerprint that the list of n had.
    """
    chain = hashlib.sha256()
    for problem in problems:
        chain.update(bytes.fromhex(problem_digest(problem)))
    return chain.hexdigest()
