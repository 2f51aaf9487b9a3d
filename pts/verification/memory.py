"""Do the caches keep within the bytes that they are granted, with the same results?"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch

from pts.models.load import LoadedModel
from pts.policies import policy_of
from pts.verification.report import CheckResult, judged, skipped
from pts.verification.subject import Subject

NAME = "memory grant"
_ROWS = 48
"""Different completions that are drawn at once."""
_TOKENS = 10
_LEAST = 1 << 20
"""Bytes of the smallest grant: below, the logits of a single step are more than it."""
_SLACK = 1.15
"""What the peak may be, over the grant and beside what a single row takes."""

T = TypeVar("T")


def check_memory(subject: Subject) -> CheckResult:
    """Grant a third of what a batch takes when it is free to grow: it must keep to that and give the same."""
    if subject.loaded is None:
        return skipped(NAME, "the engine keeps its own account of memory")
    loaded = subject.loaded
    if loaded.device.type not in ("cpu", "cuda"):
        return skipped(NAME, f"the peak of memory cannot be read on {loaded.device.type}")
    short = replace(subject.sampling, temperature=1.0, top_k=20, top_p=1.0, min_p=0.0, budget=_TOKENS)
    own = replace(subject, sampling=short)

    def drawn(rows: int, grant: int | None) -> list[list[tuple[tuple[int, ...], int]]]:
        policy = policy_of(loaded, subject.prompt_format, memory_bytes=grant)
        asked = [
            own.request(own.prompts[row % len(own.prompts)], seed=subject.seed + 600 + row)
            for row in range(rows)
        ]
        found = replace(own, policy=policy).completed(asked)
        return [[(one.completion, one.count) for one in rollouts] for rollouts in found]

    _, single = _with_peak(loaded, lambda: drawn(1, None))
    free, peak = _with_peak(loaded, lambda: drawn(_ROWS, None))
    grant = max(_LEAST, (peak - single) // 3)
    bound, within = _with_peak(loaded, lambda: drawn(_ROWS, grant))
    taken = max(0, within - single)
    same = sum(one == other for one, other in zip(free, bound, strict=True))
    figures = (
        f"granted {_size(grant)} (a third of what {_ROWS} rows take freely): the peak was {_size(taken)}, "
        f"{same} of {_ROWS} completions are the same"
    )
    return judged(NAME, taken <= _SLACK * grant and (same == _ROWS or not subject.exact), figures)


def _with_peak(loaded: LoadedModel, work: Callable[[], T]) -> tuple[T, int]:
    """What `work` returns, and the most bytes of tensors at once during it beyond those before it."""
    if loaded.device.type == "cuda":
        torch.cuda.synchronize(loaded.device)
        torch.cuda.reset_peak_memory_stats(loaded.device)
        before = torch.cuda.memory_allocated(loaded.device)
        result = work()
        torch.cuda.synchronize(loaded.device)
        return result, torch.cuda.max_memory_allocated(loaded.device) - before
    return _with_peak_on_cpu(work)


def _with_peak_on_cpu(work: Callable[[], T]) -> tuple[T, int]:
    """The same on a CPU, by the events that PyTorch's profiler records of its allocator."""
    # The profiler's own messages, which it would write to stderr.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        result = work()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    held = peak = 0
    for event in sorted((e for e in events if e.get("name") == "[memory]"), key=lambda e: e["ts"]):
        held += event["args"]["Bytes"]
        peak = max(peak, held)
    return result, peak


def _size(count: int) -> str:
    return f"{count / (1 << 20):.1f} MiB"
