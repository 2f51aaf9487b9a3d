"""Data sets by name: where each is, how its answers are asked for and graded, and what guessing scores."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pts.errors import ConfigError
from pts.problems.choices import count_choices
from pts.problems.files import looks_local
from pts.problems.load import read_problems
from pts.problems.source import ProblemSet, ProblemSource
from pts.records import Problem
from pts.seeds import derive_seed

_BOXED = r"Please reason step by step, and put your final answer within \boxed{}."
_LETTER = r"Please reason step by step, and put the letter of your choice within \boxed{}."

DEFAULT_BUDGET = 2048
"""Total new tokens of an answer where neither the user nor a benchmark says."""


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A data set by its name.

    `dataset`, `config` and `split` are the Hub's; a search draws from `search_split`, where there is one, so
    that what it finds can be evaluated on other problems. `suffix` is the instruction after each question in an
    evaluation, `grader` the name of its grader, `budget` the total of new tokens that is its default,
    `problems` how many are (None: all). With `mixed` the first n problems are n of all subjects, not those of
    the first one.
    """

    name: str
    dataset: str
    config: str | None
    split: str
    suffix: str | None
    grader: str
    budget: int
    problems: int | None = None
    mixed: bool = False
    search_split: str | None = None


BENCHMARKS: Mapping[str, Benchmark] = {
    entry.name: entry
    for entry in (
        Benchmark("demo", "demo", None, "test", None, "demo", 96, problems=200),
        Benchmark("gsm8k", "openai/gsm8k", "main", "test", _BOXED, "math", 2048, search_split="train"),
        Benchmark("math500", "HuggingFaceH4/MATH-500", None, "test", _BOXED, "math", 4096),
        Benchmark("aime24", "HuggingFaceH4/aime_2024", None, "train", _BOXED, "math", 16384),
        Benchmark("gpqa-diamond", "Idavidrein/gpqa", "gpqa_diamond", "train", _LETTER, "choice", 8192),
        Benchmark(
            "mmlu", "cais/mmlu", "all", "test", _LETTER, "choice", 2048, mixed=True, search_split="validation"
        ),
        Benchmark(
            "mmlu-pro",
            "TIGER-Lab/MMLU-Pro",
            None,
            "test",
            _LETTER,
            "choice",
            4096,
            mixed=True,
            search_split="validation",
        ),
        Benchmark("svamp", "ChilleD/SVAMP", None, "test", _BOXED, "math", 1024, search_split="train"),
    )
}


def find_benchmark(name: str) -> Benchmark | None:
    """The benchmark of that name; None for a file or a hub id.

    Raises ConfigError for a bare word that is neither, with the nearest name.
    """
    if name in BENCHMARKS:
        return BENCHMARKS[name]
    if "/" in name or looks_local(name):
        return None
    near = difflib.get_close_matches(name, BENCHMARKS, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(BENCHMARKS)}."
    raise ConfigError(f"there is no data set {name!r}, and no file of that name: {hint}")


def benchmark_source(benchmark: Benchmark, data: str | None, given: ProblemSource) -> ProblemSource:
    """Where the problems are: `data`, a file of the same schema, or what `given` says, or the Hub's own."""
    if data is not None:
        return replace(given, dataset=data)
    return _on_hub(benchmark, given, benchmark.split)


def search_source(benchmark: Benchmark, given: ProblemSource) -> ProblemSource:
    """Where a search by a benchmark's name finds its problems: the split to search, if `given` has none."""
    return _on_hub(benchmark, given, benchmark.search_split or benchmark.split)


def meaning_of_name(given: ProblemSource) -> str | None:
    """What a benchmark's name stands for in a search, as a sentence; None for any other data set."""
    benchmark = None if given.registered else BENCHMARKS.get(given.dataset)
    if benchmark is None:
        return None
    source = search_source(benchmark, given)
    config = "" if source.config is None else f", configuration {source.config}"
    meaning = (
        f"{benchmark.name} is {source.dataset}{config}, split {source.split}, graded by {benchmark.grader}"
    )
    if source.split == benchmark.split:
        return f"{meaning}; pts eval uses this split too, so evaluate what is found here on other problems."
    return f"{meaning}; pts eval uses the split {benchmark.split}."


def _on_hub(benchmark: Benchmark, given: ProblemSource, split: str) -> ProblemSource:
    return replace(
        given,
        dataset=benchmark.dataset,
        config=given.config or benchmark.config,
        split=given.split or split,
    )


def benchmark_problems(benchmark: Benchmark | None, source: ProblemSource) -> ProblemSet:
    """The problems of a source; of a mixed benchmark, the first `limit` in an order that mixes its subjects.

    The order is of the problems' ids alone, so more problems begin with the fewer. Raises as `load_problems`.
    """
    if benchmark is None or not benchmark.mixed:
        return read_problems(source)
    every = read_problems(replace(source, limit=None))
    mixed = sorted(every.problems, key=lambda problem: derive_seed(0, "mixed", problem.id))
    return replace(every, problems=tuple(mixed[: source.limit]))


def chance_level(problems: Sequence[Problem], grader: str) -> float | None:
    """The success of guessing: the mean of 1 / choices over problems with choices; None for free answers."""
    if grader != "choice":
        return None
    counts = [count_choices(problem.query) for problem in problems]
    return None if 0 in counts or not counts else sum(1 / count for count in counts) / len(counts)
