"""What steering does to the demo model's success, by method and gate, beside random directions and headroom.

    python benchmarks/steering_effect.py [--quick] [--run runs/demo-vectors]

A search on the training split gives the pairs (`--run` names one that is there already; it is made, or
continued, otherwise). Every method is calibrated on the calibrate split, once always on and once
gated, and so are random directions; each winner is then measured on the test split, with common random numbers
and a bootstrap over problems. `raw` is the mean activation at the pivots' contexts, which is what codelion/pts
exports as a vector.

Headroom, on some of the test problems: `headroom` is the success with "Wait" forced after every wrong step
less the success as it is; `headroom_pivots` takes, at the first harmful pivot of each searched trace, the
better token's measured value instead of the trace's success. `share_of_headroom` is of the larger. The last
line of the output is one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Hashable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from pts.calibration.evaluator import Evaluator
from pts.calibration.halving import race
from pts.calibration.settings import RANDOM, Directions, Setting, grid
from pts.demo.problems import demo_problems
from pts.demo.reading import read_thought
from pts.evaluation.decoder import Decoder
from pts.evaluation.outcomes import Outcomes
from pts.policies.transformers import TransformersPolicy
from pts.records import Problem, RolloutRequest
from pts.runs.search_run import read_search
from pts.seeds import derive_seed
from pts.stages.extract.run import LAYER_SHARES, enough_pairs
from pts.stages.search.inputs import SearchInputs
from pts.stages.search.reload import Loaded, load_again
from pts.stages.search.run import run_search
from pts.stats import bootstrap_mean_interval
from pts.steering.directions import METHODS
from pts.steering.fitting_data import FittingData
from pts.steering.harvest import harvest
from pts.steering.pairs import split_problems
from pts.steering.vector_set import GateKind

LEVELS = (2, 3, 4)
STRENGTHS = (0.2, 0.4, 0.8)
GATES: tuple[GateKind, ...] = ("probe", "entropy", "tokens", "always")
MOST_CORRECTIONS = 8
PATTERN = "all"


def raw_direction(data: FittingData, layer: int) -> torch.Tensor:
    """The mean activation at the pivots' contexts, at norm 1."""
    return torch.nn.functional.normalize(data.activations(layer).before.mean(0), dim=0)


def searched_pairs(run: Path, problems: int):
    """The training run, made where it is not there, and its pairs."""
    inputs = SearchInputs(levels=LEVELS, problems=problems, split="train", thinking=True, output=run)
    if not (run / "summary.json").exists():
        run_search(inputs)
    searched = read_search(run)
    return searched, enough_pairs(searched)


def is_gated(setting: Setting) -> str:
    return "always" if setting.gate == "always" else "gated"


def lane(setting: Setting) -> Hashable:
    """Methods race always on and gated apart; a random direction has one lane, like the procedure's choice."""
    return setting.method if setting.is_control else (setting.method, is_gated(setting))


def forced_corrections(search: Loaded, problems: list[Problem], samples: int, seed: int) -> tuple[float, float]:
    """Success as it is and with "Wait" forced after every wrong step of the thought, on the same problems."""
    policy = TransformersPolicy(search.loaded, search.prompt_format)
    wait = policy.encode_completion("Wait")[0]
    plain = forced = 0
    requests = [
        RolloutRequest(
            policy.encode(problem),
            n=samples,
            seed=derive_seed(seed, "headroom", problem.id),
            sampling=search.sampling,
        )
        for problem in problems
    ]
    owners = {request.prompt: problem for request, problem in zip(requests, problems, strict=True)}

    def solved(rollout) -> bool:
        answer = owners[rollout.request.prompt].answer
        return rollout.finish == "end" and search.grade(policy.decode(rollout.completion), answer)

    for depth in range(MOST_CORRECTIONS + 1):
        again = []
        for rollout in policy.rollouts(requests):
            if depth == 0:
                plain += rollout.count * solved(rollout)
            end = None if depth == MOST_CORRECTIONS else first_unmended(policy, rollout)
            if end is None or end >= search.sampling.budget - 1:
                forced += rollout.count * solved(rollout)
                continue
            again.append(
                RolloutRequest(
                    rollout.request.prompt,
                    rollout.completion[:end],
                    force=wait,
                    n=rollout.count,
                    seed=derive_seed(seed, "forced", depth, *rollout.completion[:end]),
                    sampling=search.sampling,
                )
            )
        requests = merged(again)
        if not requests:
            break
    total = samples * len(problems)
    return plain / total, forced / total


def merged(requests: list[RolloutRequest]) -> list[RolloutRequest]:
    """Requests from one prefix as one."""
    counts: dict[tuple, int] = {}
    for request in requests:
        key = (request.prompt, request.prefix)
        counts[key] = counts.get(key, 0) + request.n
    by_key = {(request.prompt, request.prefix): request for request in requests}
    return [replace(by_key[key], n=n) for key, n in counts.items()]


def first_unmended(policy: TransformersPolicy, rollout) -> int | None:
    """Tokens up to the end of the first wrong step that no "Wait" follows; None where there is none.

    A token of the demo model is a word, so words index tokens.
    """
    words = policy.decode(rollout.completion).split()
    given = len(rollout.request.prefix)
    for statement in read_thought(" ".join(words)):
        end = statement.last + 1
        if end <= given or not statement.wrong or end >= len(words) or words[statement.last] != ".":
            continue
        if words[end] != "Wait":
            return end
    return None


def pivot_headroom(test_run: Path, problems: int) -> float:
    """Mean gain of the better token at each trace's first harmful pivot, over all searched traces."""
    inputs = SearchInputs(
        levels=LEVELS, problems=problems, split="test", thinking=True, range=(0.0, 1.0), output=test_run
    )
    run_search(inputs)
    searched = read_search(test_run)
    harmful: dict[tuple[str, int], tuple[int, float]] = {}
    for finding in searched.findings:
        candidate = finding.candidate
        better = [a for a in candidate.alternatives if a.n >= 4 and a.value > candidate.value]
        if candidate.delta >= 0 or not better:
            continue
        value = max((a.value * a.n + 1) / (a.n + 2) for a in better)
        key = (finding.problem.problem_id, candidate.trace)
        harmful[key] = min(harmful.get(key, (10**9, 0.0)), (candidate.position, value))
    gains = [
        harmful[result.problem_id, index][1] - trace.success if (result.problem_id, index) in harmful else 0.0
        for result in searched.results
        for index, trace in enumerate(result.traces)
    ]
    return float(np.mean(gains))


def show(
    name: str, setting: Setting, outcomes: Outcomes, unsteered: Outcomes, seed: int
) -> tuple[float, float, float]:
    low, high = bootstrap_mean_interval(outcomes.rates - unsteered.rates, 0.95, seed)
    effect = outcomes.success - unsteered.success
    print(
        f"{name:24s}{setting.layer:6d}{setting.strength:+9.1f} {setting.gate:8s}{outcomes.success:9.3f}"
        f"{effect:+9.3f}   {low:+.3f} to {high:+.3f}{outcomes.tokens_each:8.1f}"
    )
    return effect, low, high


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few problems and methods: under a minute, rough")
    parser.add_argument("--run", type=Path, help="search run on the training split")
    parser.add_argument("--train-problems", type=int, default=400)
    parser.add_argument("--calibration-problems", type=int, default=128)
    parser.add_argument("--test-problems", type=int, default=1000)
    parser.add_argument("--headroom-problems", type=int, default=200)
    parser.add_argument("--random", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.quick:
        options.train_problems, options.calibration_problems, options.test_problems = 40, 16, 40
        options.headroom_problems, options.random = 10, 2
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        measure(options, Path(folder))


def measure(options: argparse.Namespace, folder: Path) -> None:
    started = time.perf_counter()
    searched, pairs = searched_pairs(options.run or folder / "train", options.train_problems)
    search = load_again(searched, "cpu")
    harvested = harvest(search.loaded.model, pairs, folder)
    fitted, _ = split_problems(pairs, 0.25, options.seed)
    data = FittingData(search.loaded.model, fitted, harvested, options.seed)
    methods = {name: METHODS[name] for name in ("preference", "gradient")} if options.quick else METHODS
    directions = Directions({PATTERN: data}, data, {**methods, "raw": raw_direction})
    decoder = Decoder(search.loaded, search.sampling, search.prompt_format, search.grade)
    calibrate = demo_problems("calibrate", options.calibration_problems, options.seed, LEVELS)
    test = demo_problems("test", options.test_problems, options.seed, LEVELS)
    count = len(harvested.layers)
    layers = tuple(sorted({round(share * (count - 1)) for share in LAYER_SHARES}))
    strengths, gates = ((0.4,), ("tokens", "always")) if options.quick else (STRENGTHS, GATES)
    controls = [f"{RANDOM}-{number}" for number in range(options.random)]
    settings = list(grid([PATTERN], [*directions.methods, *controls], layers, strengths, gates))
    print(
        f"{len(pairs)} pairs, {len(fitted)} to fit on; {len(settings)} settings, {len(calibrate)} problems x 4"
    )
    lanes = race(settings, lane, Evaluator(decoder, directions, calibrate, 4, options.seed), len(calibrate))
    winners = {name: ranked[0] for name, ranked in lanes.items()}
    fitted_lanes = [name for name in winners if isinstance(name, tuple) and name[0] != "raw"]
    best = max(fitted_lanes, key=lambda name: (winners[name][1].success, -winners[name][1].tokens_each))
    evaluator = Evaluator(decoder, directions, test, 8, options.seed)
    unsteered = evaluator.unsteered()
    measured = evaluator([setting for setting, _ in winners.values()], 0, len(test))
    print(
        f"\nTest split: {len(test)} problems x 8; unsteered {unsteered.success:.3f}, "
        f"{unsteered.tokens_each:.1f} tokens"
    )
    print(f"{'':24s} layer strength gate      success   effect        interval  tokens")
    effects = {}
    for name in sorted(winners, key=str):
        setting = winners[name][0]
        label = name if isinstance(name, str) else f"{name[0]}, {name[1]}"
        mark = " *" if name == best else ""
        effects[name] = show(label + mark, setting, measured[setting], unsteered, options.seed)
    print("* chosen, on the calibrate split alone")
    plain, forced = forced_corrections(search, test[: options.headroom_problems], 8, options.seed)
    by_pivots = pivot_headroom(folder / "test", options.headroom_problems // 2)
    print(
        f'\n"Wait" forced at every wrong step, {options.headroom_problems} problems: '
        f"{plain:.3f} -> {forced:.3f}"
    )
    print(f"better token at the first harmful pivot of a trace: {by_pivots:+.3f}")
    print(f"seconds: {time.perf_counter() - started:.0f}")
    effect, low, high = effects[best]
    result = {
        "effect": effect,
        "effect_low": low,
        "effect_high": high,
        "random_max": max(effects[name][0] for name in effects if isinstance(name, str)),
        "random_max_high": max(effects[name][2] for name in effects if isinstance(name, str)),
        "raw_activation_effect": max(effects[name][0] for name in effects if name[0] == "raw"),
        "headroom": forced - plain,
        "headroom_pivots": by_pivots,
        "share_of_headroom": effect / max(forced - plain, by_pivots),
        "test_problems": len(test),
        "pairs": len(fitted),
    }
    print(json.dumps({name: round(value, 4) for name, value in result.items()}))


if __name__ == "__main__":
    main()
