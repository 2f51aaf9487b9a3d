"""On a CUDA device, without a network: what is right there, how fast rollouts are, and a real model's search.

    python benchmarks/gpu.py [--parts tests speed real] [--output DIR]
    python benchmarks/gpu.py --dry-run          # the speed part with tiny shapes on the CPU: nothing is claimed

Parts, each with one line of JSON:
- `tests`: `pytest -m gpu tests/gpu`.
- `speed`: models of random weights with the shapes of Qwen3-0.6B and Qwen3-8B in bfloat16. Rollouts start from
  positions spread over one trace; `generate` draws from such a prefix, five samples at a time as searches of
  this kind do (`ratio_5`), and as many samples of one prefix at once as the policy has rows (`ratio_wide`).
  Only generated tokens count. `bandwidth_share` is the time that the bytes of a pass (weights, keys and values
  of the rows) take at the bandwidth of a large copy on this device, over the time that the pass took.
- `real`: `pts search` of `--model` on `--dataset` for `--minutes`; its summary.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from pts.models.load import LoadedModel
from pts.policies.transformers import TransformersPolicy
from pts.records import RolloutRequest, Sampling, TokenIds

ROOT = Path(__file__).parents[1]
END = 1


@dataclass(frozen=True, slots=True)
class Shape:
    """A model's sizes, and how much is drawn: positions of a trace, rollouts of each, tokens at most."""

    hidden: int
    mlp: int
    layers: int
    heads: int
    kv_heads: int
    tied: bool
    vocabulary: int = 151_936
    head_size: int = 128
    positions: int = 16
    rollouts: int = 32
    trace: int = 256
    budget: int = 320


SHAPES = {
    "qwen3-0.6b": Shape(1024, 3072, 28, 16, 8, tied=True),
    "qwen3-8b": Shape(4096, 12288, 36, 32, 8, tied=False),
}
TINY = {"tiny": Shape(64, 128, 2, 4, 2, True, 512, 16, positions=4, rollouts=3, trace=24, budget=40)}


def random_model(shape: Shape, device: str, dtype: torch.dtype) -> LoadedModel:
    """A Qwen3 of random weights; its logits are some units apart, so that sampling has few choices."""
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.mlp,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_size,
        max_position_embeddings=8192,
        initializer_range=2.4 / shape.hidden**0.5,
        tie_word_embeddings=shape.tied,
        eos_token_id=END,
    )
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            model = Qwen3ForCausalLM(config).eval().requires_grad_(False)
    finally:
        torch.set_default_dtype(before)
    model.generation_config.eos_token_id = END
    model.generation_config.pad_token_id = 0
    return LoadedModel(model, None, "random", None, model.device, dtype, frozenset({END}))


def copy_bandwidth(device: str) -> float:
    """Bytes a second, read and written, of a large copy on the device."""
    source = torch.empty(1 << (30 if device == "cuda" else 24), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    for _ in range(3):
        target.copy_(source)
    synchronize(device)
    started = time.perf_counter()
    for _ in range(20):
        target.copy_(source)
    synchronize(device)
    return 20 * 2 * source.numel() / (time.perf_counter() - started)


def synchronize(device: str) -> None:
    """Wait for the device."""
    if device == "cuda":
        torch.cuda.synchronize()


def ids(count: int, shape: Shape, seed: int) -> TokenIds:
    """Random ids, none of which ends a completion."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randint(2, shape.vocabulary, (count,), generator=generator).tolist())


def generated(loaded: LoadedModel, begun: TokenIds, samples: int, new: int, sampling: Sampling) -> int:
    """Tokens that `generate` draws from one prefix, those after an end token left out."""
    inputs = torch.tensor([begun], device=loaded.device)
    output = loaded.model.generate(
        inputs,
        attention_mask=torch.ones_like(inputs),
        do_sample=True,
        temperature=sampling.temperature,
        top_k=sampling.top_k,
        top_p=sampling.top_p,
        max_new_tokens=new,
        num_return_sequences=samples,
    )[:, len(begun) :]
    ended = output == END
    return int((ended.cumsum(1) - ended.long() == 0).sum())


def speed(name: str, shape: Shape, device: str, dtype: torch.dtype, limit_s: float) -> dict[str, object]:
    """Tokens a second of the policy and of `generate`, and how near a pass is to the memory's bandwidth."""
    loaded = random_model(shape, device, dtype)
    sampling = Sampling(budget=shape.budget)
    policy = TransformersPolicy(loaded)
    prompt, trace = ids(64, shape, 1), ids(shape.trace, shape, 2)
    places = [index * shape.trace // shape.positions for index in range(shape.positions)]
    requests = [
        RolloutRequest(prompt, trace[:at], n=shape.rollouts, seed=at, key=str(at), sampling=sampling)
        for at in places
    ]
    list(policy.rollouts(requests[-2:]))
    synchronize(device)
    before, started = policy.work, time.perf_counter()
    for _ in policy.rollouts(requests):
        pass
    synchronize(device)
    seconds, after = time.perf_counter() - started, policy.work
    tokens = after.tokens_delivered - before.tokens_delivered
    rows = after.rows_forwarded - before.rows_forwarded
    passes = after.forward_passes - before.forward_passes
    weights = sum(each.numel() * each.element_size() for each in loaded.model.parameters())
    each = 2 * shape.layers * shape.kv_heads * shape.head_size * dtype.itemsize
    # Rows stand, on average, half way between where they begin and the budget.
    width = 64 + (sum(places) / len(places) + shape.budget) / 2
    floor = (weights * passes + rows * width * each) / copy_bandwidth(device)
    five, wide = [], []
    for at, samples, kept in ((places[len(places) // 2], 5, five), (places[-1], rows // passes, wide)):
        clock = time.perf_counter()
        count = 0
        while not count or time.perf_counter() - clock < limit_s / 2:
            new = min(shape.budget - at, 64)
            count += generated(loaded, prompt + trace[:at], samples, new, sampling)
        synchronize(device)
        kept.append(count / (time.perf_counter() - clock))
    # Once more under a profiler, which slows it down: only where the time goes is read off that.
    profile = cProfile.Profile()
    profile.runcall(list, policy.rollouts(requests[-4:]))
    stats = pstats.Stats(profile)
    slowest = sorted(stats.stats.items(), key=lambda entry: -entry[1][2])[:12]  # type: ignore[attr-defined]
    for (file, line, function), (_, calls, own, _, _) in slowest:
        print(f"    {own:7.2f} s {calls:9,} × {Path(file).name}:{line} {function}")
    return {
        "shape": name,
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "dtype": str(dtype).removeprefix("torch."),
        "tokens_per_s": round(tokens / seconds),
        "generate_5_tokens_per_s": round(five[0]),
        "generate_wide_tokens_per_s": round(wide[0]),
        "ratio_5": round(tokens / seconds / five[0], 2),
        "ratio_wide": round(tokens / seconds / wide[0], 2),
        "bandwidth_share": round(floor / seconds, 3),
        "ms_per_pass": round(1000 * seconds / passes, 2),
        "rows_per_pass": round(rows / passes, 1),
        "seconds": round(seconds, 2),
    }


def real(model: str, dataset: str, minutes: float, output: Path, extra: list[str]) -> dict[str, object]:
    """A search of a real model for some minutes, stopped as Ctrl-C stops it; what it found."""
    command = [sys.executable, "-m", "pts", "search", "--model", model, "--dataset", dataset]
    command += ["--output", str(output), *extra]
    stopped = ["timeout", "--signal=INT", "--kill-after=60", f"{60 * minutes:.0f}", *command]
    started = time.perf_counter()
    done = subprocess.run(stopped, cwd=ROOT, check=False)
    seconds = time.perf_counter() - started
    shown = subprocess.run(
        [sys.executable, "-m", "pts", "show", str(output), "--json"],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    summary = json.loads(shown.stdout)["summary"] if shown.returncode == 0 else {"error": shown.stderr[-500:]}
    return {"exit": done.returncode, "minutes": round(seconds / 60, 1), "summary": summary}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=("tests", "speed", "real"), default=["tests", "speed"])
    parser.add_argument("--shapes", nargs="+", choices=list(SHAPES), default=list(SHAPES))
    parser.add_argument("--model", help="of the part real: a file, a directory or a Hub id")
    parser.add_argument("--dataset", help="of the part real")
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--limit", type=float, default=20, help="seconds that generate gets for each shape")
    parser.add_argument("--output", type=Path, default=Path("gpu-run"))
    parser.add_argument("--dry-run", action="store_true", help="tiny shapes on the CPU")
    parser.add_argument("extra", nargs="*", help="after --: options of pts search")
    args = parser.parse_args()
    device = "cpu" if args.dry_run else "cuda"
    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("there is no CUDA device; --dry-run shows on the CPU what would be done.")
    if "tests" in args.parts:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "gpu", "tests/gpu"]
        done = subprocess.run(command, cwd=ROOT, check=False)
        print(
            json.dumps({"tests": "passed" if done.returncode == 0 else f"exit {done.returncode}"}), flush=True
        )
    if "speed" in args.parts:
        shapes = TINY if args.dry_run else {name: SHAPES[name] for name in args.shapes}
        dtype = torch.float32 if args.dry_run else torch.bfloat16
        for name, shape in shapes.items():
            print(json.dumps(speed(name, shape, device, dtype, 1 if args.dry_run else args.limit)), flush=True)
            if device == "cuda":
                torch.cuda.empty_cache()
    if "real" in args.parts:
        if not args.model or not args.dataset:
            raise SystemExit("the part real needs --model and --dataset.")
        print(json.dumps(real(args.model, args.dataset, args.minutes, args.output, args.extra)), flush=True)


if __name__ == "__main__":
    main()
