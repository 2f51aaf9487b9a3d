"""Steering and reading a server's model for several clients at once."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch

from pts.errors import ModelError, one_line
from pts.policies.vllm.batch import Row
from pts.policies.vllm.passes import Passes, Recording
from pts.policies.vllm.wire import ReadSpec
from pts.serving.completions import GONE, Completions
from pts.serving.kept import LEASE, Kept
from pts.steering.vllm_steering import VllmSteering
from pts.steering.wire import variants_of


class SharedHooks:
    """Hooks on the model that are there only while some client steers or reads.

    `rows` tells what the next pass reads. What fails in a pass ends the completions that it steered.
    """

    def __init__(
        self,
        passes: Passes,
        config: Any,
        rows: Callable[[], list[Row]],
        kept: Kept,
        completions: Completions,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._passes, self._config, self._rows = passes, config, rows
        self._kept, self._completions = kept, completions
        self._sets = 0
        self._before: Any = None
        self._steered: list[str] = []
        self._read: dict[tuple[int, ...], tuple[Recording, ExitStack]] = {}
        self._layers: dict[str, tuple[int, ...]] = {}
        self._clock = clock
        self._asked: dict[str, float] = {}
        self._unread: dict[str, str] = {}

    def count(self) -> int:
        """How many hooks are on the model's modules."""
        modules = self._passes.model.modules()
        return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in modules)

    def steering(self, content: Mapping[str, Any]) -> tuple[VllmSteering, Callable[[], None]]:
        """What steers by variants that were described, and what ends that. Raises VectorError."""
        steering = VllmSteering(self._passes, self._config, variants_of(content))
        stack = ExitStack()
        stack.enter_context(steering.installed(self._guarded))
        if not self._sets:
            self._before = self._passes.model.register_forward_pre_hook(
                self._guarded(self._begin), with_kwargs=True
            )
        self._sets += 1

        def drop() -> None:
            stack.close()
            self._sets -= 1
            if not self._sets:
                self._before.remove()

        return steering, drop

    def begin_reading(self, label: str, text: str) -> None:
        """Have the residual streams of a request recorded."""
        spec = ReadSpec.read(text)
        outside = [layer for layer in spec.layers if not 0 <= layer < len(self._passes.blocks)]
        if outside:
            self._unread[label], self._asked[label] = f"layer {outside[0]} is out of range.", self._clock()
            return
        if spec.layers not in self._read:
            stack = ExitStack()
            self._read[spec.layers] = (
                stack.enter_context(self._passes.recording(spec.layers, self._guarded)),
                stack,
            )
        self._read[spec.layers][0].positions[label] = spec.position
        self._layers[label] = spec.layers
        self._asked[label] = self._clock()

    def take(self, label: str) -> dict[str, Any]:
        """The residual streams [layers, hidden] of a request, as text; it is read no more."""
        layers, failed = self._layers.get(label), self._unread.pop(label, None)
        streams = None
        if layers is None:
            failed = failed or GONE
        else:
            try:
                streams = self._read[layers][0].found(label).numpy().astype("<f4").tobytes()
            except ModelError as error:
                failed = str(error)
        self.forget(label)
        return {"streams": None if streams is None else base64.b64encode(streams).decode(), "failed": failed}

    def forget(self, label: str) -> None:
        """Record no more of a request."""
        self._unread.pop(label, None)
        self._asked.pop(label, None)
        layers = self._layers.pop(label, None)
        if layers is None:
            return
        record, stack = self._read[layers]
        record.positions.pop(label, None)
        record.streams.pop(label, None)
        if not record.positions:
            del self._read[layers]
            stack.close()

    def labels(self) -> list[str]:
        """The requests that are read."""
        return list(self._asked)

    def expire(self) -> None:
        """Forget what was not asked for again within the lease."""
        for label, at in list(self._asked.items()):
            if self._clock() - at > LEASE:
                self.forget(label)

    def _begin(self, _model: Any, args: Any, kwargs: Mapping[str, Any]) -> None:
        """Tell each steering of the tokens of the next pass that are its own."""
        self._steered = []
        ids = kwargs.get("input_ids", args[0] if args else None)
        of_set: dict[str, np.ndarray[Any, Any]] = {}
        for label, start, size, first in self._rows():
            completion = self._completions.get(label)
            followed = None if completion is None else completion.followed
            if label is None or completion is None or followed is None or completion.over:
                continue
            name = completion.spec.variants
            if name is None or self._kept.get(name) is None:
                completion.fail(GONE)
                continue
            self._steered.append(label)
            if ids is None:
                raise ModelError("vLLM reads embeddings in place of token ids, which cannot be steered.")
            variants = of_set.setdefault(name, np.zeros(len(ids), dtype=np.int64))
            variants[start : start + size] = followed.variants(first, size)
        for name, variants in of_set.items():
            tokens = ids.cpu().numpy().astype(np.int64) if isinstance(ids, torch.Tensor) else variants
            self._kept.get(name).begin_step(variants, tokens)

    def _guarded(self, hook: Callable[..., Any]) -> Callable[..., Any]:
        """The hook; where it fails, the completions of the pass end and the server goes on."""

        def guarded(*args: Any) -> Any:
            try:
                return hook(*args)
            except Exception as error:
                self._completions.fail(self._steered, one_line(error))
                for each in self._kept.names().values():
                    if isinstance(each, VllmSteering):
                        each.drop_step()
                return None

        return guarded
