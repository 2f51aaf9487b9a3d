"""Error rates, recall, bias, coverage and cost of the search, beside bisection with 10, 50 and 200 samples.

    python benchmarks/search_quality.py [--quick] [--traces 90] [--demo-traces 120]

(a) On tabular policies of several shapes (`shapes.py`), whose values are exact. (b) On the demo model, over
traces of its one- to three-step problems whose values are certified (`certified.py`). All methods search the
same traces, of prompts whose value is between 0.25 and 0.75 (0.2 and 0.8 on the demo model). False discoveries
are controlled over the traces of a shape, as over a run. Tokens are all that a method generated for a trace,
the range filter's and the confirmation's included, without an audit. The last line of the output is
one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import numpy as np
from bisection import bisect
from quality import THRESHOLD, Estimate, Searched, figures
from shapes import SHAPES, policy_in_range

from pts.pivot_search import Grade, SearchConfig, effect_interval, search_problems, select_findings
from pts.policies.protocol import Policy
from pts.policies.tabular import TabularPolicy
from pts.records import Problem, Sampling, TokenIds

OURS = "pts"
METHODS = {OURS: 0, "bisection-10": 10, "bisection-50": 50, "bisection-200": 200}
"""Samples a node of each method; ours has no such number."""
LEVEL = 0.95
"""Of the intervals of all confirmed candidates; those of the reported are the search's own."""

Case = tuple[Problem, Policy, Sampling, Grade, TokenIds, tuple[float, ...]]
"""A problem with its policy, its sampler, its grader, the trace to search and the trace's exact effects."""


def search_cases(cases: Sequence[Case], method: str, seed: int) -> list[Searched]:
    """What a method makes of each case; ours over all of them as one run."""
    if method == OURS:
        return search_as_run(cases, seed)
    searched = []
    for index, (problem, policy, sampling, grade, trace, effects) in enumerate(cases):
        prompt = policy.encode(problem)
        found = bisect(
            policy,
            sampling,
            grade,
            problem.answer,
            prompt,
            trace,
            METHODS[method],
            THRESHOLD,
            1000 * seed + index,
        )
        reported = tuple(Estimate(position, delta) for position, delta in found.reported)
        searched.append(Searched(effects, reported, found.tokens))
    return searched


def search_as_run(cases: Sequence[Case], seed: int) -> list[Searched]:
    """Our search of the cases, its findings selected over all."""
    # The range is the benchmark's own choice of cases, so the filter stops at its first look. The audit is an
    # addition to the search with a benchmark of its own (`audit.py`): none here.
    config = SearchConfig(threshold=THRESHOLD, value_range=(0.0, 1.0), audit=0.0, seed=seed)
    results = []
    for problem, policy, sampling, grade, trace, _ in cases:
        (result,) = search_problems(
            [problem],
            policy,
            grade,
            replace(config, sampling=sampling),
            given_traces={problem.id: [trace]},
        )
        results.append(result)
    findings = select_findings(results, config.fdr)
    searched = []
    for result, (*_, effects) in zip(results, cases, strict=True):
        reported = tuple(
            Estimate(f.candidate.position, f.candidate.delta, f.ci_low, f.ci_high)
            for f in findings
            if f.problem.problem_id == result.problem_id
        )
        confirmed = tuple(Estimate(c.position, c.delta, *effect_interval(c, LEVEL)) for c in result.candidates)
        searched.append(Searched(effects, reported, result.tokens_generated, confirmed))
    return searched


def tabular_cases(shape: str, count: int, seed: int) -> list[Case]:
    """`count` policies of a shape with their traces and exact effects."""
    rng = np.random.default_rng([seed, list(SHAPES).index(shape)])
    cases: list[Case] = []
    for index in range(count):
        cases.append(tabular_case(f"{shape}-{index}", *policy_in_range(SHAPES[shape], rng)))
    return cases


def tabular_case(name: str, policy: TabularPolicy, trace: TokenIds) -> Case:
    """A trace of a tabular policy with its exact effects."""
    effects = tuple(np.diff(policy.values_along(trace)).tolist())
    return Problem(name, "q", "a"), policy, Sampling(budget=policy.budget), policy.grade, trace, effects


def tabular_task(task: tuple[str, str, int, int]) -> tuple[str, str, list[Searched]]:
    """One shape by one method, in a process of its own."""
    shape, method, count, seed = task
    return shape, method, search_cases(tabular_cases(shape, count, seed), method, seed)


def demo_task(task: tuple[int, int]) -> tuple[dict[str, list[Searched]], float]:
    """Every method on the demo model, and the largest mass that the certified values leave unexplored."""
    import demo_cases

    count, seed = task
    cases, unexplored = demo_cases.certified_cases(count, seed)
    return {method: search_cases(cases, method, seed) for method in METHODS}, unexplored


def keys(by_method: dict[str, list[Searched]], prefix: str = "") -> dict[str, float]:
    """Our figures, and the cost beside bisection with 50 samples."""
    ours, theirs = figures(by_method[OURS]), figures(by_method["bisection-50"])
    ours["tokens_vs_bisect50"] = ours["tokens_per_trace"] / theirs["tokens_per_trace"]
    ours["find_cost_vs_bisect50"] = ours["tokens_per_find"] / theirs["tokens_per_find"]
    return {prefix + name: rounded(value) for name, value in ours.items()}


def rounded(value: float) -> float:
    """Four decimals of a rate, whole tokens."""
    return round(value, 4) if abs(value) < 100 else round(value)


COLUMNS = [
    "traces",
    "reported",
    "fdr_half",
    "fdr_margin",
    "recall_20",
    "recall_25",
    "recall_30",
    "bias",
    "coverage",
    "tokens_per_trace",
    "tokens_per_find",
]


def print_table(title: str, rows: Iterable[tuple[str, Sequence[Searched]]]) -> None:
    """Figures by row."""
    print(
        f"\n{title}\n{'':24s}" + "".join(f"{name.replace('tokens_per', 'tok')[:10]:>11s}" for name in COLUMNS)
    )
    for name, searched in rows:
        values = figures(searched)
        shown = [values[column] for column in COLUMNS]
        print(f"{name:24s}" + "".join(f"{v:11,.0f}" if abs(v) >= 5 else f"{v:11.3f}" for v in shown))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few traces: under a minute, figures are rough")
    parser.add_argument("--traces", type=int, default=90, help="traces of each tabular shape")
    parser.add_argument("--demo-traces", type=int, default=120, help="traces of the demo model")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    traces, demo_traces = (5, 4) if options.quick else (options.traces, options.demo_traces)
    started = time.perf_counter()
    os.environ["OMP_NUM_THREADS"] = "1"  # two processes, each in one thread
    by_shape: dict[str, dict[str, list[Searched]]] = {shape: {} for shape in SHAPES}
    tasks = [(shape, method, traces, options.seed) for method in METHODS for shape in SHAPES]
    tasks.sort(key=lambda task: (task[1] != OURS, task[0] != "long"))
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        demo = pool.submit(demo_task, (demo_traces, options.seed))
        for shape, method, searched in pool.map(tabular_task, tasks):
            by_shape[shape][method] = searched
        by_demo, unexplored = demo.result()
    together = {method: [s for shape in SHAPES for s in by_shape[shape][method]] for method in METHODS}
    print_table("Tabular policies, all shapes", together.items())
    for method in (OURS, "bisection-50"):
        print_table(f"By shape: {method}", ((shape, by_shape[shape][method]) for shape in SHAPES))
    print_table("Demo model, levels 1-3, certified values", by_demo.items())
    print(f"\nlargest mass unexplored by the certified values: {unexplored:.4f}")
    print(f"seconds: {time.perf_counter() - started:.0f}")
    print(json.dumps(keys(together) | keys(by_demo, "demo_")))


if __name__ == "__main__":
    main()
