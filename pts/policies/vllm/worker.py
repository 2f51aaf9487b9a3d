"""What `pts` adds to vLLM's worker, in its own process: a policy loads it, and no other vLLM does."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

LABEL = "pts"
"""The key in a request's extra arguments under which `pts` names its completion."""
DRAWN = "pts_drawn"
"""The key that says that `pts` draws the completion's tokens."""


class Row(NamedTuple):
    """One request's part of a forward pass: tokens `start` to `start + size` of the pass.

    The first of them is at position `first` of the request's sequence. `label` is None for a request that
    `pts` does not follow.
    """

    label: str | None
    start: int
    size: int
    first: int


class PtsWorker:
    """An extension of vLLM's worker (model runner V1). Every name is new to the worker."""

    model_runner: Any

    def pts_process(self) -> int:
        """The id of the worker's process."""
        return os.getpid()

    def pts_is_v2(self) -> bool:
        """Whether vLLM's model runner V2 is at work."""
        return bool(getattr(self, "use_v2_model_runner", False))

    def pts_model(self) -> Any:
        """The model, as vLLM built it."""
        return self.model_runner.get_model()

    def pts_give(self, drawer: Any) -> int:
        """Give what draws tokens to the logits processor that asks it; how many such processors there are."""
        processors = self.model_runner.input_batch.logitsprocs.non_argmax_invariant
        found = [processor for processor in processors if hasattr(processor, "pts_drawer")]
        for processor in found:
            processor.pts_drawer = drawer
        return len(found)

    def pts_rows(self) -> list[Row]:
        """The requests of the pass that is about to be made, in its order."""
        runner = self.model_runner
        batch, count = runner.input_batch, runner.input_batch.num_reqs
        bounds = runner.query_start_loc.np[: count + 1].tolist()
        computed = batch.num_computed_tokens_cpu[:count].tolist()
        rows = []
        for row, name in enumerate(batch.req_ids[:count]):
            extra = runner.requests[name].sampling_params.extra_args or {}
            size = bounds[row + 1] - bounds[row]
            rows.append(Row(extra.get(LABEL), bounds[row], size, computed[row]))
        return rows
