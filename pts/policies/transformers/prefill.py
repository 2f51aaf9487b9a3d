"""Prefilled sequences, kept so that whatever shares a prefix with one starts from a slice of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers.cache_utils import DynamicCache

from pts.models.decoder_layers import residual_of
from pts.policies.guide import PassSteering
from pts.policies.transformers.cache import CacheLayout, Planes, cache_layout, to_cache, to_planes
from pts.records import RolloutRequest, TokenIds

_LOGITS_BYTES = 64 << 20
"""Float32 logits held at once when a whole trace is read: this bounds the tokens of one forward pass."""
_CHUNK = 512
"""Tokens of one forward pass at most; bounds the memory of attention over a long prompt."""


@dataclass(frozen=True, slots=True)
class Reading:
    """By which steering a sequence is read: `variant` from position `start` on, the model as it is before."""

    variant: int = 0
    start: int = 0

    @classmethod
    def of(cls, request: RolloutRequest) -> Reading:
        """How what a request's rollouts begin with is read: a prompt is never steered."""
        return cls(request.variant, len(request.prompt)) if request.variant else cls()

    def alike(self, other: Reading) -> int | None:
        """How many tokens the two read alike; None for all."""
        if self == other:
            return None
        return min(reading.start for reading in (self, other) if reading.variant)


@dataclass(frozen=True, slots=True, eq=False)
class Prefilled:
    """The keys and values of a sequence of token ids [tokens], as `reading` has it."""

    ids: npt.NDArray[np.int64]
    planes: Planes
    reading: Reading = Reading()

    @property
    def nbytes(self) -> int:
        """Bytes that the keys and values take."""
        return sum(states.nbytes for states in self.planes.values())

    def shared(self, ids: npt.NDArray[np.int64], reading: Reading) -> int:
        """How many tokens this and `ids` begin with alike, read alike."""
        alike = self.reading.alike(reading)
        size = min(len(self.ids), len(ids)) if alike is None else min(len(self.ids), len(ids), alike)
        differs = self.ids[:size] != ids[:size]
        return int(differs.argmax()) if differs.any() else size


class PrefixStore:
    """Prefilled sequences of one model, found by their longest common prefix; the least recently used go."""

    def __init__(self, model: Any, max_bytes: int, steering: PassSteering | None = None) -> None:
        self.tokens_forwarded = 0
        self.forward_passes = 0
        self._model = model
        self._max_bytes = max_bytes
        self._steering = steering
        self._layout: CacheLayout | None = None
        self._entries: list[Prefilled] = []

    @property
    def layout(self) -> CacheLayout:
        """The layout of the model's keys and values, known from the first forward pass on."""
        if self._layout is None:
            raise RuntimeError("nothing has been prefilled yet")
        return self._layout

    def prefilled(self, ids: TokenIds, reading: Reading = Reading()) -> Prefilled:
        """A sequence that begins with all of `ids`; from the store, or by forward passes over what it lacks."""
        wanted = np.asarray(ids, dtype=np.int64)
        if len(wanted) <= reading.start:
            reading = Reading()
        entry, shared = self._nearest(wanted, reading)
        if entry is not None and shared == len(wanted):
            return entry
        for _ in self._forward(wanted, entry, shared, reading, keep_logits=False):
            pass
        return self._entries[-1]

    def residuals(self, ids: TokenIds, blocks: Sequence[Any]) -> torch.Tensor:
        """What decoder blocks put out at the last of `ids`, unsteered: [blocks, hidden], float32 on the CPU.

        Read while the sequence is prefilled, which is kept; one that is stored already has its last token
        forwarded again.
        """
        wanted = np.asarray(ids, dtype=np.int64)
        entry, shared = self._nearest(wanted, Reading())
        shared = min(shared, len(wanted) - 1)
        with _recorded(blocks) as outputs:
            for _ in self._forward(wanted, entry if shared else None, shared, Reading(), keep_logits=False):
                pass
        return torch.stack([outputs[index][0, -1].float().cpu() for index in range(len(blocks))])

    def logits(self, ids: TokenIds, start: int) -> Iterator[torch.Tensor]:
        """Logits of the tokens from `start` on, in chunks [tokens, vocabulary]; the sequence is kept."""
        wanted = np.asarray(ids, dtype=np.int64)
        entry, shared = self._nearest(wanted, Reading())
        shared = min(shared, start)
        done = shared
        for chunk in self._forward(wanted, entry, shared, Reading(), keep_logits=True):
            skip = max(0, start - done)
            done += len(chunk)
            yield chunk[skip:]

    def _nearest(self, ids: npt.NDArray[np.int64], reading: Reading) -> tuple[Prefilled | None, int]:
        """The stored sequence with the longest common prefix, now the most recently used, and that length."""
        best, longest = None, 0
        for entry in self._entries:
            shared = entry.shared(ids, reading)
            if shared > longest:
                best, longest = entry, shared
        if best is not None:
            self._entries.remove(best)
            self._entries.append(best)
        return best, longest

    def _forward(
        self,
        ids: npt.NDArray[np.int64],
        base: Prefilled | None,
        shared: int,
        reading: Reading,
        keep_logits: bool,
    ) -> Iterator[torch.Tensor]:
        """Run the tokens after the first `shared`, which `base` holds; yield their logits; store the whole."""
        cache = DynamicCache() if base is None else to_cache(base.planes, self.layout, shared)
        vocab = self._model.config.get_text_config(decoder=True).vocab_size
        size = max(16, min(_CHUNK, _LOGITS_BYTES // (4 * vocab))) if keep_logits else _CHUNK
        for start in range(shared, len(ids), size):
            yield self._pass(ids[start : start + size], start, cache, reading, keep_logits)
        if self._layout is None:
            self._layout = cache_layout(cache)
        self._keep(Prefilled(ids, to_planes(cache, self._layout), reading))

    @torch.inference_mode()
    def _pass(
        self,
        ids: npt.NDArray[np.int64],
        start: int,
        cache: DynamicCache,
        reading: Reading,
        keep_logits: bool,
    ) -> torch.Tensor:
        """One forward pass that extends the cache: logits [tokens, vocabulary], or of the last token alone."""
        device = self._model.device
        inputs = torch.from_numpy(ids)[None].to(device)
        positions = torch.arange(start, start + len(ids), device=device)[None]
        self.tokens_forwarded += len(ids)
        self.forward_passes += 1
        if reading.variant and self._steering is not None:
            self._steering.begin_pass(torch.tensor([reading.variant]), inputs, positions >= reading.start)
        output = self._model(
            input_ids=inputs,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=0 if keep_logits else 1,
        )
        logits: torch.Tensor = output.logits[0]
        return logits

    def _keep(self, entry: Prefilled) -> None:
        """Store an entry in place of those that it extends, and drop the oldest beyond the memory allowed."""
        self._entries = [
            other for other in self._entries if entry.shared(other.ids, other.reading) < len(other.ids)
        ]
        self._entries.append(entry)
        while len(self._entries) > 1 and sum(kept.nbytes for kept in self._entries) > self._max_bytes:
            self._entries.pop(0)


@contextmanager
def _recorded(blocks: Sequence[Any]) -> Iterator[dict[int, torch.Tensor]]:
    """The last output of each block, by its place, while the context lasts: [rows, tokens, hidden]."""
    outputs: dict[int, torch.Tensor] = {}

    def record(index: int) -> Any:
        def hook(_module: Any, _args: Any, output: object) -> None:
            outputs[index] = residual_of(output)

        return hook

    handles = [block.register_forward_hook(record(index)) for index, block in enumerate(blocks)]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()
