"""Prefilled sequences, kept so that whatever shares a prefix with one starts from a slice of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.utils.rnn import pad_sequence
from transformers.cache_utils import DynamicCache

from pts.models.decoder_layers import residual_of
from pts.policies.guide import Guide, PassSteering
from pts.policies.transformers.cache import CacheLayout, Planes, cache_layout, to_cache, to_planes
from pts.records import RolloutRequest, TokenIds

_LOGITS_BYTES = 64 << 20
"""Float32 logits held at once when a whole trace is read: this bounds the tokens of one forward pass."""
_BATCH_TOKENS = 4096
"""Tokens of one pass over many sequences, at most (one longer sequence makes a pass of its own)."""
_FEW = 4
"""Sequences that are not worth a pass of their own."""
_CHUNK = 512
"""Tokens of one forward pass at most; bounds the memory of attention over a long prompt."""


@dataclass(frozen=True, slots=True)
class Reading:
    """By which steering a sequence is read: `variant` from position `start` on, the model as it is before.

    Neither is what stands at the positions `skipped`.
    """

    variant: int = 0
    start: int = 0
    skipped: tuple[int, ...] = ()

    @classmethod
    def of(cls, request: RolloutRequest, guide: Guide | None = None) -> Reading:
        """How what a request's rollouts begin with is read: a prompt is never steered.

        `guide` has heard of the prefix, and knows where in it steering was on.
        """
        if not request.variant:
            return cls()
        start = len(request.prompt)
        if guide is None:
            return cls(request.variant, start)
        skipped = tuple(start + position for position in guide.skipped)
        return cls(guide.steered(request.variant) or request.variant, start, skipped)

    def alike(self, other: Reading) -> int | None:
        """How many tokens the two read alike; None for all."""
        if self == other:
            return None
        if (self.variant, self.start) == (other.variant, other.start):
            return min(set(self.skipped) ^ set(other.skipped))
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


Key: TypeAlias = tuple[TokenIds, Reading]


class PrefixStore:
    """Prefilled sequences of one model, found by their longest common prefix; the least recently used go."""

    def __init__(
        self,
        model: Any,
        max_bytes: int,
        steering: PassSteering | None = None,
        *,
        logits_bytes: int = _LOGITS_BYTES,
    ) -> None:
        self.tokens_forwarded = 0
        self.forward_passes = 0
        self._model = model
        self._max_bytes = max_bytes
        self._logits_bytes = logits_bytes
        self._steering = steering
        self._layout: CacheLayout | None = None
        self._entries: list[Prefilled] = []
        self._found: dict[Key, Prefilled] = {}
        self._keys: dict[Prefilled, list[Key]] = {}
        self._bytes = 0

    @property
    def layout(self) -> CacheLayout:
        """The layout of the model's keys and values, known from the first forward pass on."""
        if self._layout is None:
            raise RuntimeError("nothing has been prefilled yet")
        return self._layout

    def prefilled(self, ids: TokenIds, reading: Reading = Reading()) -> Prefilled:
        """A sequence that begins with all of `ids`; from the store, or by forward passes over what it lacks."""
        if len(ids) <= reading.start:
            reading = Reading()
        if (ids, reading) in self._found:
            return self._found[ids, reading]
        wanted = np.asarray(ids, dtype=np.int64)
        entry, shared = self._nearest(wanted, reading)
        if entry is not None and shared == len(wanted):
            self._name(entry, (ids, reading))
            return entry
        for _ in self._forward(wanted, entry, shared, reading, keep_logits=False):
            pass
        return self._entries[-1]

    def prefill(self, sequences: Iterable[TokenIds]) -> None:
        """Read unsteered sequences that the store does not hold, many in one pass, each from its beginning.

        For prompts, which share a few tokens at most: what extends a stored sequence is read cheaper by
        `prefilled`, and so are long ones and few.
        """
        for together in self._unread(sequences):
            self._read_together(together)

    def residuals(self, sequences: Sequence[TokenIds], blocks: Sequence[Any]) -> dict[TokenIds, torch.Tensor]:
        """What decoder blocks put out at each sequence's last token, unsteered: [blocks, hidden], float32, CPU.

        Read while the sequences are prefilled, which are kept; one that is stored already has its last token
        forwarded again.
        """
        found: dict[TokenIds, torch.Tensor] = {}
        with _recorded(blocks) as outputs:
            for together in self._unread(sequences):
                self._read_together(together)
                for row, ids in enumerate(together):
                    found[ids] = _at(outputs, row, len(ids) - 1)
            for ids in sequences:
                if ids not in found:
                    self._read_again(ids)
                    found[ids] = _at(outputs, 0, -1)
        return found

    def logits(
        self, ids: TokenIds, start: int, reading: Reading = Reading(), *, keep: bool = True
    ) -> Iterator[torch.Tensor]:
        """Logits of the tokens from `start` on, in chunks [tokens, vocabulary] of at most `logits_bytes`.

        Where not `keep`, the sequence is not stored.
        """
        wanted = np.asarray(ids, dtype=np.int64)
        entry, shared = self._nearest(wanted, reading)
        shared = min(shared, start)
        done = shared
        for chunk in self._forward(wanted, entry, shared, reading, keep_logits=True, keep=keep):
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

    def _unread(self, sequences: Iterable[TokenIds]) -> Iterator[Sequence[TokenIds]]:
        """Sequences that are worth a pass together, in passes of about the same length: little is padding."""
        unknown = {ids for ids in sequences if (ids, Reading()) not in self._found and 0 < len(ids) <= _CHUNK}
        new = sorted(unknown, key=lambda ids: (len(ids), ids)) if len(unknown) > _FEW else []
        while new:
            rows = max(1, _BATCH_TOKENS // len(new[-1]))
            yield new[-rows:]
            del new[-rows:]

    def _read_again(self, ids: TokenIds) -> None:
        """Forward at least the last token of a sequence, and store it."""
        wanted = np.asarray(ids, dtype=np.int64)
        entry, shared = self._nearest(wanted, Reading())
        shared = min(shared, len(wanted) - 1)
        for _ in self._forward(wanted, entry if shared else None, shared, Reading(), keep_logits=False):
            pass

    @torch.inference_mode()
    def _read_together(self, sequences: Sequence[TokenIds]) -> None:
        """One pass over whole sequences, padded behind: under a causal mask nothing reads what is behind it."""
        device = self._model.device
        inputs = pad_sequence([torch.tensor(ids) for ids in sequences], batch_first=True).to(device)
        positions = torch.arange(inputs.shape[1], device=device).expand_as(inputs)
        cache = DynamicCache()
        self.tokens_forwarded += sum(map(len, sequences))
        self.forward_passes += 1
        self._model(
            input_ids=inputs,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        if self._layout is None:
            self._layout = cache_layout(cache)
        for row, ids in enumerate(sequences):
            self._add(Prefilled(np.asarray(ids), to_planes(cache, self._layout, row, len(ids))))

    def _forward(
        self,
        ids: npt.NDArray[np.int64],
        base: Prefilled | None,
        shared: int,
        reading: Reading,
        keep_logits: bool,
        keep: bool = True,
    ) -> Iterator[torch.Tensor]:
        """Run the tokens after the first `shared`, which `base` holds; yield their logits; `keep` the whole."""
        cache = DynamicCache() if base is None else to_cache(base.planes, self.layout, shared)
        vocab = self._model.config.get_text_config(decoder=True).vocab_size
        size = max(1, min(_CHUNK, self._logits_bytes // (4 * vocab))) if keep_logits else _CHUNK
        for start in range(shared, len(ids), size):
            yield self._pass(ids[start : start + size], start, cache, reading, keep_logits)
        if self._layout is None:
            self._layout = cache_layout(cache)
        if keep:
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
            where = positions >= reading.start
            if reading.skipped:
                where &= ~torch.isin(positions, torch.tensor(reading.skipped, device=device))
            self._steering.begin_pass(torch.tensor([reading.variant]), inputs, where)
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
        replaced = [
            other for other in self._entries if entry.shared(other.ids, other.reading) == len(other.ids)
        ]
        keys = [key for other in replaced for key in self._drop(other)]
        self._add(entry)
        for key in keys:
            self._name(entry, key)

    def _add(self, entry: Prefilled) -> None:
        self._entries.append(entry)
        self._keys[entry] = []
        self._name(entry, (tuple(entry.ids.tolist()), entry.reading))
        self._bytes += entry.nbytes
        while len(self._entries) > 1 and self._bytes > self._max_bytes:
            self._drop(self._entries[0])

    def _name(self, entry: Prefilled, key: Key) -> None:
        """Have an entry found at once by what it holds the beginning of."""
        if self._found.get(key) is not entry:
            self._found[key] = entry
            self._keys[entry].append(key)

    def _drop(self, entry: Prefilled) -> list[Key]:
        """Let an entry go; the keys that found it."""
        self._entries.remove(entry)
        self._bytes -= entry.nbytes
        keys = [key for key in self._keys.pop(entry) if self._found.get(key) is entry]
        for key in keys:
            del self._found[key]
        return keys


def _at(outputs: Mapping[int, torch.Tensor], row: int, token: int) -> torch.Tensor:
    """The recorded blocks' outputs at one place: [blocks, hidden], float32 on the CPU."""
    return torch.stack([outputs[index][row, token].float().cpu() for index in range(len(outputs))])


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
