"""Prefilled sequences, kept so that whatever shares a prefix with one starts from a slice of it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.utils.rnn import pad_sequence
from transformers.cache_utils import DynamicCache

from pts.policies.guide import PassSteering
from pts.policies.transformers.cache import (
    CacheLayout,
    cache_layout,
    sequence_planes,
    split_rows,
    to_cache,
)
from pts.policies.transformers.memory import is_out_of_memory, release_cached
from pts.policies.transformers.prefilled import UNSTEERED, Key, Prefilled, Reading, key_of
from pts.policies.transformers.recorded import recorded
from pts.records import TokenIds

logger = logging.getLogger(__name__)

_LOGITS_BYTES = 64 << 20
"""Float32 logits held at once: this bounds the tokens of one forward pass that reads them, and its rows."""
_BATCH_TOKENS = 4096
"""Tokens of one pass over many sequences, at most (one longer sequence makes a pass of its own)."""
_FEW = 4
"""Sequences that are not worth a pass of their own."""
_CHUNK, _SMALLEST_CHUNK = 512, 16
"""Tokens of one forward pass at most, which bounds the memory of attention over a long prompt; where memory
runs out they are halved down to the second."""


class PrefixStore:
    """Prefilled sequences of one model, found by their longest common prefix; the least recently used go."""

    def __init__(
        self,
        model: Any,
        max_bytes: int,
        *,
        steering: PassSteering | None = None,
        logits_bytes: int = _LOGITS_BYTES,
    ) -> None:
        self.tokens_forwarded = 0
        self.forward_passes = 0
        self._model = model
        self._max_bytes = max_bytes
        self._logits_bytes = logits_bytes
        self._vocab: int = model.config.get_text_config(decoder=True).vocab_size
        self._chunk, self._batch_tokens, self._said = _CHUNK, _BATCH_TOKENS, False
        self.steering = steering
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

    def prefilled(self, ids: TokenIds, reading: Reading = UNSTEERED) -> Prefilled:
        """A sequence that begins with all of `ids`; from the store, or by forward passes over what it lacks."""
        if len(ids) <= reading.start:
            reading = UNSTEERED
        wanted = np.asarray(ids, dtype=np.int64)
        known = self._found.get(key_of(ids, reading))
        if known is not None and known.shared(wanted, reading) == len(wanted):
            return known
        entry, shared = self._nearest(wanted, reading)
        if entry is not None and shared == len(wanted):
            self._name(entry, key_of(ids, reading))
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
            self._attempt(together)

    def portions(self, sequences: Sequence[TokenIds]) -> Iterator[list[int]]:
        """Sequences by index, as many together as the store has room for twice over: none is read twice."""
        part: list[int] = []
        room = self._max_bytes // 2
        left = room
        for index, ids in enumerate(sequences):
            left -= len(ids) * self.layout.bytes_per_token
            if part and left < 0:
                yield part
                part, left = [], room - len(ids) * self.layout.bytes_per_token
            part.append(index)
        if part:
            yield part

    def clear(self) -> None:
        """Let all stored sequences go, where memory is short."""
        while self._entries:
            self._drop(self._entries[0])

    def forget_steered(self) -> None:
        """Let the sequences go that were read by a steering: another one may give a variant's number anew."""
        for entry in [entry for entry in self._entries if entry.reading.variant]:
            self._drop(entry)

    def residuals(
        self, sequences: Sequence[TokenIds], blocks: Sequence[Any]
    ) -> Iterator[tuple[TokenIds, torch.Tensor]]:
        """What decoder blocks put out at each sequence's last token, unsteered: [blocks, hidden], float32, CPU.

        Read while the sequences are prefilled, which are kept; one that is stored already has its last token
        forwarded again.
        """
        left = dict.fromkeys(sequences)
        with recorded(blocks) as record:
            for together in self._unread(sequences):
                record.ends = [len(ids) - 1 for ids in together]
                if self._attempt(together):
                    states = record.states()
                    for row, ids in enumerate(together):
                        del left[ids]
                        yield ids, states[row]
            for ids in left:
                record.ends = [-1]
                self._read_again(ids)
                yield ids, record.states()[0]

    def logits(
        self,
        ids: TokenIds,
        start: int,
        reading: Reading = UNSTEERED,
        *,
        keep: bool = True,
        anew: bool = False,
    ) -> Iterator[torch.Tensor]:
        """Logits of the tokens from `start` on, in chunks [tokens, vocabulary] of at most `logits_bytes`.

        Where not `keep`, the sequence is not stored. With `anew` no stored sequence is used either, so that
        rounding does not depend on what was read before.
        """
        wanted = np.asarray(ids, dtype=np.int64)
        entry, shared = (None, 0) if anew else self._nearest(wanted, reading)
        shared = min(shared, start)
        done = shared
        base = entry if shared else None
        for chunk in self._forward(wanted, base, shared, reading, keep_logits=True, keep=keep):
            skip = max(0, start - done)
            done += len(chunk)
            if skip < len(chunk):
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
        unknown = {
            ids for ids in sequences if key_of(ids, UNSTEERED) not in self._found and 0 < len(ids) <= _CHUNK
        }
        new = sorted(unknown, key=lambda ids: (len(ids), ids)) if len(unknown) > _FEW else []
        most_rows = self._logits_bytes // (4 * self._vocab)
        while new:
            tokens = self._batch_tokens
            if self._layout is not None:
                tokens = min(tokens, self._max_bytes // (2 * self._layout.bytes_per_token))
            rows = max(1, min(tokens // len(new[-1]), most_rows))
            yield new[-rows:]
            del new[-rows:]

    def _read_again(self, ids: TokenIds) -> None:
        """Forward at least the last token of a sequence, and store it."""
        wanted = np.asarray(ids, dtype=np.int64)
        entry, shared = self._nearest(wanted, UNSTEERED)
        shared = min(shared, len(wanted) - 1)
        for _ in self._forward(wanted, entry if shared else None, shared, UNSTEERED, keep_logits=False):
            pass

    def _attempt(self, sequences: Sequence[TokenIds]) -> bool:
        """Read sequences in one pass; where memory runs out they are left to be read one by one, later."""
        try:
            self._read_together(sequences)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        else:
            return True
        self._batch_tokens = max(1, self._batch_tokens // 2)
        self._say()
        return False

    def _say(self) -> None:
        """Say once that memory ran out while prompts were read; give back what PyTorch keeps for later."""
        release_cached(self._model.device)
        if not self._said:
            self._said = True
            logger.warning(
                "memory ran out on %s while prompts were read: fewer tokens are read at a time, "
                "with the same results.",
                self._model.device,
            )

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
        self._make_room(sum(map(len, sequences)))
        planes = split_rows(cache, [len(ids) for ids in sequences])
        for ids, own in zip(sequences, planes, strict=True):
            self._add(Prefilled(np.asarray(ids), own))

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
        cache = DynamicCache() if base is None else to_cache(base.planes, shared)
        self._make_room(len(ids), base)
        start = shared
        while start < len(ids):
            size = self._chunk
            if keep_logits:
                size = max(1, min(size, self._logits_bytes // (4 * self._vocab)))
            try:
                logits = self._pass(ids[start : start + size], start, cache, reading, keep_logits)
            except (RuntimeError, MemoryError) as error:
                if self._chunk <= _SMALLEST_CHUNK or not is_out_of_memory(error):
                    raise
            else:
                yield logits
                start += size
                continue
            # Some layers have these tokens already, others not; and what is stored may have to go.
            cache = _shortened(cache, start)
            self._chunk = max(_SMALLEST_CHUNK, self._chunk // 2)
            self._make_room(len(ids), base, short=True)
            self._say()
        if self._layout is None:
            self._layout = cache_layout(cache)
        if keep:
            self._keep(Prefilled(ids, sequence_planes(cache), reading))

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
        if reading.variant and self.steering is not None:
            where = positions >= reading.start
            if reading.skipped:
                where &= ~torch.isin(positions, torch.tensor(reading.skipped, device=device))
            self.steering.begin_pass(torch.tensor([reading.variant]), inputs, where)
        output = self._model(
            input_ids=inputs,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=0 if keep_logits else 1,
        )
        logits: torch.Tensor = output.logits[0]
        return logits

    def _make_room(self, tokens: int, base: Prefilled | None = None, *, short: bool = False) -> None:
        """Let the oldest entries but `base` go until so many tokens more fit; where memory is short, all."""
        if self._layout is None:
            return
        room = 0 if short else self._max_bytes - tokens * self._layout.bytes_per_token
        for entry in list(self._entries):
            if self._bytes <= room:
                return
            if entry is not base:
                self._drop(entry)

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
        self._name(entry, key_of(tuple(entry.ids.tolist()), entry.reading))
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


def _shortened(cache: DynamicCache, tokens: int) -> DynamicCache:
    """A cache of one row cut to its first tokens, in whatever layers have more."""
    if tokens == 0:
        return DynamicCache()
    return to_cache([plane[:, :tokens] for plane in sequence_planes(cache)], tokens)
