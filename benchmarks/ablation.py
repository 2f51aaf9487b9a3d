"""What each idea of the search buys: every one switched off alone, on the tabular policies.

    python benchmarks/ablation.py [--quick] [--traces 30]

`fact 3`: a candidate is not dropped before a rollout was drawn at it. `fact 5`: a rollout counts at the fork
that it was asked to leave at, and nowhere else. `screen`: all candidates that the exact bound leaves go
straight to the confirmation (facts 4 and 5 then do nothing). `looks`: the confirmation draws all its rollouts
at once. `prior`: the mixture is not learned, and expects too little or too much of forks; `own prior` knows
the shape's true mixture, which is the most that learning it could give. The last line of the output is one line
of JSON.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np
from quality import Searched, figures
from search_quality import rounded, search_as_run, tabular_cases
from shapes import SHAPES, ChainShape

from pts.pivot_search import confirm, posterior, screen, sequential
from pts.pivot_search.posterior import Belief, OffTracePrior
from pts.pivot_search.values import GradedRollout, Ints, TraceMap


def without_fact_3(shape: str) -> None:  # noqa: ARG001 - one signature for all
    believe = screen.believe

    def seen_first(trace_map: TraceMap, successes: Ints, draws: Ints, threshold: float) -> Belief:
        belief = believe(trace_map, successes, draws, threshold)
        unseen = np.where(draws == 0, screen.DROPPED_IN_ALL, 0.0)
        return replace(belief, pivotal=np.maximum(belief.pivotal, unseen))

    screen.believe = seen_first


def without_fact_5(shape: str) -> None:  # noqa: ARG001
    counts = screen.off_trace_counts

    def asked_only(rollouts: Sequence[GradedRollout], trace_map: TraceMap) -> tuple[Ints, Ints]:
        return counts([r for r in rollouts if r.request.avoid is not None], trace_map)

    screen.off_trace_counts = asked_only


def without_screen(shape: str) -> None:  # noqa: ARG001
    screen.ADVANCE_ABOVE = 0.0


def without_looks(shape: str) -> None:  # noqa: ARG001
    confirm.LOOKS = sequential.LOOKS = sequential.LOOKS[-1:]
    sequential.HOPELESS_LEVELS = sequential.HOPELESS_LEVELS[-1:]


def with_prior(prior: OffTracePrior, shape: str) -> None:  # noqa: ARG001
    screen.believe = partial(posterior.believe, prior=prior)


def with_own_prior(shape: str) -> None:
    drawn = SHAPES[shape]
    if not isinstance(drawn, ChainShape):
        return
    # A normal of this width around a middling value is worth about so many draws of a Beta.
    worth = 0.2 / drawn.jitter**2
    with_prior(OffTracePrior(1 - drawn.indifferent * (1 - 2 * drawn.recovers), worth, drawn.spread), shape)


VARIANTS: dict[str, Callable[[str], None]] = {
    "all ideas": lambda _: None,
    "without fact 3": without_fact_3,
    "without fact 5": without_fact_5,
    "without the screen": without_screen,
    "without looks": without_looks,
    "prior: half matter": partial(with_prior, OffTracePrior(0.5, 30.0)),
    "prior: a tenth matter": partial(with_prior, OffTracePrior(0.1, 30.0)),
    "own prior": with_own_prior,
}


QUICK_SHAPES = ("mixed", "cancelling")


def task(job: tuple[str, str, int, int]) -> tuple[str, list[Searched]]:
    """One variant on one shape, in a process of its own."""
    variant, shape, count, seed = job
    VARIANTS[variant](shape)
    return variant, search_as_run(tabular_cases(shape, count, seed), seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two traces of two shapes: figures are rough")
    parser.add_argument("--traces", type=int, default=30, help="traces of each shape")
    parser.add_argument("--seed", type=int, default=2)
    options = parser.parse_args()
    count, shapes = (2, QUICK_SHAPES) if options.quick else (options.traces, tuple(SHAPES))
    jobs = [(variant, shape, count, options.seed) for variant in VARIANTS for shape in shapes]
    searched: dict[str, list[Searched]] = {variant: [] for variant in VARIANTS}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context, max_tasks_per_child=1) as pool:
        for variant, found in pool.map(task, jobs):
            searched[variant] += found
    table = {variant: figures(found) for variant, found in searched.items()}
    columns = (
        "fdr_margin",
        "recall_20",
        "recall_25",
        "recall_30",
        "bias",
        "tokens_per_trace",
        "tokens_per_find",
    )
    print(f"{'':24s}" + "".join(f"{name.replace('tokens_per', 'tok'):>12s}" for name in columns) + "   tokens")
    base = table["all ideas"]["tokens_per_trace"]
    for variant, values in table.items():
        shown = "".join(
            f"{values[name]:12,.0f}" if values[name] >= 5 else f"{values[name]:12.3f}" for name in columns
        )
        print(f"{variant:24s}{shown}{values['tokens_per_trace'] / base:8.2f}x")
    print(
        json.dumps(
            {
                variant.replace(": ", " ").replace(" ", "_"): {
                    "tokens_ratio": rounded(values["tokens_per_trace"] / base),
                    "recall_25": rounded(values["recall_25"]),
                    "recall_30": rounded(values["recall_30"]),
                }
                for variant, values in table.items()
            }
        )
    )


if __name__ == "__main__":
    main()
