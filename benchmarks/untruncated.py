"""The time of a sampling step with temperature 1 and no truncation, over that of softmax and multinomial.

    python benchmarks/untruncated.py [--rows 16] [--vocabulary 151936] [--rounds 15]

Both draw one token for each row from the same float32 logits. Theirs is softmax and torch.multinomial; ours is
the policy's step: distributions, draws by streams of the requests, each token's probability. They are timed in
turn, several times in one run; `untruncated_vs_torch` is the median of ours over the median of theirs.
The last line of the output is one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch

from pts.policies.transformers.distribution import draw, next_tokens
from pts.policies.transformers.draws import child_keys
from pts.records import Sampling

ROWS, VOCABULARY, ROUNDS = 16, 151_936, 15


def measure_untruncated(
    rows: int = ROWS, vocabulary: int = VOCABULARY, rounds: int = ROUNDS, seed: int = 0
) -> dict[str, float]:
    """Milliseconds a step of both, and `untruncated_vs_torch`, the ratio of ours to theirs."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(rows, vocabulary, generator=generator)
    sampling = Sampling(temperature=1.0, top_k=0, top_p=1.0)
    none, ones = np.full(rows, -1), np.ones(rows, dtype=np.int64)
    keys = child_keys(np.arange(rows, dtype=np.uint64), ones)

    def ours() -> None:
        draw(next_tokens(logits, sampling, none), keys, ones)

    def theirs() -> None:
        torch.multinomial(torch.softmax(logits, dim=-1), 1, generator=generator)

    taken: dict[Callable[[], None], list[float]] = {ours: [], theirs: []}
    for number in range(rounds + 1):
        for step, seconds in taken.items():
            started = time.perf_counter()
            step()
            if number:  # the first warms up
                seconds.append(time.perf_counter() - started)
    own, other = median(taken[ours]), median(taken[theirs])
    return {
        "untruncated_vs_torch": round(own / other, 3),
        "step_ms": round(1000 * own, 2),
        "torch_ms": round(1000 * other, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--vocabulary", type=int, default=VOCABULARY)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    found = measure_untruncated(args.rows, args.vocabulary, args.rounds)
    setting = {"rows": args.rows, "vocabulary": args.vocabulary, "threads": args.threads}
    print(json.dumps({**found, **setting}))


if __name__ == "__main__":
    main()
