"""Does the audit's interval hold the true recall, and how wide is it?

    python benchmarks/audit.py [--quick] [--traces 12] [--runs 400] [--share 0.05]

Tabular policies of all shapes (`shapes.py`), whose values are exact. Every trace is searched once. The
tokens that its screen dropped are confirmed again and again, which gives the chance that a confirmation
would report each. A run is a sample of these traces, with replacement, in which each of those tokens is
reportable by that chance. Its audit is drawn anew each time, with the search's own functions.
`audit_coverage` is the share of runs whose interval holds the true recall: what the run reports over what it
would report if its screen dropped nothing. Other designs are compared with it at the same cost: other chances
of being drawn, the largest weight for what was not seen (Fay and Feuer), and beliefs that were shuffled within
each trace. `recall_tau` is the share of all effects of at least the threshold that are reported, for
comparison: an effect that hardly reaches the threshold is often missed by the confirmation as well. The last
line of the output is one line of JSON.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from quality import THRESHOLD
from search_quality import Case, rounded, tabular_cases
from shapes import SHAPES

import pts.pivot_search.searcher as searcher
from pts.pivot_search import SearchConfig, search_problems, select_findings
from pts.pivot_search.audit import (
    FLOOR,
    ROLLOUTS,
    audit_draw,
    draw_audits,
    expected_weight,
    inclusion_chances,
    pivotal_interval,
)
from pts.pivot_search.confirm import Confirmation
from pts.pivot_search.grades import CompletionGrades
from pts.pivot_search.results import ProblemResult
from pts.pivot_search.screen import TraceScreen
from pts.pivot_search.values import Floats, TraceMap
from pts.records import Trace

RUN_SIZES = (50, 150, 450)
"""Traces of a run."""
COMPARED_SIZE = 150
"""Traces of a run where designs are compared."""
NEGLIGIBLE = THRESHOLD / 4
"""Tokens of a smaller effect are never reported, as good as."""


@dataclass(frozen=True)
class Design:
    """A design of the audit: what the chances of being drawn follow [N], by the beliefs, and the bound.

    `shuffled` gives every token the belief of another one of its trace.
    """

    follows: Callable[[Floats], Floats] = lambda pivotal: pivotal
    largest_weight: bool = False
    shuffled: bool = False


DESIGNS = {
    "as it is": Design(),
    "chances all equal": Design(np.zeros_like),
    "chances by the square root": Design(lambda pivotal: np.sqrt(FLOOR * (pivotal + FLOOR)) - FLOOR),
    "bound by the largest weight": Design(largest_weight=True),
    "beliefs shuffled": Design(shuffled=True),
}


@dataclass(frozen=True)
class Searched:
    """A trace after its search: its tokens, and its dropped tokens' chances, costs and exact effects [N]."""

    result: ProblemResult
    screen: TraceScreen
    pivotal: Floats
    cost: Floats
    effects: Floats
    case: Case


def search_all(count: int, seed: int) -> Iterator[Searched]:
    """`count` traces of every shape, searched without an audit."""
    kept: list[TraceScreen] = []

    class Kept(TraceScreen):
        def __init__(self, *args: object, **names: object) -> None:
            super().__init__(*args, **names)  # type: ignore[arg-type]
            kept.append(self)

    config = SearchConfig(threshold=THRESHOLD, value_range=(0.0, 1.0), seed=seed, audit=0.0)
    searcher.TraceScreen = Kept  # type: ignore[misc]
    for shape in SHAPES:
        for case in tabular_cases(shape, count, seed):
            problem, policy, sampling, grade, trace, effects = case
            asked = replace(config, sampling=sampling)
            (result,) = search_problems([problem], policy, grade, asked, given_traces={problem.id: [trace]})
            screen = kept.pop()
            dropped = screen.dropped([])
            positions = [each.position for each in dropped]
            yield Searched(
                result,
                screen,
                np.array([each.pivotal for each in dropped]),
                ROLLOUTS * np.array([each.cost for each in dropped]),
                np.array(effects)[positions],
                case,
            )


def report_chances(searched: Searched, most_p: float, repeats: int) -> tuple[Floats, Floats]:
    """For each dropped token the chance that a confirmation reports it, and its mean tokens over `cost` [N]."""
    problem, policy, sampling, grade, _, _ = searched.case
    grades = CompletionGrades(policy, grade, problem.answer)
    chances, spent = np.zeros(len(searched.effects)), np.ones(len(searched.effects))
    trace_map: TraceMap = searched.screen.map
    trace: Trace = trace_map.trace
    for place, dropped in enumerate(searched.screen.dropped([])):
        if abs(searched.effects[place]) < NEGLIGIBLE:
            continue
        tokens = 0
        for repeat in range(repeats):
            confirmation = Confirmation(
                *(trace, bool(trace_map.final_value), 0, dropped.position, THRESHOLD),
                seed=repeat,
                sampling=sampling,
            )
            while not confirmation.stopped:
                drawn = [grades.graded(list(policy.rollouts([each]))) for each in confirmation.requests()]
                confirmation.add([rollout for rollouts in drawn for rollout in rollouts])
            chances[place] += confirmation.p_value() <= most_p
            tokens += sum(r.new_tokens for r in (*confirmation.on, *confirmation.off))
        chances[place] /= repeats
        spent[place] = tokens / repeats / searched.cost[place]
    return chances, spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few traces and runs: figures are rough")
    parser.add_argument("--traces", type=int, default=12, help="traces of each shape")
    parser.add_argument("--runs", type=int, default=400, help="simulated runs of each size")
    parser.add_argument("--share", type=float, default=SearchConfig().audit)
    parser.add_argument("--seed", type=int, default=5)
    options = parser.parse_args()
    traces, runs, repeats = (3, 100, 10) if options.quick else (options.traces, options.runs, 40)
    searched = list(search_all(traces, options.seed))
    results = [each.result for each in searched]
    findings = select_findings(results, SearchConfig().fdr)
    found = {id(result): sum(f.problem is result for f in findings) for result in results}
    most_p = max((finding.candidate.p_value for finding in findings), default=0.0)
    measured = [report_chances(each, most_p, repeats) for each in searched]
    missed = sum(float(chances.sum()) for chances, _ in measured)
    believed = sum(float(each.pivotal.sum()) for each in searched)
    large = sum(int((np.abs(np.array(each.case[5])) >= THRESHOLD - 1e-9).sum()) for each in searched)
    reported = [(f.candidate.position, f.problem) for f in findings]
    right = sum(
        abs(each.case[5][position]) >= THRESHOLD - 1e-9
        for each in searched
        for position, problem in reported
        if problem is each.result
    )
    print(
        f"{len(searched)} traces, {sum(len(each.pivotal) for each in searched)} dropped tokens: "
        f"{missed:.1f} of them would be reported, the screen believed {believed:.1f}; "
        f"{len(findings)} reported; {right} of {large} effects of at least {THRESHOLD} reported"
    )
    keys: dict[str, float] = {"recall_tau": right / large, "believed_over_missed": believed / max(missed, 1e-9)}
    print("traces of a run, design               recall  coverage   width  lower end  audits   share")
    chosen = [(size, "as it is") for size in RUN_SIZES]
    chosen += [(COMPARED_SIZE, name) for name in DESIGNS if name != "as it is"]
    for size, name in chosen:
        figures = simulate(searched, measured, found, size, runs, options.share, options.seed, DESIGNS[name])
        print(
            f"{size:4d}, {name:30s}{figures['recall']:8.3f}{figures['coverage']:10.3f}{figures['width']:8.3f}"
            f"{figures['low']:11.3f}{figures['audits']:8.0f}{figures['share']:8.3f}"
        )
        place = size if name == "as it is" else name.replace(" ", "_")
        keys |= {f"audit_{figure}_{place}": value for figure, value in figures.items()}
    keys["audit_coverage"] = min(keys[f"audit_coverage_{size}"] for size in RUN_SIZES)
    print(json.dumps({name: rounded(value) for name, value in keys.items()}))


def simulate(
    searched: list[Searched],
    measured: list[tuple[Floats, Floats]],
    found: dict[int, int],
    size: int,
    runs: int,
    share: float,
    seed: int,
    design: Design,
) -> dict[str, float]:
    """Means over simulated runs of `size` traces; `share` is what the audits really cost."""
    rng = np.random.default_rng([seed, size])
    rows = []
    for _ in range(runs):
        weights: list[float] = []
        draws, reported, missed, dropped, audits, spent, tokens, largest = [], 0, 0, 0, 0, 0.0, 0, 0.0
        for index in rng.integers(len(searched), size=size).tolist():
            each, (report, cost) = searched[index], measured[index]
            generated = each.result.tokens_generated
            belief = rng.permutation(each.pivotal) if design.shuffled else each.pivotal
            chances = inclusion_chances(design.follows(belief), each.cost, share * generated)
            drawn = draw_audits(chances, int(rng.integers(2**60)))
            pivotal = rng.random(len(drawn)) < report
            seen = drawn & pivotal
            weights += (1.0 / chances[seen]).tolist()
            draws.append(audit_draw(belief, chances))
            largest = max(largest, float(1.0 / chances.min())) if len(chances) else largest
            reported += found[id(each.result)]
            missed += int(pivotal.sum())
            dropped += len(drawn)
            audits += int(drawn.sum())
            spent += float((cost * each.cost)[drawn].sum())
            tokens += generated
        unseen = largest if design.largest_weight else expected_weight(draws)
        low, _, high = pivotal_interval(weights, unseen, dropped)
        total = reported + len(weights)
        truth, lower, upper = (total / (reported + amount) for amount in (missed, high, low))
        rows.append((truth, lower <= truth <= upper, upper - lower, lower, audits, spent / tokens))
    names = ("recall", "coverage", "width", "low", "audits", "share")
    return dict(zip(names, np.mean(np.array(rows, dtype=float), axis=0).tolist(), strict=True))


if __name__ == "__main__":
    main()
