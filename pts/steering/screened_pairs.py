"""Pairs at forks that a search screened and did not report, weighted by how sure they are."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterator
from typing import TypeAlias

from pts.pivot_search.results import SearchedTrace
from pts.records import TokenIds
from pts.runs.rollout_parts import read_parts
from pts.runs.search_run import ROLLOUTS, SearchResults
from pts.steering.pairs import Choice, Pair

LEAST_DRAWS = 2
"""Rollouts with an alternative, below which it is no side of a pair."""
UNREPORTED = -1
"""The index of such a pair: it is no finding, and has no activations in a harvest."""
_BAND = 3.29
"""Standard deviations of a normal between its 5% and 95% quantiles."""
_LEAST_SPREAD = 0.02

Fork: TypeAlias = tuple[str, TokenIds, int]
"""A problem, the tokens before the fork, and the trace's token there."""


def screened_pairs(
    run: SearchResults, problems: Collection[str], reported: Collection[tuple[str, TokenIds]]
) -> list[Pair]:
    """A pair for each fork of these problems with rollouts that avoid its token, but for the `reported` ones.

    `reported` are problem ids with prefixes. One side of a pair is the trace's token, with the value that the
    search believed; the other is the alternative that most surely differs, by the rollouts that began with it.
    The gap of a pair, which is its weight in a fit, is the difference times how sure its sign is, 2Φ(|z|) − 1.
    Traces of a run that does not say what it believed (of an earlier version) give none.
    """
    alternatives = _alternatives(run, problems)
    found: list[Pair] = []
    for result in run.results:
        for trace in result.traces if result.problem_id in problems else ():
            for position, pair in _of_trace(result.problem_id, result.prompt, trace, alternatives):
                if (result.problem_id, trace.completion[:position]) not in reported:
                    found.append(pair)
    return found


def _of_trace(
    problem: str,
    prompt: TokenIds,
    trace: SearchedTrace,
    alternatives: dict[Fork, dict[int, list[int]]],
) -> Iterator[tuple[int, Pair]]:
    details = trace.details
    if details is None:
        return
    for position, token in enumerate(trace.completion):
        prefix = trace.completion[:position]
        value = details.values[position]
        spread = max((details.values_high[position] - details.values_low[position]) / _BAND, _LEAST_SPREAD)
        best: tuple[float, float, int, int] | None = None
        for other, (successes, n) in alternatives.get((problem, prefix, token), {}).items():
            if n < LEAST_DRAWS:
                continue
            mean = (successes + 1) / (n + 2)
            error = math.sqrt(mean * (1 - mean) / (n + 3) + spread**2)
            weight = abs(mean - value) * math.erf(abs(mean - value) / error / math.sqrt(2))
            if best is None or weight > best[0]:
                best = weight, mean - value, other, n
        if best is None:
            continue
        weight, gap, other, n = best
        tokens = (other, token) if gap > 0 else (token, other)
        better, worse = (
            Choice(each, "", 0.0, worth, n) for each, worth in zip(tokens, (weight, 0.0), strict=True)
        )
        yield position, Pair(UNREPORTED, problem, prompt, prefix, better, worse, gap < 0, value, 0.0, "", "")


def _alternatives(run: SearchResults, problems: Collection[str]) -> dict[Fork, dict[int, list[int]]]:
    """Successes and draws by first token, of the rollouts that avoid each fork's token."""
    found: dict[Fork, dict[int, list[int]]] = defaultdict(dict)
    columns = ["problem", "prefix", "avoided", "completion", "count", "success"]
    for table in read_parts(run.path / ROLLOUTS, columns):
        for row in table.to_pylist():
            if row["avoided"] is None or not row["completion"] or row["problem"] not in problems:
                continue
            fork = (row["problem"], tuple(row["prefix"]), row["avoided"])
            counted = found[fork].setdefault(row["completion"][0], [0, 0])
            counted[0] += row["count"] * row["success"]
            counted[1] += row["count"]
    return found
