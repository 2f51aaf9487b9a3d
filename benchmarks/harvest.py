"""Activations a second of the harvest at every layer, beside forward passes alone over the same prefixes.

    python benchmarks/harvest.py [--model PATH.gguf] [--quick]

The pairs are random token ids of the lengths that a search's prefixes have, so no search is needed. The forward
passes alone are what reading the prefixes costs in any way: the same batches, no cache, the last position's
logits. Both are timed in turn, several times in one run. `harvest_vs_forward` is the median over the rounds of
the passes' time over the harvest's, `of_processor_time` the same without what other work took of the machine.
`peak_memory_ratio` is the peak resident memory of a process that harvests ten times `--few` pairs over that of
one that harvests `--few`, on the demo model. The last line of the output is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from safetensors import safe_open

from pts.models.decoder_layers import decoder_layers
from pts.models.hardware import settle_threads
from pts.models.load import ModelOptions, load_model
from pts.steering.harvest import harvest
from pts.steering.pairs import Choice, Pair
from pts.steering.prefixes import prefix_batches

LENGTHS = {"demo": ((14, 19), 11, 56), "other": ((60, 120), 20, 127)}
"""Tokens of a prompt (from, below), and of the completion before a pivot (mean, most): in the searches that
`results/` describes the demo's are these, SmolLM2's on SVAMP shorter."""
PROBLEM_PAIRS = 4


def random_pairs(count: int, vocabulary: int, lengths: str, seed: int = 0) -> list[Pair]:
    """Pairs with random ids, a few for each prompt, as a search gives them."""
    rng = np.random.default_rng(seed)
    prompts, mean, most = LENGTHS[lengths]
    pairs = []
    for index in range(count):
        if index % PROBLEM_PAIRS == 0:
            prompt = tuple(rng.integers(1, vocabulary, rng.integers(*prompts)).tolist())
        prefix = tuple(rng.integers(1, vocabulary, min(most, int(rng.exponential(mean)))).tolist())
        better, worse = (
            Choice(int(token), "", 0.5, value, 24)
            for token, value in zip(rng.integers(1, vocabulary, 2), (0.9, 0.2), strict=True)
        )
        name = f"p{index // PROBLEM_PAIRS}"
        pairs.append(Pair(index, name, prompt, prefix, better, worse, index % 2 == 0, 0.5, 0.4, "", ""))
    return pairs


@torch.inference_mode()
def read_alone(model: Any, pairs: list[Pair]) -> None:
    """Read the prefixes and nothing else."""
    for batch in prefix_batches(model, pairs):
        model(
            input_ids=batch.ids,
            attention_mask=batch.mask,
            position_ids=batch.positions,
            use_cache=False,
            logits_to_keep=1,
        )
    if model.device.type == "cuda":
        torch.cuda.synchronize()


def harvest_all(model: Any, pairs: list[Pair]) -> int:
    """Harvest every layer to a folder that is then deleted; how many activations [hidden] that gave."""
    with tempfile.TemporaryDirectory() as folder:
        found = harvest(model, pairs, Path(folder))
        return sum(rows(path) for path in found.shards) * len(found.layers)


def rows(path: Path) -> int:
    """Places whose activations a shard holds, at each layer."""
    with safe_open(path, "pt") as shard:
        kinds = ("before", "better", "worse", "ordinary")
        return sum(int(shard.get_slice(kind).get_shape()[0]) for kind in kinds)


@dataclass(frozen=True)
class Took:
    """Seconds on the clock and of the processor, and what came of them."""

    wall: float
    cpu: float
    result: Any


def timed(work: Callable[[], Any]) -> Took:
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return Took(time.perf_counter() - wall, time.process_time() - cpu, result)


def measure_speed(model: Any, pairs: list[Pair], rounds: int) -> dict[str, float]:
    """Both in turn; which is first changes from round to round."""
    tasks = [lambda: read_alone(model, pairs), lambda: harvest_all(model, pairs)]
    for task in tasks:
        task()
    taken: list[list[Took]] = [[], []]
    for number in range(rounds):
        for kind in (0, 1) if number % 2 == 0 else (1, 0):
            taken[kind].append(timed(tasks[kind]))
    forwards, harvests = taken
    both = list(zip(forwards, harvests, strict=True))
    for number, (alone, harvested) in enumerate(both, start=1):
        ratio = alone.wall / harvested.wall
        seconds = f"forward {alone.wall:6.2f} s, harvest {harvested.wall:6.2f} s"
        print(f"round {number:2d}: {seconds}, ratio {ratio:.3f}")
    ratios = [alone.wall / harvested.wall for alone, harvested in both]
    return {
        "harvest_vs_forward": round(median(ratios), 3),
        "of_processor_time": round(median(alone.cpu / harvested.cpu for alone, harvested in both), 3),
        "lowest": round(min(ratios), 3),
        "highest": round(max(ratios), 3),
        "activations_per_s": round(harvests[0].result / median(took.wall for took in harvests)),
    }


def peak_memory(count: int) -> int:
    """Peak resident bytes of a process that harvests `count` pairs with the demo model."""
    child = subprocess.Popen(
        [sys.executable, __file__, "--only-harvest", str(count)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise RuntimeError(f"the harvest of {count} pairs failed with status {status}")
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--pairs", type=int, help="pairs of a round  [default: 512; 16 for other models]")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--few", type=int, default=1000, help="pairs of the smaller process for memory")
    parser.add_argument("--no-memory", action="store_true", help="leave the memory out")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--quick", action="store_true", help="under a minute: 3 rounds, 100 for --few")
    parser.add_argument("--only-harvest", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    loaded = load_model(ModelOptions(args.model, dtype=args.dtype))
    settle_threads(loaded.device, loaded.model.num_parameters())
    demo = args.model == "demo"
    lengths = "demo" if demo else "other"
    vocabulary = int(loaded.model.config.get_text_config(decoder=True).vocab_size)
    if args.only_harvest is not None:
        harvest_all(loaded.model, random_pairs(args.only_harvest, vocabulary, lengths))
        return
    count = args.pairs or (512 if demo else 16)
    rounds, few = args.rounds, args.few
    if args.quick:
        count, rounds, few = count if demo else min(count, 4), min(rounds, 3), min(few, 100)
    pairs = random_pairs(count, vocabulary, lengths)
    result: dict[str, object] = dict(measure_speed(loaded.model, pairs, rounds))
    if demo and not args.no_memory:
        small, large = peak_memory(few), peak_memory(10 * few)
        print(f"peak memory: {few} pairs {small / 2**20:.0f} MiB, {10 * few} pairs {large / 2**20:.0f} MiB")
        result |= {
            "peak_memory_ratio": round(large / small, 3),
            "peak_mib": round(large / 2**20),
            "memory_pairs": [few, 10 * few],
        }
    setting = {
        "model": args.model if demo else Path(args.model).name,
        "dtype": str(loaded.dtype).removeprefix("torch."),
        "device": str(loaded.device),
        "threads": torch.get_num_threads(),
        "pairs": count,
        "mean_prefix_tokens": round(float(np.mean([len(pair.ids) for pair in pairs])), 1),
        "layers": len(decoder_layers(loaded.model)),
    }
    print(json.dumps({**result, **setting}))


if __name__ == "__main__":
    main()
