"""The logits processors through which `pts` draws tokens inside vLLM, one a model runner; vLLM imports this."""

from __future__ import annotations

from typing import Any

import torch
from vllm.v1.sample.logits_processor import LogitsProcessor, process_dict_updates
from vllm.v1.worker.gpu.sample.logits_processor import LogitsProcessor as LogitsProcessorV2

from pts.errors import ModelError
from pts.policies.vllm.batch import DRAWN, LABEL


class PtsLogits(LogitsProcessor):  # type: ignore[misc]
    """For the model runner V1: asks `pts_drawer` for the next token of each row that `pts` draws.

    Only that one is left, and vLLM's own sampler takes it: those rows are greedy. Rows of other requests are
    not touched.
    """

    def __init__(self, *_: Any) -> None:  # vLLM gives its configuration and device
        self.pts_drawer: Any = None
        self._rows: dict[int, str] = {}

    def is_argmax_invariant(self) -> bool:
        """False: it decides which token is the likeliest."""
        return False

    def update_state(self, batch_update: Any) -> None:
        """Follow which row of the batch is which completion."""
        process_dict_updates(self._rows, batch_update, lambda params, *_: _label(params, drawn=True))

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Leave one token in each row that is drawn."""
        if self._rows:
            self.pts_drawer.draw(logits, sorted(self._rows.items()))
        return logits


class PtsLogitsV2(LogitsProcessorV2):  # type: ignore[misc]
    """The same for the model runner V2, which keeps a request in one slot while its row changes.

    `pts_labels` holds the label of each slot's last request.
    """

    def __init__(self, *_: Any) -> None:  # vLLM gives its configuration and its requests' state
        self.pts_drawer: Any = None
        self.pts_labels: dict[int, str | None] = {}
        self._drawn: dict[int, str | None] = {}

    def add_request(self, req_idx: int, sampling_params: Any) -> bool:
        """Follow a request in its slot; whether `pts` draws its tokens."""
        self.pts_labels[req_idx] = _label(sampling_params)
        self._drawn[req_idx] = _label(sampling_params, drawn=True)
        return self._drawn[req_idx] is not None

    def apply(self, logits: torch.Tensor, ctx: Any) -> torch.Tensor:
        """Leave one token in each row that is drawn."""
        slots = ctx.idx_mapping_np.tolist()
        if len(slots) != len(logits):
            raise ModelError(
                f"vLLM samples {len(logits)} rows of {len(slots)} requests, and pts draws one token of each: "
                "use the engine transformers."
            )
        rows = [(row, label) for row, slot in enumerate(slots) if (label := self._drawn.get(slot)) is not None]
        if rows:
            self.pts_drawer.draw(logits, rows)
        return logits


def _label(params: Any, *, drawn: bool = False) -> str | None:
    """The name of a request's completion, else None; with `drawn` only where `pts` draws it."""
    extra = params.extra_args or {}
    label: str | None = None if drawn and not extra.get(DRAWN) else extra.get(LABEL)
    return label
