"""The logits processor through which `pts` draws tokens inside vLLM (model runner V1); vLLM imports this."""

from __future__ import annotations

from typing import Any

import torch
from vllm.v1.sample.logits_processor import LogitsProcessor, process_dict_updates

from pts.policies.vllm.worker import DRAWN, LABEL


class PtsLogits(LogitsProcessor):  # type: ignore[misc]
    """Asks `pts_drawer` for the next token of each row that `pts` draws, and leaves only that one.

    vLLM's own sampler then takes it: those rows are greedy. Rows of other requests are not touched.
    """

    def __init__(self, *_: Any) -> None:  # vLLM gives its configuration and device
        self.pts_drawer: Any = None
        self._rows: dict[int, str] = {}

    def is_argmax_invariant(self) -> bool:
        """False: it decides which token is the likeliest."""
        return False

    def update_state(self, batch_update: Any) -> None:
        """Follow which row of the batch is which completion."""
        process_dict_updates(self._rows, batch_update, _drawn_label)

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Leave one token in each row that is drawn."""
        if self._rows:
            self.pts_drawer.draw(logits, sorted(self._rows.items()))
        return logits


def _drawn_label(params: Any, _prompt: Any, _output: Any) -> str | None:
    """The name of a request's completion where `pts` draws it, else None."""
    extra = params.extra_args or {}
    label: str | None = extra.get(LABEL) if extra.get(DRAWN) else None
    return label
