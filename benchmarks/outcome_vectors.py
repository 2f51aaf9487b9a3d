"""What vectors trained on all rollouts do to the demo model's success, beside pairs, nulls and `online`.

    python benchmarks/outcome_vectors.py [--quick] [--run runs/demo-vectors] [--vectors preference,outcome]

A search on the training split gives pairs and a journal of graded rollouts (`--run` names one that is there
already, finished or not). `preference` is fitted to its pairs, `outcome` to its rollouts; neither generates a
token. `screened` is `preference` with pairs of forks that were not reported besides.
`online` draws its own rollouts, in rounds. `shuffled` is `outcome` on grades permuted within each problem,
`random` a direction drawn at random. All of these are of one layer; `-layers` are vectors of every layer,
trained together, whose strength is the sum over the layers; their nulls are `shuffled-layers`,
`preference-layers` on pairs of which a coin swaps the sides, and random directions with `--random-layers`.
`--vectors` names some of them. All choose
strength, sign and gate on the calibrate split in the same race. Each winner is measured on the test split, with
common random numbers and a bootstrap over problems. `tokens` are the generated tokens that a vector took before
calibration. The last line of the output is one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from effect_fits import preference_of_layers
from steering_effect import LEVELS, PATTERN, searched_pairs

from pts.calibration.evaluator import Evaluator
from pts.calibration.halving import race
from pts.calibration.online import OnlineFit, train_online
from pts.calibration.settings import RANDOM, Directions, grid
from pts.demo.problems import demo_problems
from pts.evaluation.decoder import Decoder
from pts.ranks import rank_among
from pts.runs.search_run import read_search
from pts.stages.extract.run import enough_pairs
from pts.stages.search.reload import load_again
from pts.stats import bootstrap_mean_interval
from pts.steering.directions import METHODS, preference_vectors
from pts.steering.fitting_data import FittingData
from pts.steering.gates import token_gate
from pts.steering.harvest import harvest
from pts.steering.outcome import outcome_direction, outcome_vectors
from pts.steering.pairs import split_problems
from pts.steering.training_rollouts import TrainingRollouts
from pts.steering.vector_set import GateKind

STRENGTHS = (0.4, 0.8, 1.2)
GATES: tuple[GateKind, ...] = ("tokens", "always")


def shuffled_direction(data: FittingData, layer: int, seed: int) -> torch.Tensor:
    """The method `outcome` on permuted grades."""
    rollouts = replace(data.rollouts, shuffle=seed, _read=[])
    return outcome_direction(replace(data, rollouts=rollouts), layer)


class Online:
    """Vectors of on-policy training, and what they took."""

    def __init__(self, decoder: Decoder, problems, fit: OnlineFit, seed: int) -> None:
        self.decoder, self.problems, self.fit, self.seed = decoder, problems, fit, seed
        self.tokens = 0
        self.success: tuple[float, ...] = ()

    def vectors(self, data: FittingData, layers) -> dict[int, torch.Tensor]:
        norms, gate = {layer: data.norm(layer) for layer in layers}, token_gate(data, layers[len(layers) // 2])
        found = train_online(self.decoder, self.problems, norms, gate, self.seed, self.fit)
        self.tokens, self.success = found.tokens, found.success
        return found.vectors

    def __call__(self, data: FittingData, layer: int) -> torch.Tensor:
        return torch.nn.functional.normalize(self.vectors(data, (layer,))[layer], dim=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few problems and controls: rough")
    parser.add_argument("--run", type=Path, help="search run on the training split")
    parser.add_argument("--vectors", type=lambda text: text.split(","), help="to measure; all otherwise")
    parser.add_argument("--train-problems", type=int, default=160)
    parser.add_argument("--calibration-problems", type=int, default=64)
    parser.add_argument("--test-problems", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--random", type=int, default=6)
    parser.add_argument("--random-layers", action="store_true", help="random directions at every layer")
    parser.add_argument("--shuffled", type=int, default=3)
    parser.add_argument("--layer", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.quick:
        options.train_problems, options.calibration_problems, options.test_problems = 40, 8, 24
        options.rounds, options.random, options.shuffled = 2, 2, 1
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        measure(options, Path(folder))


def measure(options: argparse.Namespace, folder: Path) -> None:
    started = time.perf_counter()
    if options.run is None:
        searched, pairs = searched_pairs(folder / "train", options.train_problems)
    else:
        searched = read_search(options.run)
        pairs = enough_pairs(searched)
    search = load_again(searched, "cpu")
    harvested = harvest(search.loaded.model, pairs, folder)
    fitted, held_out = split_problems(pairs, 0.25, options.seed)
    decoder = Decoder(search.loaded, search.sampling, search.prompt_format, search.grade)
    rollouts = TrainingRollouts.of_run(searched, search.sampling, {pair.problem_id for pair in held_out})
    data = FittingData(search.loaded.model, fitted, harvested, options.seed, rollouts=rollouts)
    own = demo_problems("train", 48 * options.rounds, options.seed + 1, LEVELS)
    online, everywhere = (Online(decoder, own, OnlineFit(rounds=options.rounds), options.seed) for _ in "ab")
    layers = tuple(range(len(harvested.residual_norms)))
    screened = rollouts.screened(fitted)
    methods = {
        "preference": METHODS["preference"],
        "screened": METHODS["screened"],
        "outcome": METHODS["outcome"],
        "online": online,
        **{f"shuffled-{seed}": partial(shuffled_direction, seed=seed) for seed in range(options.shuffled)},
    }
    together = {
        **{
            f"shuffled-layers-{seed}": partial(preference_of_layers, layers=layers, seed=seed)
            for seed in range(options.shuffled)
        },
        "preference-layers": partial(preference_vectors, layers=layers),
        "outcome-layers": partial(outcome_vectors, layers=layers),
        "online-layers": partial(everywhere.vectors, layers=layers),
    }
    directions = Directions({PATTERN: data}, data, methods, together)
    if options.random_layers:
        directions.random_layers = layers
    sample = rollouts.sample()
    drawn = sum(row.count for row in sample.rollouts)
    print(f"{len(pairs)} pairs, {len(fitted)} to fit on; the search generated {searched.tokens_spent} tokens")
    print(f"{drawn} rollouts from {len(sample.starts)} starts to fit on, {sample.tokens} tokens to read")
    print(
        f"{len(screened)} screened pairs, of weight {total_gap(screened):.0f} beside {total_gap(fitted):.0f} "
        "of the pairs"
    )
    names = [*methods, *together, *(f"{RANDOM}-{number}" for number in range(options.random))]
    if options.vectors is not None:
        names = [name for name in names if name in options.vectors]
    calibrate = demo_problems("calibrate", options.calibration_problems, options.seed, LEVELS)
    test = demo_problems("test", options.test_problems, options.seed, LEVELS)
    settings = list(grid([PATTERN], names, (options.layer,), STRENGTHS, GATES))
    evaluator = Evaluator(decoder, directions, calibrate, 4, options.seed)
    lanes = race(settings, lambda setting: setting.method, evaluator, len(calibrate))
    winners = {name: lanes[name][0][0] for name in names}
    on_test = Evaluator(decoder, directions, test, 4, options.seed)
    unsteered = on_test.unsteered()
    measured = on_test(list(winners.values()), 0, len(test))
    print(f"Test split: {len(test)} problems x 4; unsteered {unsteered.success:.3f}, layer {options.layer}")
    print(f"{'':18s}strength gate     success   effect         interval    tokens")
    effects = {}
    spent = {"online": online.tokens, "online-layers": everywhere.tokens}
    for name, setting in winners.items():
        found = measured[setting]
        low, high = bootstrap_mean_interval(found.rates - unsteered.rates, 0.95, options.seed)
        effects[name] = found.success - unsteered.success
        tokens = 0 if setting.is_control else spent.get(name, searched.tokens_spent)
        print(
            f"{name:18s}{setting.strength:+8.1f} {setting.gate:8s}{found.success:8.3f}{effects[name]:+9.3f}   "
            f"{low:+.3f} to {high:+.3f}{tokens:10d}"
        )
    for name in [name for name in names if "preference" in winners and name in (*methods, *together)][1:]:
        other = measured[winners["preference"]].rates
        low, high = bootstrap_mean_interval(measured[winners[name]].rates - other, 0.95, options.seed)
        difference = effects[name] - effects["preference"]
        print(f"{name} less preference: {difference:+.3f} ({low:+.3f} to {high:+.3f})")
    for name, each in (("online", online), ("online-layers", everywhere)):
        if each.success:
            print(f"success in the rounds of {name}: " + ", ".join(f"{rate:.3f}" for rate in each.success))
    print(f"seconds: {time.perf_counter() - started:.0f}")
    report(effects, unsteered.success, len(test))


def total_gap(pairs) -> float:
    """The weight that pairs have in a fit, in all."""
    return sum(pair.gap for pair in pairs)


def report(effects: dict[str, float], unsteered: float, problems: int) -> None:
    """One line of JSON: effects, and the rank of `outcome` among the nulls."""
    nulls = {name: effects[name] for name in effects if name.startswith((RANDOM, "shuffled"))}
    result = {"unsteered": unsteered, **{name: effects[name] for name in effects if name not in nulls}}
    for kind in (RANDOM, "shuffled"):
        if found := [effect for name, effect in nulls.items() if name.startswith(kind)]:
            result[f"{kind}_max"] = max(found)
    if nulls and "outcome" in effects:
        result["rank_of_outcome"] = rank_among(effects["outcome"], list(nulls.values()))
        result["of"] = 1 + len(nulls)
    result["test_problems"] = problems
    print(json.dumps({name: round(value, 4) for name, value in result.items()}))


if __name__ == "__main__":
    main()
