"""What the worker of a server does for clients of `pts`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch

from pts.decoding.wire import contexts_of, think_of
from pts.errors import ConfigError, ModelError
from pts.policies.vllm.wire import CONTEXTS, DRAW, LABEL, READ, THINK, VARIANTS
from pts.serving.completions import Completions
from pts.serving.hooks import SharedHooks
from pts.serving.kept import Kept

_EVERY = 60.0
"""Seconds between two looks at what no client wants any more."""


class Service:
    """One worker's service: contents that are kept, completions under way, hooks on the model.

    `hooks` are None where the model's passes go by compiled graphs. `clock` tells the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.kept = Kept(clock)
        self.completions = Completions(self.kept, clock)
        self.hooks: SharedHooks | None = None
        self.attached = False
        self._clock, self._looked = clock, clock()

    def put(self, client: str, name: str, content: Mapping[str, Any]) -> None:
        """Keep a content for a client. Raises PtsError for one that does not fit this server."""
        self.kept.put(name, client, partial(self._made, content))

    def _made(self, content: Mapping[str, Any]) -> tuple[Any, Callable[[], None]]:
        kind = content["kind"]
        if kind == VARIANTS:
            if self.hooks is None:
                raise ConfigError("vLLM runs compiled graphs, which go by the hooks that steer a model.")
            return self.hooks.steering(content)
        if kind == THINK:
            return think_of(content, self.completions.tokenizer), lambda: None
        if kind == CONTEXTS:
            return contexts_of(content), lambda: None
        raise ModelError(f"the server keeps no {kind}.")

    def begin(self, params: Any, prompt: Sequence[int] | None, output: list[int]) -> str | None:
        """Follow a request that comes into the batch; its label where `pts` draws it, else None."""
        extra = params.extra_args or {}
        label: str | None = extra.get(LABEL)
        if label is None:
            return None
        if READ in extra and self.hooks is not None:
            self.hooks.begin_reading(label, extra[READ])
        if DRAW not in extra:
            return None
        self.completions.begin(label, extra[DRAW], prompt or (), output)
        return label

    def hear(self, labels: Sequence[str]) -> None:
        """Take what was written in the last step, and now and then drop what no client wants any more."""
        self.completions.hear(labels)
        if self._clock() - self._looked > _EVERY:
            self.expire()

    def expire(self) -> None:
        """Drop what no client wants any more."""
        self._looked = self._clock()
        self.kept.expire(self.completions.expire())
        if self.hooks is not None:
            self.hooks.expire()

    def draw(self, logits: torch.Tensor, rows: Sequence[tuple[int, str]]) -> None:
        """Leave one token in each of these rows."""
        self.completions.draw(logits, rows)

    def take(self, label: str) -> dict[str, Any]:
        """What a request came to: its draws, or with a label of a reading its residual streams."""
        if self.completions.get(label) is None and self.hooks is not None:
            return self.hooks.take(label)
        return self.completions.take(label)

    def release(self, client: str, names: Sequence[str] | None) -> None:
        """A client wants some contents no more; without names it ends, and its requests are known no more."""
        self.kept.release(client, names)
        if names is None:
            known = [*self.completions.labels(), *(() if self.hooks is None else self.hooks.labels())]
            self.forget([label for label in known if label.startswith(f"{client} ")])

    def forget(self, labels: Sequence[str]) -> None:
        """Know these requests no more."""
        self.completions.forget(labels)
        if self.hooks is not None:
            for label in labels:
                self.hooks.forget(label)
