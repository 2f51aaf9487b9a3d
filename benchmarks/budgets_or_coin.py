"""Success of fixed budgets, less that of a coin between `nothink` and `full` that costs as many tokens.

    python benchmarks/budgets_or_coin.py RUN

RUN is the directory of a `pts eval` with these strategies and one answer a problem. Intervals are 95%
bootstraps over problems. The last line counts the problems that `nothink` solved among those that `full`
solved, and others.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import numpy.typing as npt

DRAWS = 4000


def main() -> None:
    found: dict[str, dict[str, tuple[float, float]]] = defaultdict(dict)
    for text in (Path(sys.argv[1]) / "items.jsonl").read_text(encoding="utf-8").splitlines():
        item = json.loads(text)
        tokens = item["ledger"]["thinking"] + item["ledger"]["answer"]
        found[item["line"]][item["problem"]] = (float(item["success"]), float(tokens))
    problems = sorted(found["full"])
    tables = {
        name: np.array([rows[problem] for problem in problems])
        for name, rows in found.items()
        if len(rows) == len(problems)
    }
    rng = np.random.default_rng(0)

    def gain(name: str, rows: npt.NDArray[np.int64]) -> float:
        few, budget, full = (tables[each][rows].mean(axis=0) for each in ("nothink", name, "full"))
        share = (budget[1] - few[1]) / (full[1] - few[1])
        return float(budget[0] - few[0] - share * (full[0] - few[0]))

    for name in (each for each in tables if each.startswith("budget:")):
        drawn = [gain(name, rng.integers(0, len(problems), len(problems))) for _ in range(DRAWS)]
        low, high = np.quantile(drawn, [0.025, 0.975])
        print(f"{name} {gain(name, np.arange(len(problems))):+.3f} ({low:+.3f} to {high:+.3f})")
    full, none = tables["full"][:, 0], tables["nothink"][:, 0]
    both, alone = (full * none).sum(), (none * (1 - full)).sum()
    print(f"full {full.sum():.0f}, of them nothink {both:.0f}; nothink alone {alone:.0f}")


if __name__ == "__main__":
    main()
