"""optillm's AutoThink hook and ours in the same loop of one row, with as many stored vectors."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any

import torch
from rounds import Clock, Took, in_turn, ratio
from steering_bench import Bench, installed
from transformers.cache_utils import DynamicCache

from pts.decoding.context_match import Contexts, Trail
from pts.steering.hooks import Intervention

CONTEXT_TOKENS = 60
"""Tokens of a stored record's context: those of the searches that `results/` describes are about as long."""
SUFFIXES = (4, 8, 12, CONTEXT_TOKENS)
"""Ends of a context that count as a match, as in `pts.decoding.autothink`."""


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


class OneRow:
    """A plain loop that goes on from a prompt by one row, token by token, always from the same cache."""

    def __init__(self, bench: Bench) -> None:
        self.bench, self.ids = bench, bench.prompts(1, CONTEXT_TOKENS + 4)
        self._cache = DynamicCache()
        with torch.inference_mode():
            logits = bench.model(input_ids=self.ids, past_key_values=self._cache).logits
        self._first = int(logits[0, -1].argmax())

    @torch.inference_mode()
    def decode(self, told: Callable[[int], object]) -> Took:
        """`told` hears of each token before it is read."""
        clock, token = Clock(self.bench.model), self._first
        clock.mark()
        for _ in range(self.bench.steps[1]):
            told(token)
            read = torch.tensor([[token]], device=self.ids.device)
            logits = self.bench.model(input_ids=read, past_key_values=self._cache, use_cache=True).logits
            token = int(logits[0, -1].argmax())
        clock.mark()
        self._cache.crop(-self.bench.steps[1])
        return clock.took


def optillms_way(
    row: OneRow, optillm: ModuleType, records: Sequence[Mapping[str, Any]], matched: bool
) -> Callable[[], Took]:
    """The loop with optillm's hook, told of prompt and tokens as its decoder does."""
    bench = row.bench
    tokenizer = bench.tokenizer
    manager = optillm.SteeringVectorManager("", target_layer=bench.layers // 2)
    manager.steering_vectors = [manager._process_dataset_item(dict(record)) for record in records]
    manager.create_tokenized_contexts(tokenizer)
    prompt = row.ids[0].tolist()

    def decode() -> Took:
        hooks = optillm.install_steering_hooks(bench.model, manager, tokenizer)
        hook = hooks[0][0]
        hook.update_token_history(prompt)
        hook.update_context(tokenizer.decode(prompt))
        hook.try_match()
        if matched:
            hook.current_vector = manager.steering_vectors[0]
            hook.active_pattern, hook.match_found = "exploration", True

        def told(token: int) -> None:
            hook.update_token_history([token])
            hook.update_token_history([token])
            hook.update_context(tokenizer.decode([token]))
            hook.try_match()

        try:
            return row.decode(told)
        finally:
            optillm.remove_steering_hooks(hooks)
            assert matched or hook.active_pattern is None, "a random context matched: it no longer searches"

    return decode


def our_way(row: OneRow, records: Sequence[Mapping[str, Any]]) -> Callable[[], Took]:
    """The loop with our hook on, and the search for the records' contexts that `autothink_decode` makes."""
    bench = row.bench
    layer, stored = bench.layers // 2, len(records)
    steering, setup = bench.prepare(
        [[Intervention(layer, torch.tensor(record["steering_vector"]))] for record in records]
    )
    steering.rows = [stored]
    steering.prompt_tokens = row.ids.shape[1]
    known = [
        tuple(bench.tokenizer.encode(record["pivot_context"], add_special_tokens=False)) for record in records
    ]
    contexts = Contexts(
        {ids[-size:]: at for size in SUFFIXES for at, ids in enumerate(known, start=1)}, lasting=True
    )
    prompt = tuple(row.ids[0].tolist())
    print(f"  {stored} vectors: setup {setup:.0f} ms")

    def decode() -> Took:
        trail = Trail(contexts, prompt)
        with installed(steering):
            took = row.decode(trail.hear)
        assert trail.steered(0) == 0, "a random context matched: it no longer searches"
        return took

    return decode


def against_optillm(
    bench: Bench, optillm: ModuleType, counts: Sequence[int], seconds: float, least: int
) -> dict[str, Any]:
    """Microseconds of a token by each way and number of stored vectors, and our speed over optillm's."""
    row, records = OneRow(bench), stored_records(bench, max(counts))
    tasks = {"unsteered": lambda: row.decode(lambda _: None)}
    for count in counts:
        tasks[f"ours {count}"] = our_way(row, records[:count])
        tasks[f"searching {count}"] = optillms_way(row, optillm, records[:count], matched=False)
    tasks["matched"] = optillms_way(row, optillm, records[: counts[0]], matched=True)
    taken = in_turn(tasks, seconds, least)
    plain = taken["unsteered"]

    def cost(name: str) -> int:
        pairs = zip(taken[name], plain, strict=True)
        return round(1e6 * median(took.cpu - base.cpu for took, base in pairs) / bench.steps[1])

    def over(name: str, ours: str) -> float:
        return round(ratio(taken[name], taken[ours]).middle, 3)

    found: dict[str, Any] = {
        "rounds": len(plain),
        "us_a_token": {name: cost(name) for name in tasks if name != "unsteered"},
        "ours_vs_unsteered": {count: over("unsteered", f"ours {count}") for count in counts},
        "vs_searching": {count: over(f"searching {count}", f"ours {count}") for count in counts},
        "vs_matched": {count: over("matched", f"ours {count}") for count in counts},
        "flat": over(f"ours {counts[0]}", f"ours {counts[-1]}"),
    }
    for name, value in found.items():
        print(f"  {name:18s} {value}")
    return found
