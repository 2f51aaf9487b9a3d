"""How well cheap signals predict measured effects: a table of proxies.

    python benchmarks/proxies.py [RUN] [--quick] [--traces 100] [--seed 5]

Without a RUN the truth is exact: traces of the demo model with certified effects (`certified.py`). An effect is
large from 0.2 on. The table is over all forks, and over those with 1 - q >= 0.2. With the directory of a search
the truth is what that search confirmed: its findings against candidates whose estimate stayed below the
threshold, and its findings against all forks that it searched. The two differ. The first knows only what the
screen let through. The second counts what the screen dropped as small, which nobody has measured.

AUC is the chance that a fork with a large effect has the higher score. Its interval is a 95% percentile
bootstrap over problems. `above` is the AUC less the better one of those of 1 - q and entropy, by the same
resamples. Average precision stands beside the base rate. Whatever is fitted (class rates, the probe, the
combinations) is fitted on other problems. The last line of the output is one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from branched_pass import BranchedReader
from proxy_cases import ProxyCase, ProxyData, demo_data, run_data
from proxy_scores import Scored, interval, resamples, scored
from proxy_signals import (
    TOP_ENTROPY,
    ForkStates,
    classes,
    entropy,
    forced_answers,
    fork_states,
    free_signals,
    probe_readings,
    probe_signals,
)
from success_probe import fit_probe, problem_folds

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

FOLDS = 5
RESAMPLES = 1000
FREE = ("1 - q", "entropy", "token class", "screen's belief, prompt's rollouts")
"""What the combination of free signals is made of."""
PAID = (
    "probe: jump over the token",
    "probe: (1 - q) |V - O|",
    "probe: spread over first tokens",
    "forced answer",
)
"""What the combination of all signals has beside them; whatever needs the screen's rollouts is left out."""
BASELINES = ("1 - q", "entropy")


def signals(data: ProxyData, seed: int, rollouts_each: int, forced: bool) -> dict[str, Floats]:
    """Every signal that can be had without knowing the effects, by fork, over all cases in order."""
    layers = chosen_layers(int(data.policy.identity.layers or 0))
    reader = BranchedReader(data.policy.loaded.model, layers)
    every = [entropy(d) for case in data.cases for d in case.distributions]
    least = float(np.quantile(every, 1 - TOP_ENTROPY))
    rows = [free_signals(case, data, least) for case in data.cases]
    states = [fork_states(case, reader) for case in data.cases]
    for row, probed in zip(rows, probed_signals(data, states, reader, seed, rollouts_each), strict=True):
        row |= probed
    if forced:
        for row, case in zip(rows, data.cases, strict=True):
            row["forced answer"] = forced_answers(case, data, reader)
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def chosen_layers(count: int) -> list[int]:
    """Four layers, spread evenly; all of a model that has no more."""
    return sorted({int(layer) for layer in np.linspace(0, count - 1, min(count, 4)).round()})


def probed_signals(
    data: ProxyData, states: Sequence[ForkStates], reader: BranchedReader, seed: int, rollouts_each: int
) -> list[dict[str, Floats]]:
    """The probe's signals of each case, by a probe fitted on other problems' graded rollouts."""
    by_problem: dict[int, ProxyCase] = {case.problem: case for case in data.cases}
    rng = np.random.default_rng(seed)
    fitting = [
        (index, case.screened[place])
        for index, case in by_problem.items()
        for place in rng.permutation(len(case.screened))[:rollouts_each]
    ]
    readings = probe_readings(fitting, reader, seed)
    fold_of = dict(zip(by_problem, problem_folds(list(by_problem), FOLDS, seed).tolist(), strict=True))
    folds = np.array([fold_of[index] for index in readings.problem])
    probes = [fit_probe(readings.of(folds != fold), seed) for fold in range(FOLDS)]
    print(
        "probe: place of the layer, penalty and held-out loss by fold:",
        *((p.place, p.penalty, round(p.loss, 3)) for p in probes),
    )
    return [
        probe_signals(each, case.map.q, probes[fold_of[case.problem]])
        for case, each in zip(data.cases, states, strict=True)
    ]


def class_rates(names: Sequence[str], large: Bools, folds: Ints) -> Floats:
    """Of each row the share of large effects in its class over that of all classes, in other folds."""
    chosen = np.asarray(names)
    rates = np.zeros(len(chosen))
    for fold in np.unique(folds):
        other = folds != fold
        for name in np.unique(chosen):
            there = large[other & (chosen == name)]
            base = large[other].mean()
            # Relative to the base rate of the same folds: it is the lower, the more large ones are in this one.
            rates[(folds == fold) & (chosen == name)] = (there.sum() + base) / (len(there) + 1) / base
    return rates


def combined(columns: Sequence[Floats], large: Bools, folds: Ints) -> Floats:
    """A logistic regression on the columns and their logarithms, fitted on other folds."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    table = np.stack([each for column in columns for each in (column, np.log(column + 1e-3))], axis=1)
    score = np.zeros(len(table))
    for fold in np.unique(folds):
        other = folds != fold
        if large[other].any() and not large[other].all():
            scaler = StandardScaler().fit(table[other])
            model = LogisticRegression(C=0.3, max_iter=1000).fit(scaler.transform(table[other]), large[other])
            # Without the intercept, which only tells how many large effects the other folds have.
            score[~other] = scaler.transform(table[~other]) @ model.coef_[0]
    return score


def scored_columns(
    by_name: dict[str, Floats], names: Sequence[str], large: Bools, problem: Ints, seed: int
) -> dict[str, Scored]:
    """Every signal's score against which forks are large, those that are fitted to it included."""
    folds = problem_folds(problem, FOLDS, seed)
    columns = by_name | {"token class": class_rates(names, large, folds)}
    free = [columns[name] for name in FREE]
    paid = [columns[name] for name in PAID if name in columns]
    columns["free signals combined"] = combined(free, large, folds)
    columns["free and paid signals combined"] = combined(free + paid, large, folds)
    weights = resamples(problem, RESAMPLES, seed)
    return {name: scored(score, large, weights) for name, score in columns.items()}


def print_table(
    title: str, results: dict[str, Scored], names: Sequence[str], large: Bools, problems: int
) -> None:
    """One truth's table, the best signal first, and the large effects of each class."""
    print(f"\n{title}: {large.sum()} large of {len(large)} ({large.mean():.3f}), {problems} problems")
    best = max(BASELINES, key=lambda name: results[name].auc)
    print(f"{'':42s}{'AUC':>6s}  {'95% interval':14s}  {'above ' + best:26s}{'precision':>9s}")
    for name, result in sorted(results.items(), key=lambda item: -item[1].auc):
        low, high = interval(result.resampled - results[best].resampled)
        above = f"{result.auc - results[best].auc:+.3f} ({low:+.3f} to {high:+.3f})" if name != best else ""
        own = f"{result.low:.3f} to {result.high:.3f}"
        print(f"{name:42s}{result.auc:6.3f}  {own:14s}  {above:26s}{result.precision:9.3f}")
    counts = {name: np.asarray(names) == name for name in sorted(set(names))}
    shares = (f"{name} {large[here].sum()} of {here.sum()}" for name, here in counts.items())
    print("large by class:", ", ".join(shares))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, nargs="?", help="directory of a search; none for the demo model")
    parser.add_argument("--quick", action="store_true", help="a few traces: under a minute, figures are rough")
    parser.add_argument("--traces", type=int, default=100, help="certified traces of the demo model")
    parser.add_argument(
        "--rollouts", type=int, default=40, help="rollouts of a problem that the probe is fitted on"
    )
    parser.add_argument("--no-forced", action="store_true", help="no forced answers")
    parser.add_argument("--seed", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    started = time.perf_counter()
    traces = 10 if options.quick else options.traces
    data = run_data(options.run) if options.run else demo_data(traces, options.seed)
    tokens = sum(len(case.completion) for case in data.cases)
    print(f"{len(data.cases)} traces, {tokens} tokens, {time.perf_counter() - started:.0f} s")
    by_name = signals(data, options.seed, options.rollouts, not options.no_forced)
    places = [(case, k) for case in data.cases for k in case.map.forks.tolist()]
    names = [name for case in data.cases for name in classes(case, data)]
    figures = {}
    for truth in data.cases[0].truths:
        rows = [row for row, (case, k) in enumerate(places) if k in case.truths[truth]]
        large = np.array([places[row][0].truths[truth][places[row][1]] for row in rows])
        problem = np.array([places[row][0].problem for row in rows])
        if large.all() or not large.any():
            print(f"\n{truth}: {large.sum()} large of {len(large)}: nothing to tell apart")
            continue
        kept = {name: column[rows] for name, column in by_name.items()}
        kept_names = [names[row] for row in rows]
        results = scored_columns(kept, kept_names, large, problem, options.seed)
        print_table(truth, results, kept_names, large, len(np.unique(problem)))
        figures[truth] = {name: round(result.auc, 4) for name, result in results.items()}
    print(f"\nseconds: {time.perf_counter() - started:.0f}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
