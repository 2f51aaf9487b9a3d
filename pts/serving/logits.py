"""The logits processor of a server that `pts` draws in (model runner V1); vLLM imports this."""

from __future__ import annotations

from typing import Any

import torch
from vllm.v1.sample.logits_processor import LogitsProcessor, process_dict_updates

from pts.policies.vllm.wire import DRAW, LABEL, READ, DrawSpec, ReadSpec
from pts.serving.service import Service


class PtsServedLogits(LogitsProcessor):  # type: ignore[misc]
    """Leaves in each row that `pts` draws the token that was drawn. Rows of other requests are not touched.

    `pts_service` is the worker's service, which the worker's extension finds here.
    """

    @classmethod
    def validate_params(cls, sampling_params: Any) -> None:
        """Raise ValueError for a request of `pts` that cannot be read: the server answers with status 400."""
        extra = sampling_params.extra_args or {}
        if not {LABEL, DRAW, READ} & set(extra):
            return
        if not isinstance(extra.get(LABEL), str):
            raise ValueError("pts: a request has no label.")
        if READ in extra:
            ReadSpec.read(extra[READ])
        if DRAW in extra:
            spec = DrawSpec.read(extra[DRAW])
            if sampling_params.temperature != 0 or not spec.ends:
                raise ValueError("pts: a completion that pts draws is greedy for vLLM, and can end.")

    def __init__(self, *_: Any) -> None:  # vLLM gives its configuration and device
        self.pts_service = Service()
        self._rows: dict[int, str] = {}

    def is_argmax_invariant(self) -> bool:
        """False: it decides which token is the likeliest."""
        return False

    def update_state(self, batch_update: Any) -> None:
        """Follow which row of the batch is which completion, and what was written."""
        process_dict_updates(self._rows, batch_update, self.pts_service.begin)
        self.pts_service.hear(list(self._rows.values()))

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Leave one token in each row that is drawn."""
        if self._rows:
            self.pts_service.draw(logits, sorted(self._rows.items()))
        return logits
