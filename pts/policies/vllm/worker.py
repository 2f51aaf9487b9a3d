"""What `pts` adds to vLLM's worker, in its own process: a policy loads it, and no other vLLM does."""

from __future__ import annotations

import os
from typing import Any

from pts.policies.vllm.batch import Batch, BatchV1, BatchV2, Row


class PtsWorker:
    """An extension of vLLM's worker, of both model runners. Every name is new to the worker."""

    model_runner: Any
    pts_found_batch: Batch | None = None

    def pts_process(self) -> int:
        """The id of the worker's process."""
        return os.getpid()

    def pts_is_v2(self) -> bool:
        """Whether vLLM's model runner V2 is at work."""
        return bool(getattr(self, "use_v2_model_runner", False))

    def pts_model(self) -> Any:
        """The model, as vLLM built it."""
        return self.model_runner.get_model()

    def pts_batch(self) -> Batch:
        """The model runner's batch; of a runner V2 it is followed from the first call on."""
        if self.pts_found_batch is None:
            self.pts_found_batch = (BatchV2 if self.pts_is_v2() else BatchV1)(self.model_runner)
        return self.pts_found_batch

    def pts_give(self, drawer: Any) -> int:
        """Give what draws tokens to the logits processor that asks it; how many such processors there are."""
        found = [processor for processor in self.pts_batch().processors() if hasattr(processor, "pts_drawer")]
        for processor in found:
            processor.pts_drawer = drawer
        return len(found)

    def pts_rows(self) -> list[Row]:
        """The requests of the pass that is about to be made, in its order."""
        return self.pts_batch().rows()
