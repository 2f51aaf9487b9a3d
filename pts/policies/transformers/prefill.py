"""Prefilled sequences, kept so that whatever shares a prefix with one starts from a slice of it.

Keys and values of a beginning are a slice; a recurrent state is not. So of models that keep states a sequence
is read in one sweep, which stops wherever something is to begin and keeps the states there, within the memory
allowed. What begins elsewhere goes on from the last state before.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.utils.rnn import pad_sequence
from transformers.cache_utils import DynamicCache

from pts.policies.guide import PassSteering
from pts.policies.transformers.cache import CacheLayout, Planes, States
from pts.policies.transformers.forward import forward
from pts.policies.transformers.kept_prefixes import KeptPrefixes
from pts.policies.transformers.memory import is_out_of_memory, release_cached
from pts.policies.transformers.model_cache import (
    cache_layout,
    empty_cache,
    goes_on_by_steps,
    keeps_states,
    sequence_planes,
    sequence_states,
    split_rows,
    to_cache,
)
from pts.policies.transformers.prefilled import UNSTEERED, Prefilled, Reading, sweeps
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
        self._with_states, self._by_steps = keeps_states(model), goes_on_by_steps(model)
        self.kept = KeptPrefixes(max_bytes)
        self._logits_bytes = logits_bytes
        self._vocab: int = model.config.get_text_config(decoder=True).vocab_size
        self._chunk, self._batch_tokens, self._said = _CHUNK, _BATCH_TOKENS, False
        self.steering = steering
        self._layout: CacheLayout | None = None

    @property
    def layout(self) -> CacheLayout:
        """The layout of the model's keys and values, known from the first forward pass on."""
        if self._layout is None:
            raise RuntimeError("nothing has been prefilled yet")
        return self._layout

    def prefilled(
        self, ids: TokenIds, reading: Reading = UNSTEERED, lengths: Collection[int] = ()
    ) -> Prefilled:
        """A sequence that begins with all of `ids`; from the store, or by forward passes over what it lacks.

        It has the states after all of `ids` and after each of the `lengths`, where the model keeps states.
        """
        if len(ids) <= reading.start:
            reading = UNSTEERED
        wanted = np.asarray(ids, dtype=np.int64)
        entry, shared = self.kept.known(ids, reading), len(wanted)
        if entry is None or entry.shared(wanted, reading) < len(wanted):
            entry, shared = self.kept.nearest(wanted, reading)
        ends = {*lengths, len(wanted)}
        if entry is not None and shared == len(wanted):
            self.kept.name(entry, ids, reading)
            lacking = entry.lacks(ends)
            if lacking:
                self._sweep(wanted[: lacking[-1]], entry, entry.start(lacking[0]), reading, ends, entry)
            return entry
        start = min([shared, *(() if entry is None else entry.lacks(ends))])
        start = 0 if entry is None else entry.start(start)
        self._sweep(wanted, entry, start, reading, ends)
        return self.kept.entries[-1]

    def starts(self, wanted: Sequence[tuple[TokenIds, Reading]]) -> list[tuple[Prefilled, States]]:
        """For each of these sequences one that begins with it, and the states at its end.

        In the order given, in which a sequence comes before its beginnings: these take nothing more.
        """
        if not self._with_states:
            return [(self.prefilled(ids, reading), ()) for ids, reading in wanted]
        found: dict[int, tuple[Prefilled, States]] = {}
        for places in sweeps(wanted):
            ids, reading = wanted[places[0]]
            entry = self.prefilled(ids, reading, [len(wanted[place][0]) for place in places])
            found |= {place: (entry, entry.states_at(len(wanted[place][0]))) for place in places}
        return [found[place] for place in range(len(wanted))]

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
        room = self.kept.max_bytes // 2
        left = room
        for index, ids in enumerate(sequences):
            left -= self.layout.sequence_bytes(len(ids))
            if part and left < 0:
                yield part
                part, left = [], room - self.layout.sequence_bytes(len(ids))
            part.append(index)
        if part:
            yield part

    def clear(self) -> None:
        """Let all stored sequences go, where memory is short."""
        self.kept.clear()

    def forget_steered(self) -> None:
        """Let the sequences go that were read by a steering: another one may give a variant's number anew."""
        self.kept.forget_steered()

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
        entry, shared = (None, 0) if anew else self.kept.nearest(wanted, reading)
        done = 0 if entry is None else entry.start(min(shared, start))
        base = entry if done else None
        for chunk in self._forward(wanted, base, done, reading, (len(wanted),), keep_logits=True, keep=keep):
            skip = max(0, start - done)
            done += len(chunk)
            if skip < len(chunk):
                yield chunk[skip:]

    def _unread(self, sequences: Iterable[TokenIds]) -> Iterator[Sequence[TokenIds]]:
        """Sequences that are worth a pass together, in passes of about the same length: little is padding."""
        unknown = {ids for ids in sequences if self.kept.known(ids) is None and 0 < len(ids) <= _CHUNK}
        new = sorted(unknown, key=lambda ids: (len(ids), ids)) if len(unknown) > _FEW else []
        most_rows = self._logits_bytes // (4 * self._vocab)
        while new:
            longest = len(new[-1])
            rows = min(self._batch_tokens // longest, most_rows)
            if self._layout is not None:
                rows = min(rows, self.kept.max_bytes // (2 * self._layout.sequence_bytes(longest)))
            if self._with_states:
                # What is padding would enter the state: only sequences of one length share a pass.
                rows = min(rows, sum(len(ids) == longest for ids in new))
            rows = max(1, rows)
            yield new[-rows:]
            del new[-rows:]

    def _read_again(self, ids: TokenIds) -> None:
        """Forward at least the last token of a sequence, and store it."""
        wanted = np.asarray(ids, dtype=np.int64)
        entry, shared = self.kept.nearest(wanted, UNSTEERED)
        start = 0 if entry is None else entry.start(min(shared, len(wanted) - 1))
        self._sweep(wanted, entry, start, UNSTEERED, (len(wanted),))

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
        cache = empty_cache(self._model)
        self.tokens_forwarded += sum(map(len, sequences))
        self.forward_passes += 1
        forward(self._model, inputs, positions, cache)
        if self._layout is None:
            self._layout = cache_layout(cache)
        self._make_room(sum(map(len, sequences)), len(sequences))
        for ids, (planes, states) in zip(
            sequences, split_rows(cache, [len(ids) for ids in sequences]), strict=True
        ):
            self.kept.add(Prefilled(np.asarray(ids), planes, states=self._by_length({len(ids): states})))

    def _by_length(self, states: dict[int, States]) -> dict[int, States] | None:
        """States by the number of tokens that they come after; None where the model keeps none."""
        return states if self._with_states else None

    def _sweep(
        self,
        ids: npt.NDArray[np.int64],
        base: Prefilled | None,
        start: int,
        reading: Reading,
        lengths: Collection[int],
        into: Prefilled | None = None,
    ) -> None:
        """Read the tokens after the first `start`, which `base` holds, and keep what they give."""
        base = base if start else None
        for _ in self._forward(ids, base, start, reading, lengths, keep_logits=False, into=into):
            pass

    def _forward(
        self,
        ids: npt.NDArray[np.int64],
        base: Prefilled | None,
        start: int,
        reading: Reading,
        lengths: Collection[int],
        *,
        keep_logits: bool,
        keep: bool = True,
        into: Prefilled | None = None,
    ) -> Iterator[torch.Tensor]:
        """Run the tokens after the first `start`, which `base` holds; yield their logits; `keep` the whole.

        The states after each of the `lengths` are kept with it, or given to a stored sequence `into` that holds
        all of `ids` already.
        """
        last: States = () if base is None else base.states_at(start)
        cache = empty_cache(self._model) if base is None else self._begun(base.planes, last, start)
        self._make_room(0 if into else len(ids), len(lengths), base if into is None else into)
        stops = sorted(length for length in lengths if start < length < len(ids)) if self._with_states else []
        states: dict[int, States] = {}
        while start < len(ids):
            size = min(self._chunk, (stops[0] if stops else len(ids)) - start)
            if start and self._by_steps:
                size = 1
            if keep_logits:
                size = max(1, min(size, self._logits_bytes // (4 * self._vocab)))
            try:
                logits = self._pass(ids[start : start + size], start, cache, reading, keep_logits)
                read = sequence_states(cache) if self._with_states else ()
            except (RuntimeError, MemoryError) as error:
                if self._chunk <= _SMALLEST_CHUNK or not is_out_of_memory(error):
                    raise
            else:
                if self._layout is None:
                    self._layout = cache_layout(cache)
                yield logits
                start, last = start + size, read
                if self._with_states and start in {*lengths, len(ids)}:
                    states[start] = read
                stops = [stop for stop in stops if stop > start]
                continue
            # Some layers have these tokens already, others not; and what is stored may have to go.
            cache = self._begun(sequence_planes(cache), last, start) if start else empty_cache(self._model)
            self._chunk = max(_SMALLEST_CHUNK, self._chunk // 2)
            self._make_room(len(ids), 1, base if into is None else into, short=True)
            self._say()
        if into is not None:
            self.kept.give(into, states, lengths)
        elif keep:
            if base is not None and base.states is not None:
                states = {at: base.states[at] for at in lengths if at in base.states} | states
            self.kept.keep(Prefilled(ids, sequence_planes(cache), reading, self._by_length(states)))

    def _begun(self, planes: Planes, states: States, tokens: int) -> DynamicCache:
        """A cache that a pass can go on from after so many tokens."""
        return to_cache(self._model, self.layout, planes, states, tokens)

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
        return forward(self._model, inputs, positions, cache, logits_to_keep=0 if keep_logits else 1)[0]

    def _make_room(
        self, tokens: int, states: int, base: Prefilled | None = None, *, short: bool = False
    ) -> None:
        """Let the oldest entries but `base` go until so many tokens and sequences' states more fit.

        Where memory is short, all go.
        """
        if self._layout is not None:
            needed = tokens * self._layout.bytes_per_token + states * self._layout.state_bytes
            self.kept.make_room(None if short else needed, base)
