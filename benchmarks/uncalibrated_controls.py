"""How much too small is the p-value of `pts vectors measure --random`? Its random vectors were not calibrated.

    python benchmarks/uncalibrated_controls.py [--quick] [--sets 48] [--pool 60]

On the demo model. Each of `--sets` vectors is drawn at random, so that the null is true of it, and then treated
as an extraction treats its own: strength, sign and gate are chosen by success on 64 problems x 4, of the
settings that the set `qwen2.5-coder-0.5b` was chosen from. For each setting that was
chosen, `--pool` random vectors of the same layers, norms and gate are drawn, which nobody calibrates. All are
measured on the same other problems. Of each set the chance is counted to come first of 20 beside 19 of its
pool, and the share of the pool that does as much. If calibration gave nothing, the first would be 5% and the
second a half, on average. The intervals are a bootstrap over the sets.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.nn.functional import normalize

from pts.calibration.evaluator import Evaluator
from pts.calibration.halving import race
from pts.calibration.settings import Setting
from pts.demo.problems import demo_problems
from pts.evaluation.decoder import Decoder
from pts.runs.codec import from_json
from pts.runs.search_run import SearchResolved
from pts.seeds import derive_seed
from pts.stages.search.reload import inputs_from, load_inputs
from pts.stages.shared.recorded import recorded_in
from pts.stats import bootstrap_mean_interval
from pts.steering import load_vectors
from pts.steering.hooks import Intervention
from pts.steering.vector_set import Gate, GateKind, VectorSet

STRENGTHS = (0.2, 0.4, 0.8)
GATES: tuple[GateKind, ...] = ("tokens", "always")
LEVELS = (2, 3, 4)
BESIDE = 19


@dataclass(frozen=True, slots=True)
class Drawn:
    """Vectors drawn at random by the name of their setting's method, with equal parts at every layer."""

    width: int
    norms: tuple[float, ...]
    tokens: Gate
    seed: int

    def interventions(self, setting: Setting) -> tuple[Intervention, ...]:
        gate = self.tokens if setting.gate == "tokens" else Gate()
        share = setting.strength / len(self.norms)
        return tuple(
            Intervention(layer, self._unit(setting.method, layer) * (share * norm), gate)
            for layer, norm in enumerate(self.norms)
        )

    def _unit(self, name: str, layer: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(derive_seed(self.seed, name, layer))
        return normalize(torch.randn(self.width, generator=generator), dim=0)


def decoder_of(vectors: VectorSet) -> Decoder:
    """What decodes as the set's search did."""
    found, asked = vectors.provenance["found"], vectors.provenance["search"]
    assert isinstance(found, Mapping)
    assert isinstance(asked, Mapping)
    fields = {name: found[name] for name in SearchResolved.__slots__ if name in found}
    inputs = replace(inputs_from(asked, "demo"), device="cpu")
    search = load_inputs(inputs, from_json(SearchResolved, fields), recorded_in(fields, "demo"))
    return Decoder(search.loaded, search.sampling, search.prompt_format, search.grade)


def first_chance(as_good: int, pool: int) -> float:
    """The chance that none of `BESIDE` controls, drawn from the pool, is one of those that do as much."""
    if pool - as_good < BESIDE:
        return 0.0
    return math.comb(pool - as_good, BESIDE) / math.comb(pool, BESIDE)


Place = tuple[float, GateKind]
"""A strength without its sign, and a gate."""


def report(
    chosen: list[Setting], pools: dict[Place, list[Setting]], effect: dict[Setting, float], seed: int
) -> None:
    """A row for each place that calibration chose, and how often a calibrated vector is among the first."""
    count = len(next(iter(pools.values())))
    print(
        f"{'strength':>8} {'gate':>7} {'chosen by':>10} {'their effect':>13} {'uncalibrated':>13} {'best':>7}"
    )
    times = Counter((abs(one.strength), one.gate) for one in chosen)
    for each, pool in pools.items():
        own = [effect[one] for one in chosen if (abs(one.strength), one.gate) == each]
        rest = [effect[one] for one in pool]
        print(
            f"{each[0]:>8} {each[1]:>7} {times[each]:>10} {np.mean(own):>+13.3f} {np.mean(rest):>+13.3f} "
            f"{max(rest):>+7.3f}"
        )
    good = [sum(effect[other] >= effect[one] for other in pools[abs(one.strength), one.gate]) for one in chosen]
    first = np.array([first_chance(number, count) for number in good])
    share = np.array(good) / count
    rows = {"first of 20": first, "share that does as much": share}
    result: dict[str, object] = {"sets": len(chosen), "pool": count}
    for name, values in rows.items():
        low, high = bootstrap_mean_interval(values, 0.95, seed)
        print(f"{name}: {values.mean():.3f} ({low:.3f} to {high:.3f})")
        result[name.replace(" ", "_")] = [round(float(each), 4) for each in (values.mean(), low, high)]
    print(json.dumps(result))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=48)
    parser.add_argument("--pool", type=int, default=60)
    parser.add_argument("--test-problems", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="few sets and problems: rough")
    options = parser.parse_args()
    if options.quick:
        options.sets, options.pool, options.test_problems = 6, 24, 32
    if options.pool < BESIDE or options.sets < 1:
        parser.error(f"--pool must be at least {BESIDE}, and --sets at least 1.")
    torch.set_num_threads(1)
    vectors = load_vectors("demo")
    decoder = decoder_of(vectors)
    drawn = Drawn(vectors.model.hidden_size, vectors.residual_norms, vectors.vectors["all"].gate, options.seed)
    names = [f"set-{number}" for number in range(options.sets)]
    settings = [
        Setting("null", name, 0, sign * strength, gate)
        for name in names
        for strength in STRENGTHS
        for sign in (1, -1)
        for gate in GATES
    ]
    calibrate = demo_problems("calibrate", 64, options.seed, LEVELS)
    calibration = Evaluator(decoder, drawn, calibrate, 4, options.seed)
    lanes = race(settings, lambda setting: setting.method, calibration, len(calibrate))
    chosen = [lanes[name][0][0] for name in names]
    tried = sorted({(abs(one.strength), one.gate) for one in chosen})
    pools = {
        each: [Setting("null", f"pool-{number}", 0, *each) for number in range(options.pool)] for each in tried
    }
    test = demo_problems("test", options.test_problems, options.seed, LEVELS)
    evaluate = Evaluator(decoder, drawn, test, 2, options.seed)
    plain = evaluate.unsteered().success
    outcomes = evaluate([*chosen, *(one for pool in pools.values() for one in pool)], 0, len(test))

    print(f"unsteered {plain:.3f}, {len(test)} test problems x 2")
    effect = {setting: each.success - plain for setting, each in outcomes.items()}
    report(chosen, pools, effect, options.seed)


if __name__ == "__main__":
    main()
