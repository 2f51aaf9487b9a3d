"""What it costs to calibrate a vector with the controls that a claim needs, beside what it cost before.

    python benchmarks/calibration_cost.py [--quick] [--run runs/demo-vectors]

The old calibration raced seven methods and eight random directions: all settings on an eighth of the problems,
a fifth of them on three eighths, a fifth of those on all, 24 settings of any layers and gates in a stream. The
new one races one method and nineteen random directions, twenty in all: half of the settings on twice the
problems, round after round, settings of one layer and kind of gate in a stream. Both use the demo model, with
the default grid, on the same problems, one after the other; the pairs are those of a small search of the
training split (`--run` names another).

The last line of the output is one line of JSON. `tokens_ratio` is the generated tokens of the new over those of
the old, `seconds_ratio` that of their times and `cpu_ratio` that of the processor's, which other work on the
machine disturbs less. `success_lost` is the success on the calibration problems of the old one's winner of
`preference` above that of the new one's (each was chosen on them).
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from pts.calibration.evaluator import Evaluator
from pts.calibration.halving import HALVING, Evaluate, Schedule, race
from pts.calibration.settings import RANDOM, Directions, Setting, grid
from pts.demo.problems import demo_problems
from pts.evaluation.decoder import Decoder
from pts.evaluation.outcomes import Outcomes, run_variants
from pts.ranks import controls_needed
from pts.runs.search_run import read_search
from pts.stages.extract.run import LAYER_SHARES, enough_pairs
from pts.stages.search.inputs import SearchInputs
from pts.stages.search.reload import load_again
from pts.stages.search.run import run_search
from pts.steering.directions import METHODS
from pts.steering.fitting_data import FittingData
from pts.steering.harvest import harvest
from pts.steering.pairs import split_problems
from pts.steering.vector_set import GateKind

LEVELS = (2, 3, 4)
STRENGTHS = (0.2, 0.4, 0.8)
GATES: tuple[GateKind, ...] = ("probe", "entropy", "tokens", "always")
OLD = Schedule((0.125, 0.375, 1.0), (0.2, 0.2))
OLD_CONTROLS, OLD_CHUNK = 8, 24
SAMPLES = 4
PATTERN = "all"


class Meter:
    """Measures settings by `evaluate`, and counts completions and generated tokens."""

    def __init__(self, evaluate: Evaluate) -> None:
        self.evaluate = evaluate
        self.completions = self.tokens = 0

    def __call__(self, settings: Sequence[Setting], first: int, end: int) -> Mapping[Setting, Outcomes]:
        found = self.evaluate(settings, first, end)
        self.completions += sum(SAMPLES * len(outcomes.tokens) for outcomes in found.values())
        self.tokens += sum(int(outcomes.tokens.sum()) for outcomes in found.values())
        return found


def in_old_streams(evaluator: Evaluator, directions: Directions) -> Evaluate:
    """The evaluator's measurements in streams of 24 settings, whatever their layers and gates."""

    def evaluate(settings: Sequence[Setting], first: int, end: int) -> Mapping[Setting, Outcomes]:
        found: dict[Setting, Outcomes] = {}
        problems, grade = evaluator.problems[first:end], evaluator.decoder.grade
        for start in range(0, len(settings), OLD_CHUNK):
            part = settings[start : start + OLD_CHUNK]
            numbers = list(range(1, len(part) + 1))
            with evaluator.decoder.steered([[directions.intervention(one)] for one in part]) as policy:
                sampling = evaluator.decoder.sampling
                measured = run_variants(policy, sampling, problems, grade, numbers, SAMPLES, evaluator.seed)
            found |= {setting: measured[number] for setting, number in zip(part, numbers, strict=True)}
        return found

    return evaluate


def calibrated(
    name: str,
    evaluator: Evaluator,
    directions: Directions,
    evaluate: Evaluate,
    methods: Sequence[str],
    schedule: Schedule,
    strengths: Sequence[float],
) -> dict[str, float]:
    """The cost of racing these methods, and the success of what won for `preference` on all problems."""
    layers_at = len(directions.whole.harvest.layers) - 1
    layers = tuple(sorted({round(share * layers_at) for share in LAYER_SHARES}))
    settings = list(grid([PATTERN], methods, layers, strengths, GATES))
    for setting in settings:  # Fitting is no part of what is timed: it is done once for all.
        directions.intervention(setting)
    meter, started, worked = Meter(evaluate), time.perf_counter(), time.process_time()
    lanes = race(settings, lambda setting: setting.method, meter, len(evaluator.problems), schedule)
    seconds, cpu = time.perf_counter() - started, time.process_time() - worked
    winner, outcomes = lanes["preference"][0]
    print(
        f"{name}: {len(methods)} directions, {len(settings)} settings, {meter.completions:,} completions, "
        f"{meter.tokens:,} tokens, {seconds:.1f} s ({cpu:.1f} of the processor); "
        f"preference: {winner.key}, {outcomes.success:.3f}"
    )
    return {"tokens": meter.tokens, "seconds": seconds, "cpu": cpu, "success": outcomes.success}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="32 problems, one strength")
    parser.add_argument("--run", type=Path, help="search run on the training split")
    parser.add_argument("--problems", type=int, default=96)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        measure(options, Path(folder))


def measure(options: argparse.Namespace, folder: Path) -> None:
    run = options.run or folder / "train"
    if not (run / "summary.json").exists():
        run_search(SearchInputs(levels=LEVELS, problems=40, split="train", thinking=True, output=run))
    searched = read_search(run)
    pairs = enough_pairs(searched)
    search = load_again(searched, "cpu")
    (folder / "harvest").mkdir()
    harvested = harvest(search.loaded.model, pairs, folder / "harvest")
    fitted, _ = split_problems(pairs, 0.25, options.seed)
    data = FittingData(search.loaded.model, fitted, harvested, options.seed)
    directions = Directions({PATTERN: data}, data)
    decoder = Decoder(search.loaded, search.sampling, search.prompt_format, search.grade)
    problems = demo_problems("calibrate", 32 if options.quick else options.problems, options.seed, LEVELS)
    evaluator = Evaluator(decoder, directions, problems, SAMPLES, options.seed)
    strengths = (0.4,) if options.quick else STRENGTHS
    controls = [f"{RANDOM}-{number}" for number in range(controls_needed())]
    old_methods = [*METHODS, *controls[:OLD_CONTROLS]]
    before = calibrated(
        "old", evaluator, directions, in_old_streams(evaluator, directions), old_methods, OLD, strengths
    )
    again = Evaluator(decoder, directions, problems, SAMPLES, options.seed)
    after = calibrated("new", again, directions, again, ["preference", *controls], HALVING, strengths)
    result = {
        "tokens_ratio": after["tokens"] / before["tokens"],
        "seconds_ratio": after["seconds"] / before["seconds"],
        "cpu_ratio": after["cpu"] / before["cpu"],
        "success_lost": before["success"] - after["success"],
    }
    print(json.dumps({name: round(value, 3) for name, value in result.items()}))


if __name__ == "__main__":
    main()
