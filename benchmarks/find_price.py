"""What a price for a find could save: a search that begins with the problems that promise most.

    python benchmarks/find_price.py RUN [RUN ...]

Each RUN is the directory of a search of tokens (or of both units: tokens count). After the prompt's rollouts
and the traces, what is known of a problem are its candidates, how likely each is to be pivotal by the
screen's belief, and what its completions cost. By that the problems are put in order, before their screens:

- `pivotal / cost`: the expected number of pivotal tokens over the tokens of a completion;
- `mean chance`: the mean chance of its candidates to be pivotal;
- `short`: short traces first;
- `best possible`: by what was found for the tokens spent, which nobody knows before.

`at 25%, 50%, 75%` are the shares of all reported tokens that the first problems hold, where these take that
share of the tokens after the range. An order that tells nothing finds as much as it pays. `with ranges` is
the share found at half of *all* tokens, where the ranges of all problems are paid first: without them there
is no order. Intervals are 95% percentile bootstraps over problems. Nothing is generated, and
no model is loaded. The last line of the output is one line of JSON.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt
from proxy_cases import journal_pools

from pts.pivot_search.posterior import believe
from pts.pivot_search.results import ProblemResult
from pts.pivot_search.values import GradedRollout, TraceMap, off_trace_counts
from pts.records import Sampling, Trace
from pts.runs.search_run import read_search

Floats = npt.NDArray[np.float64]

SHARES = (0.25, 0.5, 0.75)
RESAMPLES = 1000


def promise(result: ProblemResult, prompted: list[GradedRollout], threshold: float) -> tuple[float, int, int]:
    """Expected pivotal tokens of a problem's traces after its prompt's rollouts, candidates, trace tokens."""
    expected, candidates = 0.0, 0
    for trace in result.traces:
        records = Trace(result.prompt, trace.completion, trace.token_probs, trace.finish)
        trace_map = TraceMap.of(records, trace.success)
        belief = believe(trace_map, *off_trace_counts(prompted, trace_map), threshold)
        possible = trace_map.most_effect >= threshold
        expected += float(belief.pivotal[possible].sum())
        candidates += int(possible.sum())
    return expected, candidates, sum(len(trace.completion) for trace in result.traces)


def found_at(order: Floats, tokens: Floats, finds: Floats, share: float) -> float:
    """The share of all finds among the first problems by falling `order` that take `share` of the tokens."""
    first = np.argsort(-order, kind="stable")
    paid = np.concatenate(([0.0], np.cumsum(tokens[first]) / tokens.sum()))
    return float(np.interp(share, paid, np.concatenate(([0.0], np.cumsum(finds[first]) / finds.sum()))))


def measured(path: Path) -> dict[str, dict[str, list[float]]]:
    """Prints the table of one run and returns its figures: [estimate, low, high] by order and share."""
    run = read_search(path)
    sampling = Sampling(**run.manifest.settings["sampling"])
    pools = journal_pools(path, {r.problem_id: r.prompt for r in run.results}, sampling)
    found = Counter(f.problem.problem_id for f in run.findings if f.candidate.unit == "token")
    searched = [result for result in run.results if result.traces]
    promised = [promise(r, pools[r.problem_id][0], run.threshold) for r in searched]
    expected, candidates, length = (np.array(column, dtype=float) for column in zip(*promised, strict=True))
    finds = np.array([found[r.problem_id] for r in searched], dtype=float)
    tokens = np.array(
        [r.tokens_traces + r.tokens_screen + r.tokens_confirm + r.tokens_audit for r in searched], dtype=float
    )
    ranges = float(sum(r.tokens_range for r in run.results))
    share_of_ranges = ranges / (ranges + tokens.sum())
    print(
        f"{path.name}: {len(searched)} problems in range, {int(finds.sum())} tokens reported, "
        f"{int(tokens.sum()):,} tokens after the range and {int(ranges):,} for it"
    )
    orders = {
        "pivotal / cost": expected / length,
        "mean chance": expected / np.maximum(candidates, 1),
        "short": -length,
        "best possible": finds / tokens,
    }
    rng = np.random.default_rng(0)
    samples = [rng.integers(len(searched), size=len(searched)) for _ in range(RESAMPLES)]
    half = (0.5 - share_of_ranges) / (1.0 - share_of_ranges)
    columns = {**{f"at {share:.0%}": share for share in SHARES}, "with ranges": max(half, 0.0)}
    print(f"{'':16}" + "".join(f"{name:>22}" for name in columns))
    figures: dict[str, dict[str, list[float]]] = {}
    for name, order in orders.items():
        figures[name] = {}
        for column, share in columns.items():
            resampled = [found_at(order[at], tokens[at], finds[at], share) for at in samples if finds[at].any()]
            low, high = np.quantile(resampled, (0.025, 0.975))
            cell = [found_at(order, tokens, finds, share), float(low), float(high)]
            figures[name][column] = [round(value, 3) for value in cell]
        shown = (f"{cell[0]:.2f} ({cell[1]:.2f} to {cell[2]:.2f})" for cell in figures[name].values())
        print(f"{name:16}" + "".join(f"{text:>22}" for text in shown))
    return figures


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    print(json.dumps({path.name: measured(path) for path in parser.parse_args().runs}))
