"""What patterns by clusters give that patterns by labels do not: on planted data and on the demo model.

    OMP_NUM_THREADS=1 python benchmarks/clusters_or_labels.py [--quick] [--only demo] [--run runs/demo-vectors]

Planted: contrasts of 3 to 5 groups, each around a direction of its own, and a word at each pivot. A share of
the words (0, 25%, 50%, all) is that of a group drawn blindly, so labels mix the groups where words are wrong.
For each group the pattern that holds most of it is taken, and the direction is that pattern's mean contrast:
its cosine with the planted one, and the adjusted Rand index of the whole division.

Demo model: the pairs of one search (`--run`; made where it is not there) divided by clusters and by labels. The
`preference` vector of each pattern with enough pairs, that of all pairs, and random directions each go through
the same calibration and are measured on the same untouched problems, paired by problem. `shift` is the mean
change of log p(better) - log p(worse) on the pattern's own held-out pairs. `best` is the pattern that did best
on the calibration problems, `mean` the mean effect over patterns, by pairs; `clusters_less_labels` is their
difference, with a bootstrap over problems. The last line of the output is one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from patterns import Floats, agreement, planted
from steering_effect import LEVELS, searched_pairs

from pts.calibration.evaluator import Evaluator
from pts.calibration.halving import race
from pts.calibration.settings import RANDOM, Directions, Setting, grid
from pts.demo.problems import demo_problems
from pts.evaluation.decoder import Decoder
from pts.evaluation.outcomes import Outcomes
from pts.lexicon import label_pivot
from pts.stages.extract.inputs import ExtractInputs
from pts.stages.extract.patterns import Division, divide_pairs, make_directions
from pts.stages.extract.run import LAYER_SHARES
from pts.stages.search.reload import load_again
from pts.stats import bootstrap_mean_interval
from pts.steering.directions import preference_shift
from pts.steering.fitting_data import FittingData
from pts.steering.harvest import harvest
from pts.steering.pairs import Pair
from pts.steering.patterns import Pivot, find_patterns, pattern_groups
from pts.steering.training_rollouts import TrainingRollouts
from pts.steering.vector_set import GateKind

WORDS = (" Wait", " First", " Alternatively", " Split", " Check")
"""A word of each pattern of the default lexicon."""
WRONG = (0.0, 0.25, 0.5, 1.0)
"""Shares of the words that are drawn blindly."""
METHOD = "preference"
Basis = Literal["clusters", "labels"]
BASES: tuple[Basis, Basis] = ("clusters", "labels")


def recovered(contrasts: Floats, truth: np.ndarray, groups) -> tuple[float, float]:
    """The planted groups' mean cosine with the pattern that holds most of each, and the adjusted Rand index."""
    names = np.empty(len(truth), dtype=int)
    for number, group in enumerate(groups):
        names[list(group.members)] = number
    cosines = []
    for group in np.unique(truth):
        most = np.bincount(names[truth == group]).argmax()
        made, planted_mean = contrasts[names == most].mean(0), contrasts[truth == group].mean(0)
        cosines.append(made @ planted_mean / np.linalg.norm(made) / np.linalg.norm(planted_mean))
    return float(np.mean(cosines)), agreement(names, truth)


def measure_planted(sets: int) -> dict[str, dict[str, float]]:
    found: dict[float, list[list[float]]] = {wrong: [] for wrong in WRONG}
    for seed in range(sets):
        rng = np.random.default_rng(seed)
        contrasts, truth = planted(rng, 3 + seed % 3, 300, 128, 1.0)
        # What the words say names clusters and does not divide them: one clustering serves all.
        pivots = [Pivot("So. ", WORDS[group], " we go on.") for group in truth]
        patterns = find_patterns(contrasts, pivots, seed)
        by_cluster = recovered(contrasts, truth, pattern_groups(patterns, "clusters")[1])
        for wrong in WRONG:
            blind = rng.integers(0, truth.max() + 1, len(truth))
            said = np.where(rng.random(len(truth)) < wrong, blind, truth)
            labels = tuple(label_pivot("So. ", WORDS[group], " we go on.") for group in said)
            by_label = pattern_groups(replace(patterns, labels=labels), "labels")[1]
            found[wrong].append([*by_cluster, *recovered(contrasts, truth, by_label)])
    names = ("clusters_cosine", "clusters_rand", "labels_cosine", "labels_rand")
    means = {wrong: np.mean(rows, axis=0).round(3).tolist() for wrong, rows in found.items()}
    for wrong, mean in means.items():
        print(
            f"{wrong:4.0%} of the words blind, {sets} sets: clusters cosine {mean[0]:.3f}, Rand {mean[1]:.3f}; "
            f"labels cosine {mean[2]:.3f}, Rand {mean[3]:.3f}",
            flush=True,
        )
    return {f"{wrong:g}": dict(zip(names, mean, strict=True)) for wrong, mean in means.items()}


def divided(
    options: argparse.Namespace, model, pairs: list[Pair], harvested, layers, rollouts: TrainingRollouts
) -> tuple[Directions, dict[str, list[Pair]], dict[Basis, list[str]], float]:
    """Directions and held-out pairs of every pattern, the patterns of each division, and how far both agree.

    A pattern is named by its division too; one that both have is there once.
    """
    by_pattern: dict[str, FittingData] = {}
    judged: dict[str, list[Pair]] = {}
    names: dict[Basis, list[str]] = {}
    divisions: list[Division] = []
    for basis in BASES:
        inputs = ExtractInputs(options.run or Path("run"), patterns=basis, seed=options.seed)
        division = divide_pairs(inputs, pairs, harvested, layers)
        directions, held = make_directions(inputs, model, pairs, harvested, division, rollouts, layers)
        divisions.append(division)
        names[basis] = []
        for name, data in directions.by_pattern.items():
            same = [known for known, other in by_pattern.items() if other.pairs == data.pairs]
            ours = name if name == "all" else same[0] if same else f"{basis}: {name}"
            by_pattern.setdefault(ours, data)
            judged.setdefault(ours, list(held[name]))
            names[basis] += [] if name == "all" else [ours]
        for group in division.groups:
            why = division.without.get(group.name)
            print(f"{basis}: {group.name}, {len(group.members)} pairs{f': no vector ({why})' if why else ''}")
    rand = agreement(*(np.unique(division.names, return_inverse=True)[1] for division in divisions))
    print(f"adjusted Rand index of the two divisions: {rand:.3f}", flush=True)
    return Directions(by_pattern, by_pattern["all"]), judged, names, rand


def measure_demo(options: argparse.Namespace, folder: Path) -> dict[str, object]:
    searched, pairs = searched_pairs(options.run or folder / "train", options.train_problems)
    search = load_again(searched, "cpu")
    harvested = harvest(search.loaded.model, pairs, folder)
    count = len(harvested.layers)
    layers = tuple(sorted({round(share * (count - 1)) for share in LAYER_SHARES}))
    tried = layers[::2]
    rollouts = TrainingRollouts.of_run(searched, search.sampling, ())
    directions, judged, names, rand = divided(options, search.loaded.model, pairs, harvested, layers, rollouts)
    decoder = Decoder(search.loaded, search.sampling, search.prompt_format, search.grade)
    calibrate = demo_problems("calibrate", options.calibration_problems, options.seed, LEVELS)
    test = demo_problems("test", options.test_problems, options.seed, LEVELS)
    strengths = (0.4,) if options.quick else (0.4, 0.8)
    gates: tuple[GateKind, ...] = ("tokens",) if options.quick else ("tokens", "probe")
    settings = list(grid(list(directions.by_pattern), [METHOD], tried, strengths, gates))
    controls = [f"{RANDOM}-{number}" for number in range(options.random)]
    settings += list(grid(["all"], controls, tried, strengths, gates))
    lanes = race(
        settings,
        lambda setting: setting.method if setting.is_control else setting.pattern,
        Evaluator(decoder, directions, calibrate, 4, options.seed),
        len(calibrate),
    )
    winners = {str(name): ranked[0] for name, ranked in lanes.items()}
    evaluator = Evaluator(decoder, directions, test, 8, options.seed)
    unsteered = evaluator.unsteered()
    measured = evaluator([setting for setting, _ in winners.values()], 0, len(test))
    gains = {name: measured[setting].rates - unsteered.rates for name, (setting, _) in winners.items()}
    random = sorted(float(gains[name].mean()) for name in controls)
    print(
        f"\n{len(pairs)} pairs; test split: {len(test)} problems x 8, unsteered {unsteered.success:.3f}; "
        f"{len(random)} random directions: {random[0]:+.3f} to {random[-1]:+.3f}, "
        f"median {np.median(random):+.3f}"
    )
    print(f"{'pattern':34s}pairs  layer strength gate       effect        interval   rank   shift")
    for name in directions.by_pattern:
        show(name, winners[name][0], gains[name], random, directions, judged[name], options.seed)
    return {"demo_rand": round(rand, 3), **compared(directions, names, winners, gains, random, options.seed)}


def show(
    name: str,
    setting: Setting,
    gain: Floats,
    random: list[float],
    directions: Directions,
    held: list[Pair],
    seed: int,
) -> None:
    low, high = bootstrap_mean_interval(gain, 0.95, seed)
    fitted = directions.by_pattern[name]
    judged = FittingData(fitted.model, held, fitted.harvest, fitted.seed)
    added = directions.direction(name, METHOD, setting.layer) * setting.strength * fitted.norm(setting.layer)
    shift = float(preference_shift(judged, {setting.layer: added}).mean())
    rank = 1 + sum(value >= gain.mean() for value in random)
    print(
        f"{name:34s}{len(fitted.pairs):5d}{setting.layer:7d}{setting.strength:+9.1f} {setting.gate:8s}"
        f"{gain.mean():+9.3f}   {low:+.3f} to {high:+.3f}{rank:4d}/{len(random) + 1}{shift:+8.2f}",
        flush=True,
    )


def compared(
    directions: Directions,
    patterns: Mapping[Basis, list[str]],
    winners: Mapping[str, tuple[Setting, Outcomes]],
    gains: Mapping[str, Floats],
    random: list[float],
    seed: int,
) -> dict[str, object]:
    """The patterns' effects of each basis, and what clusters give more than labels."""
    result: dict[str, object] = {
        "all": round(float(gains["all"].mean()), 4),
        "random_max": round(random[-1], 4),
    }
    means, bests = {}, {}
    for basis in BASES:
        names = patterns[basis]
        if not names:
            return {**result, f"{basis}_patterns": 0}
        weights = [len(directions.by_pattern[name].pairs) for name in names]
        means[basis] = np.average([gains[name] for name in names], axis=0, weights=weights)
        best = max(names, key=lambda name: winners[name][1].success)
        bests[basis] = gains[best]
        above = sum(gains[name].mean() > random[-1] for name in names)
        print(
            f"{basis}: {len(names)} patterns, {above} above every random direction; mean effect "
            f"{means[basis].mean():+.3f}, best in calibration ({best}) {bests[basis].mean():+.3f}"
        )
        result |= {
            f"{basis}_patterns": len(names),
            f"{basis}_above_random": int(above),
            f"{basis}_mean": round(float(means[basis].mean()), 4),
            f"{basis}_best": round(float(bests[basis].mean()), 4),
        }
    for what, of in (("mean", means), ("best", bests)):
        low, high = bootstrap_mean_interval(of["clusters"] - of["labels"], 0.95, seed)
        less = float((of["clusters"] - of["labels"]).mean())
        print(f"clusters less labels, {what}: {less:+.3f} ({low:+.3f} to {high:+.3f})")
        result[f"clusters_less_labels_{what}"] = [round(less, 4), round(low, 4), round(high, 4)]
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few sets and problems: some minutes, rough")
    parser.add_argument("--only", choices=("planted", "demo"), help="one of the two parts")
    parser.add_argument("--run", type=Path, help="search run on the training split")
    parser.add_argument("--planted", type=int, default=12, help="planted sets of each share of wrong words")
    parser.add_argument("--train-problems", type=int, default=320)
    parser.add_argument("--calibration-problems", type=int, default=96)
    parser.add_argument("--test-problems", type=int, default=384)
    parser.add_argument("--random", type=int, default=19)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.quick:
        options.planted, options.train_problems, options.random = 1, 100, 2
        options.calibration_problems, options.test_problems = 16, 40
    started = time.perf_counter()
    torch.set_num_threads(1)
    result: dict[str, object] = {}
    if options.only != "demo":
        result["planted"] = measure_planted(options.planted)
    if options.only != "planted":
        with tempfile.TemporaryDirectory() as folder:
            result |= measure_demo(options, Path(folder))
    print(f"seconds: {time.perf_counter() - started:.0f}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
