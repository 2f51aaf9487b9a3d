"""Where a search's time goes: seconds in each part, what it calls of the other parts left out.

    python benchmarks/search_profile.py [--quick] [--model demo] [--dataset demo] [--problems 24] [--budget 96]

The model's forward pass is to be the only part above 15%. The last line of the output is one line of JSON.
"""

from __future__ import annotations

import argparse
import functools
import json
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from pts.graders import make_grader
from pts.models.hardware import settle_threads
from pts.models.load import ModelOptions, load_model
from pts.models.prompt import PromptFormat
from pts.models.thinking import find_think_tags
from pts.pivot_search import SearchConfig, confirm, grades, screen, search_problems
from pts.policies.transformers import TransformersPolicy, engine, policy
from pts.policies.transformers.batch import Batch
from pts.policies.transformers.cache import RowStore
from pts.policies.transformers.engine import Engine
from pts.policies.transformers.prefill import PrefixStore
from pts.problems import ProblemSource, load_problems
from pts.records import Sampling

PARTS: tuple[tuple[Any, str, str], ...] = (
    (engine, "next_tokens", "sampling"),
    (policy, "truncate", "sampling"),
    (engine, "child_keys", "sampling"),
    (RowStore, "resize", "rows' cache"),
    (RowStore, "load", "rows' cache"),
    (RowStore, "copy", "rows' cache"),
    (Engine, "_step", "rows' bookkeeping"),
    (Engine, "_admit", "rows' bookkeeping"),
    (Batch, "take_branches", "rows' bookkeeping"),
    (Batch, "compact", "rows' bookkeeping"),
    (PrefixStore, "prefilled", "prefix store"),
    (screen, "believe", "screen: belief"),
    (screen, "off_trace_counts", "screen: counts"),
    (screen.TraceScreen, "_allocate", "screen: allocation"),
    (screen, "expected_cost", "screen: allocation"),
    (confirm.Confirmation, "add", "confirmation: statistics"),
    (grades.CompletionGrades, "success", "decoding and grading"),
)


class Clock:
    """Time by part, each without the parts that it calls."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._since = time.perf_counter()
        self._stack = ["the rest"]

    def _switch(self) -> None:
        now = time.perf_counter()
        self.seconds[self._stack[-1]] += now - self._since
        self._since = now

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, its time booked to `part`."""

        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            self._switch()
            self._stack.append(part)
            try:
                return function(*args, **kwargs)
            finally:
                self._switch()
                self._stack.pop()

        return run

    def stop(self) -> dict[str, float]:
        """Seconds by part, most first."""
        self._switch()
        return dict(sorted(self.seconds.items(), key=lambda part: -part[1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a quarter of the problems")
    parser.add_argument("--model", default="demo")
    parser.add_argument("--dataset", default="demo")
    parser.add_argument("--suffix")
    parser.add_argument("--problems", type=int, default=24)
    parser.add_argument("--budget", type=int, default=96)
    parser.add_argument(
        "--all", action="store_true", help="search problems that are never or always solved too"
    )
    options = parser.parse_args()
    count = max(1, options.problems // 4) if options.quick else options.problems
    loaded = load_model(ModelOptions(options.model))
    settle_threads(loaded.device, loaded.model.num_parameters())
    source = ProblemSource(options.dataset, limit=count)
    problems = load_problems(source)
    tags = find_think_tags(loaded.tokenizer, None, None)
    grader = make_grader(problems.grader, think_end=None if tags is None else tags.end)
    prompt_format = PromptFormat(suffix=options.suffix)
    drawing = TransformersPolicy(loaded, prompt_format)
    sampling = Sampling(budget=options.budget)
    # Imports and warms up.
    list(search_problems(problems.problems[:1], drawing, grader, SearchConfig(seed=9, sampling=sampling)))
    config = SearchConfig(value_range=(0.0, 1.0) if options.all else (0.2, 0.8), sampling=sampling)
    clock = Clock()
    loaded.model.forward = clock.timed("the model's forward pass", loaded.model.forward)
    for owner, name, part in PARTS:
        setattr(owner, name, clock.timed(part, getattr(owner, name)))
    before, clock._since = drawing.work, time.perf_counter()
    results = list(search_problems(problems.problems, drawing, grader, config))
    parts, after = clock.stop(), drawing.work
    total = sum(parts.values())
    for part, seconds in parts.items():
        print(f"{part:28s}{seconds:8.2f} s{seconds / total:7.1%}")
    tokens = sum(result.tokens_generated for result in results)
    rows = after.rows_forwarded - before.rows_forwarded
    passes = after.forward_passes - before.forward_passes
    print(f"{total:.1f} s, {tokens:,} tokens, {rows:,} rows in {passes:,} passes ({rows / passes:.0f} a pass)")
    shares = {part: round(seconds / total, 4) for part, seconds in parts.items()}
    others = [share for part, share in shares.items() if part != "the model's forward pass"]
    print(
        json.dumps(
            {
                "model": options.model if options.model == "demo" else "other",
                "forward_share": shares["the model's forward pass"],
                "largest_other_share": max(others),
                "tokens_per_s": round(tokens / total),
                "tokens_per_row": round(tokens / rows, 2),
                "shares": shares,
            }
        )
    )


if __name__ == "__main__":
    main()
