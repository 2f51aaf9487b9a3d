"""Harvest: the residual stream around each pair's choice, at every layer asked for, streamed to shards.

Memory: `pts.steering.reading_memory` bounds in bytes the keys and values of a batch, its logits, each pass, and
the activations that wait for the disk. What is read back is one layer of all pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from safetensors import safe_open

from pts.errors import ConfigError, DataError
from pts.models.decoder_layers import decoder_layers, residual_of
from pts.policies.transformers.forward import forward, pieces
from pts.policies.transformers.model_cache import empty_cache, keeps_states
from pts.records import TokenIds
from pts.seeds import derive_seed
from pts.setting_names import setting
from pts.steering.pairs import Pair
from pts.steering.prefixes import BATCH_ROWS, PrefixBatch, padding_mask, prefix_batches
from pts.steering.read_cache import ReadLayers, read_cache, read_layers
from pts.steering.reading_memory import ReadingMemory
from pts.steering.tensor_files import write_passing_tensors

ORDINARY_EACH = 4
"""Ordinary positions kept for each pair."""
SHARD_BYTES = 512 * 2**20
"""Most activations that wait in memory before they go to disk as a shard, larger by a batch at most."""
_SHARD_SHARE = 0.25
"""What part of the memory for waiting activations a batch's own may be: it exists twice for a moment."""

_Decisions: TypeAlias = Mapping[TokenIds, set[TokenIds]]
"""By prompt, the completions' beginnings after which a choice is made."""


@dataclass(frozen=True, slots=True, eq=False)
class Activations:
    """Residual streams of some pairs at some layers.

    `before` [pairs, layers, hidden] is where the choice is made (the last token before the pivot), `better` and
    `worse` after the two tokens; `pairs` and `ordinary_pair` are the indices of the pairs they belong to;
    `ordinary` [positions, layers, hidden] at positions of the same completions where no pivot was confirmed.
    `before_token` and `ordinary_token` are the ids read there.
    """

    pairs: torch.Tensor
    before: torch.Tensor
    better: torch.Tensor
    worse: torch.Tensor
    ordinary: torch.Tensor
    before_token: torch.Tensor
    ordinary_token: torch.Tensor
    ordinary_pair: torch.Tensor

    @property
    def nbytes(self) -> int:
        """Bytes of all of it."""
        return sum(getattr(self, name).nbytes for name in Activations.__slots__)


@dataclass(frozen=True)
class Harvest:
    """A harvest on disk: its shards in order, and the layers that they hold."""

    shards: tuple[Path, ...]
    layers: tuple[int, ...]

    def layer(self, layer: int) -> Activations:
        """One layer of every shard, float32, layers dimension gone: `before` is [pairs, hidden]."""
        place = self.layers.index(layer)
        parts = [_read(path, place) for path in self.shards]
        order = torch.argsort(torch.cat([part.pairs for part in parts]))
        joined = {name: torch.cat([getattr(part, name) for part in parts]) for name in Activations.__slots__}
        for name in ("pairs", "before", "better", "worse", "before_token"):
            joined[name] = joined[name][order]
        return Activations(**joined)

    def of(self, layer: int, indices: Sequence[int]) -> Activations:
        """One layer of the pairs with these indices, in the order given, with their ordinary positions.

        An index is `Pair.index`, not a place among the pairs: findings without another side have no pair.
        Raises KeyError for one that was not harvested.
        """
        every = self.layer(layer)
        rows = {index: row for row, index in enumerate(every.pairs.tolist())}
        chosen = torch.tensor(indices, dtype=torch.long)
        places = torch.tensor([rows[index] for index in indices], dtype=torch.long)
        theirs = torch.isin(every.ordinary_pair, chosen)
        return Activations(
            pairs=chosen,
            before=every.before[places],
            better=every.better[places],
            worse=every.worse[places],
            ordinary=every.ordinary[theirs],
            before_token=every.before_token[places],
            ordinary_token=every.ordinary_token[theirs],
            ordinary_pair=every.ordinary_pair[theirs],
        )

    @cached_property
    def residual_norms(self) -> dict[int, float]:
        """Mean norm of the residual stream at ordinary positions, by layer."""
        return {layer: float(torch.cat(self._norms(place)).mean()) for place, layer in enumerate(self.layers)}

    def _norms(self, place: int) -> list[torch.Tensor]:
        """Norms at ordinary positions of one layer, shard by shard."""
        norms = []
        for path in self.shards:
            with safe_open(str(path), "pt") as shard:
                norms.append(shard.get_slice("ordinary")[:, place].float().norm(dim=-1))
        return norms


def harvest(
    model: Any,
    pairs: Sequence[Pair],
    directory: Path,
    layers: Sequence[int] | None = None,
    *,
    seed: int = 0,
    layers_path: str | None = None,
    observe: Callable[[int], None] | None = None,
    memory_bytes: int | None = None,
) -> Harvest:
    """Harvest all pairs to `directory`/harvest-00000.safetensors and so on; memory does not grow with pairs.

    Each prefix is read once, the better token with it; the worse token is one more token after the same keys
    and values, or states. `memory_bytes` is what it may take (by default half of what is free). `observe` hears
    how many pairs are done. Raises ConfigError for a layer out of range and DataError for an activation that
    is not finite, naming pivot and layer.
    """
    blocks = decoder_layers(model, layers_path)
    chosen = tuple(range(len(blocks))) if layers is None else tuple(layers)
    outside = [layer for layer in chosen if not 0 <= layer < len(blocks)]
    if outside or not chosen:
        raise ConfigError(
            f"layer {outside[0] if outside else '(none)'} is out of range: the model has decoder layers 0 to "
            f"{len(blocks) - 1}."
        )
    shards: list[Path] = []
    waiting: list[Activations] = []
    done = 0
    decisions = _decisions(pairs)
    memory = ReadingMemory.of(model, memory_bytes)
    shard_bytes = min(SHARD_BYTES, memory.part)
    rows = _rows(model, len(chosen), memory)
    with _capture([blocks[layer] for layer in chosen]) as capture:
        for batch in prefix_batches(model, pairs, most_rows=rows, memory=memory):
            waiting.append(_harvest_batch(model, batch, capture, decisions, seed, memory))
            _require_finite(waiting[-1], batch, chosen)
            done += len(batch.pairs)
            if observe is not None:
                observe(done)
            if sum(part.nbytes for part in waiting) >= shard_bytes or done == len(pairs):
                shards.append(directory / f"harvest-{len(shards):05d}.safetensors")
                _write(shards[-1], waiting)
                waiting = []
    return Harvest(tuple(shards), chosen)


def _rows(model: Any, layers: int, memory: ReadingMemory) -> int:
    """Rows of a batch whose activations at so many layers may wait."""
    width = int(model.config.get_text_config(decoder=True).hidden_size)
    each: int = (3 + ORDINARY_EACH) * layers * width * model.dtype.itemsize
    return min(BATCH_ROWS, max(1, int(_SHARD_SHARE * memory.part) // each))


class _Capture:
    """What hooks keep of a forward pass: the residual stream at chosen places, layer by layer."""

    def __init__(self) -> None:
        self.rows: torch.Tensor | None = None
        self.columns: torch.Tensor | None = None
        self.residuals: list[torch.Tensor] = []

    def keep(self, rows: torch.Tensor, columns: torch.Tensor) -> None:
        """From the next passes keep these places (`rows` [n], `columns` [n])."""
        self.rows, self.columns, self.residuals = rows, columns, []

    def see(self, output: object) -> None:
        """Take the chosen places of one layer's output."""
        if self.rows is not None and self.columns is not None:
            hidden = residual_of(output)
            self.residuals.append(hidden[self.rows.to(hidden.device), self.columns.to(hidden.device)].cpu())

    def taken(self) -> torch.Tensor:
        """What was kept since `keep`: [n, layers, hidden]."""
        return torch.stack(self.residuals, dim=1)


@contextmanager
def _capture(blocks: Sequence[Any]) -> Iterator[_Capture]:
    capture = _Capture()
    handles = [block.register_forward_hook(lambda _m, _a, output: capture.see(output)) for block in blocks]
    try:
        yield capture
    finally:
        for handle in handles:
            handle.remove()


@torch.inference_mode()
def _harvest_batch(
    model: Any,
    batch: PrefixBatch,
    capture: _Capture,
    decisions: _Decisions,
    seed: int,
    memory: ReadingMemory,
) -> Activations:
    rows = len(batch.pairs)
    width = batch.ids.shape[1]
    device = batch.ids.device
    ordinary_rows, ordinary_columns = _ordinary_places(batch, decisions, seed)
    every = torch.arange(rows, device=device)
    places = (
        torch.cat([every, every, ordinary_rows.to(device)]),
        torch.cat(
            [torch.full_like(every, width - 1), torch.full_like(every, width), ordinary_columns.to(device)]
        ),
    )
    cache = empty_cache(model)
    mask = torch.cat([batch.mask, batch.mask.new_ones(rows, 1)], dim=1)
    positions = torch.cat([batch.positions, batch.positions[:, -1:] + 1], dim=1)
    ids = torch.cat([batch.ids, batch.better[:, None]], dim=1)
    first = torch.empty(0)
    # The worse token takes the better one's place after the same: states are taken before that one is read.
    read: ReadLayers | None = None
    for start, end in _spans(model, width, memory.columns(rows, width + 1)):
        if start == width:
            read = read_layers(cache)
        inside = ((places[1] >= start) & (places[1] < end)).nonzero()[:, 0]
        capture.keep(places[0][inside], places[1][inside] - start)
        forward(
            model, ids[:, start:end], positions[:, start:end], cache, mask=padding_mask(model, mask[:, :end])
        )
        taken = capture.taken()
        if not first.numel():
            first = taken.new_empty(len(places[0]), *taken.shape[1:])
        first[inside.cpu()] = taken
    read = read or read_layers(cache, width)
    capture.keep(every, torch.zeros_like(every))
    forward(
        model, batch.worse[:, None], positions[:, -1:], read_cache(model, read), mask=padding_mask(model, mask)
    )
    indices = torch.tensor([pair.index for pair in batch.pairs])
    return Activations(
        pairs=indices,
        before=first[:rows],
        better=first[rows : 2 * rows],
        worse=capture.taken(),
        ordinary=first[2 * rows :],
        before_token=batch.ids[:, -1].cpu(),
        ordinary_token=batch.ids.cpu()[ordinary_rows, ordinary_columns],
        ordinary_pair=indices[ordinary_rows],
    )


def _spans(model: Any, width: int, size: int) -> Iterator[tuple[int, int]]:
    """Passes over `width` columns and the token behind them, which has one of its own where states are kept."""
    if not keeps_states(model):
        yield from pieces(model, width + 1, size)
        return
    yield from pieces(model, width, size)
    yield width, width + 1


def _decisions(pairs: Sequence[Pair]) -> _Decisions:
    decisions: dict[TokenIds, set[TokenIds]] = {}
    for pair in pairs:
        decisions.setdefault(pair.prompt, set()).add(pair.prefix)
    return decisions


def _ordinary_places(batch: PrefixBatch, decisions: _Decisions, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Places (rows, columns) of completion positions before each pair's own, drawn for each pair on its own.

    Positions where another pair's choice is made are not ordinary.
    """
    width = batch.ids.shape[1]
    rows: list[int] = []
    columns: list[int] = []
    for row, pair in enumerate(batch.pairs):
        length = len(pair.prefix)
        others = decisions[pair.prompt]
        taken = {len(other) for other in others if pair.prefix[: len(other)] == other}
        free = [end for end in range(length) if end not in taken]
        rng = np.random.default_rng(derive_seed(seed, "ordinary", pair.index))
        drawn = rng.choice(len(free), size=min(ORDINARY_EACH, len(free)), replace=False)
        rows += [row] * len(drawn)
        columns += [width - length + free[place] - 1 for place in drawn]
    return torch.tensor(rows, dtype=torch.long), torch.tensor(columns, dtype=torch.long)


def _require_finite(part: Activations, batch: PrefixBatch, layers: Sequence[int]) -> None:
    for name in ("before", "better", "worse"):
        bad = ~torch.isfinite(getattr(part, name)).all(dim=-1)
        if bad.any():
            row, place = (int(index) for index in bad.nonzero()[0])
            pair = batch.pairs[row]
            raise DataError(
                f"the residual stream {name} the pivot {pair.taken.token!r} of problem {pair.problem_id} "
                f"is not finite at layer {layers[place]}: load the model with "
                f"{setting('dtype', 'float32')} or bfloat16."
            )


def _write(path: Path, parts: Sequence[Activations]) -> None:
    tensors = {
        name: torch.cat([getattr(part, name) for part in parts]).contiguous() for name in Activations.__slots__
    }
    write_passing_tensors(path, tensors)


def _read(path: Path, place: int) -> Activations:
    whole = ("pairs", "before_token", "ordinary_token", "ordinary_pair")
    with safe_open(str(path), "pt") as shard:
        values = {
            name: shard.get_tensor(name) if name in whole else shard.get_slice(name)[:, place].float()
            for name in Activations.__slots__
        }
    return Activations(**values)
