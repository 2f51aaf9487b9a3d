"""The named data sets as an evaluation knows them: `pts.problems.benchmarks`."""

from __future__ import annotations

from pts.problems.benchmarks import (
    BENCHMARKS,
    DEFAULT_BUDGET,
    Benchmark,
    benchmark_problems,
    benchmark_source,
    chance_level,
    find_benchmark,
)

__all__ = [
    "BENCHMARKS",
    "DEFAULT_BUDGET",
    "Benchmark",
    "benchmark_problems",
    "benchmark_source",
    "chance_level",
    "find_benchmark",
]
