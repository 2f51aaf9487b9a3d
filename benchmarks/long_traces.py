"""The search on long traces with exact values, beside bisection with 50 samples, at three lengths.

    python benchmarks/long_traces.py [--quick] [--lengths 480,1920,7680] [--traces 8] [--kinds isolated,...]
                                     [--known-prior]

Kinds of traces (`shapes.long_shape`): effects on their own, 3.6 influential forks whatever the length
(`isolated`); as many for every 480 tokens (`growing`); wrong turns that are taken back within 40 tokens
(`cancelling`); values that drift (`drifting`); a reasoner with detours (`detours`). Both methods search the
same traces, of prompts whose value is between 0.25 and 0.75. A unit of cost is a full trace: tokens over the
trace's length.

`--known-prior` gives the screen the true share of influential forks, and the true size of all other effects.
Without it the screen learns both from each trace. So it shows the most that learning over a whole run could
gain. It works for `isolated`, `growing` and `drifting`, whose influential forks are independent. The last line
of the output is one line of JSON: its sums are over all kinds but `growing`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from functools import partial

import numpy as np
from quality import Searched, figures
from search_quality import Case, rounded, search_cases, tabular_case
from shapes import LONG_KINDS, LongShape, long_shape, policy_in_range

from pts.pivot_search import posterior, screen
from pts.pivot_search.levels import OffTracePrior

METHODS = ("pts", "bisection-50")
COLUMNS = ("reported", "fdr_half", "fdr_margin", "recall_20", "recall_25", "recall_30", "bias")
QUICK_LENGTHS = (480, 1920)


def long_cases(kind: str, length: int, count: int, seed: int) -> list[Case]:
    """`count` traces of a kind and length with their exact effects."""
    rng = np.random.default_rng([seed, LONG_KINDS.index(kind), length])
    shape = long_shape(kind, length)
    return [
        tabular_case(f"{kind}-{length}-{index}", *policy_in_range(shape, rng, budget=2 * length))
        for index in range(count)
    ]


def long_figures(searched: Sequence[Searched]) -> dict[str, float]:
    """The figures of a method, and its cost in full traces: of a trace, and of a true find."""
    units = [s.tokens / len(s.effects) for s in searched]
    found = figures(searched)
    found["units"] = float(np.mean(units))
    finds = found["reported"] * (1.0 - found["fdr_margin"]) if found["reported"] else 0.0
    found["units_per_find"] = float(np.sum(units)) / finds if finds else float("inf")
    return found


def tell_prior(kind: str, length: int) -> None:
    """Has the screen believe what is true of a kind's off-trace values."""
    shape = long_shape(kind, length)
    if not isinstance(shape, LongShape) or shape.pairs:
        raise SystemExit(f"long_traces.py: --known-prior knows no prior of {kind}; leave it out of --kinds.")
    # A normal of this width around a middling value is worth about so many draws of a Beta.
    worth = min(0.2 / shape.jitter**2, 2000.0)
    prior = OffTracePrior(shape.influential / (shape.forks * length), worth, shape.spread)
    screen.believe = partial(posterior.believe, prior=prior)


def print_row(name: str, values: dict[str, float], seconds: float) -> None:
    """One method on one kind and length."""
    shown = "".join(f"{values[column]:11.3f}" for column in COLUMNS)
    print(f"{name:34s}{shown}{values['units']:9.0f}{values['units_per_find']:9.0f}{seconds:9.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two traces of two lengths: figures are rough")
    parser.add_argument("--lengths", default="480,1920,7680")
    parser.add_argument("--kinds", default=",".join(LONG_KINDS))
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--traces", type=int, default=8, help="traces of each kind and length")
    parser.add_argument("--known-prior", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    lengths = QUICK_LENGTHS if options.quick else tuple(map(int, options.lengths.split(",")))
    count = 2 if options.quick else options.traces
    kinds, methods = options.kinds.split(","), options.methods.split(",")
    print(f"{'':34s}" + "".join(f"{column:>11s}" for column in (*COLUMNS,)) + "    units   a find  seconds")
    result: dict[str, float] = {}
    for length in lengths:
        together: dict[str, list[Searched]] = {method: [] for method in methods}
        spent = 0.0
        for kind in kinds:
            cases = long_cases(kind, length, count, options.seed)
            if options.known_prior:
                tell_prior(kind, length)
            for method in methods:
                started = time.perf_counter()
                searched = search_cases(cases, method, options.seed)
                seconds = (time.perf_counter() - started) / count
                print_row(f"{kind} {length} {method}", long_figures(searched), seconds)
                if kind != "growing":
                    together[method] += searched
                    spent += seconds * (method == METHODS[0])
        for method in methods:
            print_row(f"all but growing {length} {method}", long_figures(together[method]), 0.0)
        result |= keys(together, length, spent / max(len(set(kinds) - {"growing"}), 1))
    print(json.dumps({name: rounded(value) for name, value in result.items()}))


def keys(together: dict[str, list[Searched]], length: int, seconds: float) -> dict[str, float]:
    """The figures of one length, by name."""
    ours = long_figures(together[METHODS[0]])
    result = {name: ours[name] for name in ("units", "recall_30", "recall_25", "fdr_margin")}
    result["seconds_per_trace"] = seconds
    if METHODS[1] in together:
        result["find_cost_vs_bisect50"] = (
            ours["units_per_find"] / long_figures(together[METHODS[1]])["units_per_find"]
        )
    return {f"{name}_{length}": value for name, value in result.items()}


if __name__ == "__main__":
    main()
