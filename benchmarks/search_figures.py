"""The two figures of docs/search.md: the value along a trace, and cost against recall.

    pip install '.[figures]'
    python benchmarks/search_figures.py [--quick]

The first searches one trace of the demo model whose values are certified and draws the screen's belief, the
confirmed effects and the truth. The second reads `benchmarks/results/search_quality.txt`. Writes PNGs to
docs/figures/ (to no file with --quick). The last line of the output is one line of JSON.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from demo_cases import certified_cases

from pts.pivot_search import SearchConfig, effect_interval, search_problems
from pts.pivot_search.posterior import believed_values
from pts.pivot_search.screen import TraceScreen
from pts.pivot_search.values import GradedRollout, TraceMap, off_trace_counts
from pts.records import RolloutRequest, Trace

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "search_quality.txt"
FIGURES = ROOT / "docs" / "figures"
BLUE, RED, GREY = "#2864a8", "#c0392b", "#8a8f98"
SEED = 11


def value_along_a_trace(axes: plt.Axes, cases: int) -> dict[str, float]:
    """Draw it for the case with the most pivots; how much of the truth the belief's band holds."""
    found, _ = certified_cases(cases, SEED)
    problem, policy, sampling, grade, completion, effects = max(
        found, key=lambda case: sum(abs(effect) >= 0.2 for effect in case[-1])
    )
    prompt = policy.encode(problem)
    distributions = policy.next_token_probs(prompt, completion, sampling)
    probs = tuple(d.prob(t) for d, t in zip(distributions, completion, strict=True))
    success = grade(policy.decode(completion), problem.answer)
    trace_map = TraceMap.of(Trace(prompt, completion, probs, "end"), success)

    def drawn(requests: list[RolloutRequest]) -> list[GradedRollout]:
        return [
            GradedRollout(
                r.request,
                r.completion,
                r.count,
                r.finish == "end" and grade(policy.decode(r.completion), problem.answer),
            )
            for r in policy.rollouts(requests)
        ]

    pool = drawn([RolloutRequest(prompt, n=12, seed=SEED, sampling=sampling)])
    screen = TraceScreen(trace_map, 0.2, (0.0, 1.0), seed=SEED, shared=0, sampling=sampling)
    while requests := screen.next_look(pool):
        pool += drawn(requests)
    mean, low, high = believed_values(trace_map, *off_trace_counts(pool, trace_map))
    truth = np.concatenate([[0.0], np.cumsum(effects)]) + float(success) - sum(effects)
    positions = np.arange(len(truth))
    after = positions[1:]
    axes.fill_between(
        after, low, high, step="post", color=BLUE, alpha=0.2, lw=0, label="screen: middle 90% of its belief"
    )
    axes.step(after, mean, where="post", color=BLUE, lw=1, label="screen: mean")
    axes.step(positions, truth, where="post", color="black", lw=1.6, label="certified")
    (result,) = search_problems(
        [problem],
        policy,
        grade,
        SearchConfig(value_range=(0, 1), sampling=sampling),
        given_traces={problem.id: [completion]},
    )
    for number, candidate in enumerate(result.candidates):
        before, at = truth[candidate.position], candidate.position + 1
        ends = effect_interval(candidate, 0.95)
        axes.errorbar(
            [at],
            [before + candidate.delta],
            [[candidate.delta - ends[0]], [ends[1] - candidate.delta]],
            fmt="o",
            ms=4,
            color=RED,
            lw=1.2,
            label=None if number else "confirmed Δ̂ with its 95% interval",
        )
    axes.set_xticks(positions[1:], [policy.decode((token,)) for token in completion], rotation=90, fontsize=6)
    axes.set(xlabel="token", ylabel="P(success) after the token", ylim=(-0.03, 1.03), title=problem.query)
    axes.legend(fontsize=7, frameon=False)
    return {
        "inside_band": float(np.mean((truth[1:] >= low - 0.01) & (truth[1:] <= high + 0.01))),
        "pivots": int(sum(abs(e) >= 0.2 for e in effects)),
    }


def cost_against_recall(axes: plt.Axes) -> None:
    """Each method's tokens a trace and recall at 0.25, from the committed table."""
    lines = RESULTS.read_text(encoding="utf-8").splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("Tabular policies, all shapes"))
    for line in lines[start + 2 : start + 6]:
        name, *numbers = line.split()
        values = [float(number.replace(",", "")) for number in numbers]
        fdr, recall, tokens = values[3], values[5], values[9]
        color = RED if name == "pts" else GREY
        axes.scatter([tokens], [recall], s=30, color=color)
        axes.annotate(
            f"{name}\n{fdr:.0%} false",
            (tokens, recall),
            xytext=(6, -4),
            textcoords="offset points",
            fontsize=8,
            color=color,
        )
    axes.set(
        xscale="log",
        xlabel="generated tokens a trace",
        ylabel="recall of |Δ| ≥ 0.25",
        ylim=(0, 1.03),
        xlim=(6e3, 5e5),
    )
    axes.set_title("Tabular policies; false: share of the reported with |Δ| < 0.15", fontsize=9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="three traces to choose from, nothing written")
    options = parser.parse_args()
    figure, axes = plt.subplots(figsize=(7.5, 3.6), layout="constrained")
    inside = value_along_a_trace(axes, 3 if options.quick else 16)
    if not options.quick:
        FIGURES.mkdir(parents=True, exist_ok=True)
        figure.savefig(FIGURES / "value_along_a_trace.png", dpi=130)
    figure, axes = plt.subplots(figsize=(5.5, 3.4), layout="constrained")
    cost_against_recall(axes)
    if not options.quick:
        figure.savefig(FIGURES / "cost_against_recall.png", dpi=130)
    print(json.dumps(inside))


if __name__ == "__main__":
    main()
