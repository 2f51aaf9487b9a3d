"""Do vectors help a model that people use? Their effect on untouched problems with every control, or a null
with its power.

    python benchmarks/real_effect.py MODEL DATA --output FOLDER [--run RUN]
    python benchmarks/real_effect.py demo demo --output FOLDER --quick

`--run` is a search of that model and those problems, finished or not; without it FOLDER/search is searched
first. Vectors are fitted to all of its pairs (`preference`), to pairs of the screen besides (`screened`) and
to its journal (`outcome`). Strength, sign, gate and layer are chosen on problems that the search did not draw.
The effect is measured once, on others: success with the method that did best in calibration, less success
without, with a bootstrap over problems.

Through the very same race and measurement go

- K random directions;
- label-shuffled fits: `outcome` on grades permuted within each problem, the others on pairs whose sides were
  swapped by a coin;
- `online`, trained on policy on the searched problems: how far a vector goes.

`--random 0` leaves the random directions out, to see an effect, which may be null, before its controls are paid
for. The same command with another `--random` goes on. Without them an effect says nothing of the direction.

An effect is `detectable` if it would have been seen with 80% probability: its estimate, with the standard error
of this one, is then clear of zero and above every random direction, where there are any.

`preference-layers` is a vector at every layer, all trained together: its strength is the sum over the layers.
Its random directions are one at every layer, with equal parts. With methods of both forms the controls must be
at the winner's settings (below).

Two options make the controls cheaper. `--controls-settings chosen` measures random directions at the layer,
strength and gate that calibration chose for the best fitted vector, without a calibration of their own. It
tests a weaker null: that the vector's direction is no better than a random one at the same place and strength.
The vector's sign and strength were chosen for it and theirs were not, so even a random direction in its place
would come first somewhat too often, and `p_value` is too small by that. `own`, where each random direction has
a calibration too, has no such gap.

`--control-samples N` measures random directions and shuffled fits on N completions of a problem. The rank
compares them with the vector on N completions too and the same random numbers, beside its effect on all
samples. So the test stays valid: under the null each is equally likely to be first. Noisier estimates spread
the controls further, so that a first rank takes a larger effect. (Controls on N completions against a vector on
all of them would not be valid: they share random numbers, and bad luck would put them all behind it together.)

Whatever is fitted or measured is written down at once in FOLDER, and the same command goes on where it was
stopped. It refuses other settings. The last line of the output is one line of JSON.

What it costs beside the search, by default: each of 29 vectors takes 350 completions to calibrate (64 problems
x 4) and 1,200 to measure, and `online` 2,304 to train: about 48,000 completions. The first lines of the output
say it for the settings at hand. At 174 tokens each (Qwen2.5-Coder-0.5B on SVAMP) that makes 8.4 million tokens:
280 minutes at 500 tokens a second (two cores), seven at 20,000 (a GPU). A fit of `outcome` reads up to 262,144
tokens and trains on 164,000, with gradients: this model would take an hour or more for each of the four on two
cores. `--methods preference --rounds 0 --shuffled 0` fits `preference` alone, on pairs: 26,800 completions with
`--controls-settings chosen`, 9,400 with `--control-samples 1` besides.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from effect_fits import LAYERS, METHODS, ONLINE, SHUFFLED, methods_of, online_fit, say
from effect_measured import Measured

from pts.calibration.evaluator import Evaluator
from pts.calibration.halving import race, race_size
from pts.calibration.settings import RANDOM, Directions, Setting, grid
from pts.errors import ConfigError, PtsError, RunError
from pts.evaluation.decoder import Decoder
from pts.evaluation.outcomes import Outcomes
from pts.ranks import rank_among, rank_p_value
from pts.records import Problem
from pts.runs.files import replace_text
from pts.runs.manifest import text_digest
from pts.runs.search_run import SearchResults, read_search
from pts.stages.extract.run import enough_pairs
from pts.stages.search.inputs import SearchInputs
from pts.stages.search.reload import Loaded, load_again, untouched_problems
from pts.stages.search.run import run_search
from pts.steering.fitting_data import FittingData
from pts.steering.harvest import harvest
from pts.steering.pairs import Pair
from pts.steering.training_rollouts import TrainingRollouts
from pts.steering.vector_set import GateKind

PATTERN = "all"
GATES: tuple[GateKind, ...] = ("tokens", "always")
CLEAR, POWER = 1.96, 0.8416
"""Standard errors: from zero to where an interval of 95% is clear of it, and what 80% of a normal lie above."""
EARLIER = {"controls_settings": "own", "control_samples": None}
"""What folders were begun with whose settings do not say it; the defaults."""
QUICK = {
    "problems": 20,
    "calibration_problems": 8,
    "test_problems": 24,
    "samples": 2,
    "random": 2,
    "shuffled": 1,
    "rounds": 1,
    "round_problems": 12,
    "steps": 4,
}


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="model, as `pts search` takes it")
    parser.add_argument("data", help="problems, as `pts search` takes them")
    parser.add_argument("--output", type=Path, required=True, help="folder of all that is measured and fitted")
    parser.add_argument("--run", type=Path, help="search run of the model and the problems")
    parser.add_argument("--quick", action="store_true", help="few problems and controls: a trial")
    parser.add_argument("--problems", type=int, default=300, help="to search, without --run")
    parser.add_argument("--budget", type=int, help="tokens of a completion, without --run")
    parser.add_argument("--methods", default="preference,outcome", help=f"of {', '.join(METHODS)}")
    parser.add_argument("--layers", help="decoder layers to try; the middle one otherwise")
    parser.add_argument("--strengths", default="0.2,0.4")
    parser.add_argument("--calibration-problems", type=int, default=64)
    parser.add_argument("--test-problems", type=int, default=300)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--random", type=int, default=20)
    parser.add_argument("--shuffled", type=int, default=3, help="label-shuffled fits of each method")
    parser.add_argument(
        "--controls-settings",
        choices=("own", "chosen"),
        default=EARLIER["controls_settings"],
        help="random directions are measured at settings of their own calibration, or at the best fitted "
        "vector's",
    )
    parser.add_argument(
        "--control-samples",
        type=int,
        default=EARLIER["control_samples"],
        help="completions of each problem for random directions and shuffled fits; --samples otherwise",
    )
    parser.add_argument("--rounds", type=int, default=6, help="of `online`; 0 leaves it out")
    parser.add_argument("--round-problems", type=int, default=48, help="of a round of `online`, 8 samples each")
    parser.add_argument(
        "--steps", type=int, default=40, help="of a fit of `outcome`; `online` takes 12 a round"
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    if "--quick" in sys.argv:
        parser.set_defaults(**QUICK)
    options = parser.parse_args()
    options.methods = options.methods.split(",")
    unknown = [name for name in options.methods if name not in METHODS]
    if unknown:
        parser.error(f"--methods has {unknown[0]}; choose from {', '.join(METHODS)}.")
    for name, least in {"calibration_problems": 1, "test_problems": 1, "samples": 1, "random": 0}.items():
        if getattr(options, name) < least:
            parser.error(
                f"--{name.replace('_', '-')} is {getattr(options, name)}; it must be at least {least}."
            )
    forms = {name.endswith(LAYERS) for name in options.methods}
    if len(forms) > 1 and options.controls_settings == "own" and options.random:
        parser.error("--methods has vectors of one layer and of every layer: give --controls-settings chosen.")
    if options.control_samples is not None and not 1 <= options.control_samples <= options.samples:
        parser.error(
            f"--control-samples is {options.control_samples}; choose from 1 to {options.samples} (--samples)."
        )
    return options


def main() -> None:
    options = read_options()
    try:
        measure(options)
    except PtsError as error:
        raise SystemExit(f"real_effect: {error}") from None


def measure(options: argparse.Namespace) -> None:
    searched = searched_run(options)
    pairs = enough_pairs(searched)
    search = load_again(searched, options.device)
    options.output.mkdir(parents=True, exist_ok=True)
    harvested = harvest(search.loaded.model, pairs, fresh(options.output / "harvest"), seed=options.seed)
    layers = chosen_layers(options, len(harvested.residual_norms))
    require_same(options, layers, searched, pairs)
    calibration, test = untouched_problems(searched, options.calibration_problems, options.test_problems)
    rollouts = TrainingRollouts.of_run(searched, search.sampling, (), options.seed)
    data = FittingData(search.loaded.model, pairs, harvested, options.seed, rollouts=rollouts)
    decoder = Decoder(search.loaded, search.sampling, search.prompt_format, search.grade)
    every = tuple(range(len(harvested.residual_norms)))
    methods, together = methods_of(options, decoder, searched, every)
    directions = Directions({PATTERN: data}, data, dict(methods), dict(together))
    if not methods:
        directions.random_layers = every
    random = [f"{RANDOM}-{number}" for number in range(options.random)]
    apart = [*methods, *(random if options.controls_settings == "own" and methods else ())]
    joined = [*together, *(random if options.controls_settings == "own" and not methods else ())]
    strengths = tuple(float(each) for each in options.strengths.split(","))
    settings = list(grid([PATTERN], apart, layers, strengths, GATES))
    settings += grid([PATTERN], joined, (layers[len(layers) // 2],), strengths, GATES)
    lanes = len(apart) + len(joined)
    say_cost(options, search, searched, pairs, [*methods, *together], lanes, len(settings) // lanes)
    found = calibrated(options, decoder, directions, settings, calibration)
    winner = min(options.methods, key=lambda name: (-found[name][1].success, found[name][1].tokens_each))
    if winner in together:
        directions.random_layers = every
    chosen = {name: setting for name, (setting, _) in found.items()}
    chosen |= {name: chosen.get(name, replace(chosen[winner], method=name)) for name in random}
    report(options, chosen, winner, *measured(options, decoder, directions, test, chosen, winner), len(pairs))


def searched_run(options: argparse.Namespace) -> SearchResults:
    """The run that is named, or the one in the output's folder, searched as far as it is not."""
    given = SearchInputs(model=options.model, dataset=options.data)
    run = options.run or options.output / "search"
    if options.run is None:
        levels = (2, 3, 4) if options.data == "demo" else None
        run_search(
            replace(
                given,
                problems=options.problems,
                budget=options.budget,
                levels=levels,
                device=options.device,
                output=run,
            )
        )
    searched = read_search(run)
    for name, now in (("model", given.model), ("dataset", given.dataset)):
        then = searched.manifest.settings.get(name)
        if then != given.configuration()[name]:
            raise RunError(f"{run} searched the {name} {then}, not {now}: name that one.")
    return searched


def fresh(folder: Path) -> Path:
    """An empty folder for the harvest, which is made anew: it costs one pass over the prefixes."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    return folder


def chosen_layers(options: argparse.Namespace, count: int) -> tuple[int, ...]:
    if options.layers is None:
        return ((count - 1) // 2,)
    layers = tuple(int(each) for each in options.layers.split(","))
    outside = [layer for layer in layers if not 0 <= layer < count]
    if outside:
        raise ConfigError(f"layer {outside[0]} is out of range: the model has decoder layers 0 to {count - 1}.")
    return layers


def require_same(
    options: argparse.Namespace, layers: Sequence[int], searched: SearchResults, pairs: Sequence[Pair]
) -> None:
    """Go on in a folder only with the settings and the pairs that it was begun with."""
    free = ("output", "run", "device", "problems", "quick", "random")
    now = {name: value for name, value in vars(options).items() if name not in free}
    now |= {
        "layers": list(layers),
        "pairs": text_digest(repr((pair.ids, pair.better, pair.worse)) for pair in pairs),
        "rollout_tokens": searched.tokens_spent,
    }
    path = options.output / "settings.json"
    if not path.exists():
        replace_text(path, json.dumps(now, indent=2) + "\n")
        return
    then = EARLIER | json.loads(path.read_text())
    changed = [name for name in now if now[name] != then.get(name)]
    if changed:
        name = changed[0]
        raise RunError(
            f"{options.output} was begun with {name} {then.get(name)}, now {now[name]}: give what "
            "it was begun with, or another --output."
        )


def evaluator(
    options: argparse.Namespace,
    decoder: Decoder,
    directions: Directions,
    problems: list[Problem],
    phase: str,
    samples: int,
) -> Evaluator:
    """What measures on these problems, with a journal, and says now and then how far it is."""
    started = said = time.monotonic()
    generated = 0

    def observe(tokens: int, done: int) -> None:
        nonlocal said, generated
        generated += tokens
        if time.monotonic() - said > 60:
            said = time.monotonic()
            say(f"{phase}: {done} completions, {generated / (said - started):.0f} tokens a second")

    journal = options.output / f"{phase}.jsonl"
    return Evaluator(decoder, directions, problems, samples, options.seed, journal, observe)


def say_cost(
    options: argparse.Namespace,
    search: Loaded,
    searched: SearchResults,
    pairs: Sequence[Pair],
    methods: Sequence[str],
    lanes: int,
    places: int,
) -> None:
    vectors = len(methods) + options.random
    race_ = race_size([places] * lanes, options.calibration_problems)
    fewer = (
        options.random + sum(name.startswith(SHUFFLED) for name in methods) if options.control_samples else 0
    )
    completions = race_ * options.samples + (1 + vectors - fewer) * options.test_problems * options.samples
    if fewer:
        # The vector and the model without it are measured again, on as many as the controls.
        completions += (2 + fewer) * options.test_problems * options.control_samples
    online = online_fit(options)
    completions += online.rounds * online.problems * online.samples
    traces = [len(trace.completion) for result in searched.results for trace in result.traces]
    print(
        f"{searched.resolved.model_id}: {len(pairs)} pairs of {len({pair.problem_id for pair in pairs})} "
        f"problems; the search generated {searched.tokens_spent} tokens, budget {search.sampling.budget}"
    )
    print(
        f"{vectors} vectors, {lanes} of them calibrated with {places} settings each: about {completions} "
        "completions, "
        f"{completions * float(np.mean(traces)) / 1e6:.2f} million tokens",
        flush=True,
    )


def calibrated(
    options: argparse.Namespace,
    decoder: Decoder,
    directions: Directions,
    settings: Sequence[Setting],
    problems: list[Problem],
) -> dict[str, tuple[Setting, Outcomes]]:
    """Each vector's best setting."""
    on_calibration = evaluator(options, decoder, directions, problems, "calibration", options.samples)
    lanes = race(settings, lambda setting: setting.method, on_calibration, len(problems))
    return {str(name): ranked[0] for name, ranked in lanes.items()}


def measured(
    options: argparse.Namespace,
    decoder: Decoder,
    directions: Directions,
    problems: list[Problem],
    chosen: dict[str, Setting],
    winner: str,
) -> tuple[Measured, Measured]:
    """What is measured on all samples, and what is ranked: the same, or the controls' samples."""

    def on_test(names: Sequence[str], phase: str, samples: int) -> Measured:
        evaluate = evaluator(options, decoder, directions, problems, phase, samples)
        unsteered = evaluate.unsteered()
        found = evaluate([chosen[name] for name in names], 0, len(problems))
        return Measured(unsteered, {name: found[chosen[name]] for name in names})

    controls = [name for name in chosen if name.startswith((RANDOM, SHUFFLED))]
    if options.control_samples is None or not controls:
        every = on_test(list(chosen), "effect", options.samples)
        return every, every
    rest = [name for name in chosen if name not in controls]
    full = on_test(rest, "effect", options.samples)
    return full, on_test([winner, *controls], "effect-controls", options.control_samples)


def report(
    options: argparse.Namespace,
    chosen: dict[str, Setting],
    winner: str,
    full: Measured,
    ranked: Measured,
    pairs: int,
) -> None:
    """A table of all vectors, what it comes to, and the same as one line of JSON."""
    full.print_rows(chosen, options.seed)
    if ranked is not full:
        ranked.print_rows(chosen, options.seed)
    effects = {name: ranked.effect(name) for name in ranked.steered}
    random = [effect for name, effect in effects.items() if name.startswith(RANDOM)]
    shuffled = [effect for name, effect in effects.items() if name.startswith(SHUFFLED)]
    effect, (low, high) = full.effect(winner), full.interval(winner, options.seed)
    detectable = (CLEAR + POWER) * full.error(winner)
    if random:
        detectable = max(detectable, max(random) + POWER * ranked.error(winner))
    result = {
        "method": winner,
        "effect": effect,
        "effect_low": low,
        "effect_high": high,
        "effect_ranked": effects[winner],
        "rank_of_controls": rank_among(effects[winner], random) if random else None,
        "controls": len(random),
        "p_value": rank_p_value(effects[winner], random, len(options.methods)) if random else None,
        "random_max": max(random) if random else None,
        "shuffled_max": max(shuffled) if shuffled else None,
        "headroom_online": full.effect(ONLINE) if ONLINE in full.steered else None,
        "detectable": detectable,
        "unsteered": full.unsteered.success,
        "pairs": pairs,
        "test_problems": options.test_problems,
        "samples": options.samples,
        "control_samples": ranked.unsteered.samples,
        "controls_settings": options.controls_settings,
    }
    rank = f"rank {result['rank_of_controls']} of {1 + len(random)}" if random else "no random directions"
    print(
        f"{winner}: {effect:+.3f} ({low:+.3f} to {high:+.3f}), {rank}; an effect of {detectable:.3f} would "
        "have been seen with 80% probability"
    )
    print(json.dumps({name: round(v, 4) if isinstance(v, float) else v for name, v in result.items()}))


if __name__ == "__main__":
    main()
