"""What the clustering of contrasts finds where clusters were planted, and where there are none.

    OMP_NUM_THREADS=1 python benchmarks/patterns.py [--quick] [--planted 60] [--noise 100]

Planted: 3 to 5 clusters of unequal size around random directions, 200 to 600 contrasts of width 128 to 1024;
the centres' norm is 1 or 0.5 of the noise's, whose spectrum decays. Noise: isotropic, with decaying spectra,
around a mean, and with heavy tails of several kinds, as many seeds each. `planted_rand` is the mean adjusted
Rand index, `null_specificity` the share of noise seeds with no structure found, `_worst` that of the kind with
the fewest. The last line of the output is one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from sklearn.metrics import adjusted_rand_score

from pts.steering.clusters import cluster_contrasts

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

SEPARATIONS = (1.0, 0.5)
PLANTED_SHAPES = tuple((n, hidden) for hidden in (128, 512, 1024) for n in (200, 300, 600))
NOISE_SHAPES = ((150, 128), (300, 512), (600, 256))


def powers(hidden: int, exponent: float) -> Floats:
    """Standard deviations [hidden] that decay as a power."""
    return np.arange(1, hidden + 1) ** -exponent


def student(rng: np.random.Generator, n: int, hidden: int) -> Floats:
    """Rows of a multivariate Student distribution (three degrees of freedom): a row is large as a whole."""
    normal = rng.standard_normal((n, hidden)) * powers(hidden, 0.5)
    return normal / np.sqrt(rng.chisquare(3, (n, 1)) / 3)


NOISE: dict[str, Callable[[np.random.Generator, int, int], Floats]] = {
    "isotropic": lambda rng, n, h: rng.standard_normal((n, h)),
    "decaying": lambda rng, n, h: rng.standard_normal((n, h)) * powers(h, 0.5),
    "steep": lambda rng, n, h: rng.standard_normal((n, h)) * powers(h, 1.0),
    "few dimensions": lambda rng, n, h: rng.standard_normal((n, h)) * 0.7 ** np.arange(h),
    "around a mean": lambda rng, n, h: (
        (rng.standard_normal((n, h)) + 3 * rng.standard_normal(h)) * powers(h, 0.5)
    ),
    "student rows": student,
    "student entries": lambda rng, n, h: rng.standard_t(3, (n, h)),
    "student decaying": lambda rng, n, h: rng.standard_t(3, (n, h)) * powers(h, 0.5),
    "laplace decaying": lambda rng, n, h: rng.laplace(size=(n, h)) * powers(h, 0.5),
}


def planted(rng: np.random.Generator, k: int, n: int, hidden: int, separation: float) -> tuple[Floats, Ints]:
    """Contrasts [n, hidden], and their clusters [n]: k centres of norm `separation`, noise of about 1."""
    sizes = np.maximum(rng.dirichlet(np.full(k, 4.0)), 0.08)
    labels = rng.choice(k, n, p=sizes / sizes.sum())
    centres = rng.standard_normal((k, hidden))
    centres *= separation / np.linalg.norm(centres, axis=1, keepdims=True)
    spread = powers(hidden, 0.35)
    noise = rng.standard_normal((n, hidden)) * spread / np.linalg.norm(spread)
    return centres[labels] + noise, labels


def agreement(left: Ints, right: Ints) -> float:
    return float(adjusted_rand_score(left, right))


def measure_planted(count: int) -> list[float]:
    found = []
    for seed in range(count):
        separation = SEPARATIONS[seed % len(SEPARATIONS)]
        n, hidden = PLANTED_SHAPES[(seed // 2) % len(PLANTED_SHAPES)]
        k = 3 + (seed // 2 + seed // 18) % 3
        contrasts, labels = planted(np.random.default_rng(seed), k, n, hidden, separation)
        started = time.perf_counter()
        clusters = cluster_contrasts(contrasts, seed)
        found.append(agreement(clusters.labels, labels))
        print(
            f"planted {k} in {n:4d} x {hidden:4d}, separation {separation:.1f}: found {clusters.k}, "
            f"adjusted Rand {found[-1]:.3f}, p {clusters.p_value:.0e}, {time.perf_counter() - started:.1f} s"
        )
    return found


def measure_noise(count: int) -> dict[str, float]:
    specificity = {}
    for name, draw in NOISE.items():
        none = []
        for seed in range(count):
            n, hidden = NOISE_SHAPES[seed % len(NOISE_SHAPES)]
            none.append(cluster_contrasts(draw(np.random.default_rng(seed), n, hidden), seed).k == 1)
        specificity[name] = float(np.mean(none))
        print(f"{name:18s} no structure in {sum(none)} of {count}", flush=True)
    return specificity


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="six planted sets, two seeds of each noise")
    parser.add_argument("--planted", type=int, default=60, help="planted sets")
    parser.add_argument("--noise", type=int, default=100, help="seeds of each kind of noise")
    options = parser.parse_args()
    rand = measure_planted(6 if options.quick else options.planted)
    specificity = measure_noise(2 if options.quick else options.noise)
    print(
        json.dumps(
            {
                "planted_rand": round(float(np.mean(rand)), 3),
                "planted_recovered": round(float(np.mean(np.array(rand) >= 0.9)), 3),
                "null_specificity": round(float(np.mean(list(specificity.values()))), 3),
                "null_specificity_worst": round(min(specificity.values()), 3),
            }
        )
    )


if __name__ == "__main__":
    main()
