"""Adding vectors to the residual stream while a model runs: a context manager that leaves nothing behind.

A *variant* is what one row of a batch gets: any number of interventions, each a vector at a layer with its
gate (`pts.steering.tables`). Rows of different variants share a batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pts.errors import ConfigError
from pts.models.decoder_layers import decoder_layers, residual_of, with_residual
from pts.steering.lens import LogitLens
from pts.steering.tables import Intervention, Picked, Rows, Table, Variant, tables
from pts.steering.vector_algebra import require_shape
from pts.steering.vector_set import Gate, VectorSet

__all__ = ["Intervention", "Steering", "Variant", "interventions", "steer"]


@dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    """The variants of a batch's rows, with what they take of each layer's tables once that was picked."""

    rows: Rows
    picked: dict[tuple[int, torch.device, torch.dtype], list[Picked]] = field(default_factory=dict)


class Steering:
    """The handle that `steer` yields. Variant 0 is the model as it is; the variants given count from 1.

    Under `generate` every row is of variant 1, or of those set in `rows` [batch]; positions of the prompt are
    not steered. An engine of its own calls `begin_step` before each pass, and steers nothing in any other.
    """

    def __init__(self, model: Any, variants: Sequence[Variant], layers_path: str | None) -> None:
        self.rows: Sequence[int] | None = None
        self._model = model
        self._layers = decoder_layers(model, layers_path)
        self._count = len(variants)
        self._tables = tables(model, variants, len(self._layers))
        kinds = {entry.gate.kind for variant in variants for entry in variant}
        self._lens = LogitLens(model, layers_path) if "entropy" in kinds else None
        self._reads_tokens = "tokens" in kinds
        self._placed: dict[tuple[int, torch.device, torch.dtype], list[Table]] = {}
        self._alike: dict[int, _Batch | None] = {}
        self._mixed: tuple[list[int], _Batch] | None = None
        # Of the pass that is next or on: its batch, None where nothing of it is steered, the ids read
        # [rows, n] where a gate looks at them, and the positions [rows, n] that may be steered.
        self._on: _Batch | None = None
        self._tokens: torch.Tensor | None = None
        self._where: torch.Tensor | None = None
        self._handles: list[Any] = []
        self.engine_driven = False

    def begin_step(self, variants: npt.NDArray[np.int64], tokens: npt.NDArray[np.int64]) -> None:
        """The next pass reads one token [rows] a row, steered by these variants [rows] (0: not at all)."""
        self._begin(variants.tolist(), torch.from_numpy(tokens)[:, None] if self._reads_tokens else None)

    def begin_pass(
        self, variants: torch.Tensor, tokens: torch.Tensor, where: torch.Tensor | None = None
    ) -> None:
        """The next pass reads `tokens` [rows, n]; `where` [rows, n] says which positions may be steered."""
        self._begin(variants.tolist(), tokens if self._reads_tokens else None, where)

    def _begin(self, rows: list[int], tokens: torch.Tensor | None, where: torch.Tensor | None = None) -> None:
        """Note the next pass, with the variants of its rows, or none where nothing of it is steered."""
        self._on, self._tokens, self._where = self._batch(rows), tokens, where

    def _batch(self, rows: list[int]) -> _Batch | None:
        """The batch of these rows, the one before where they are the same; None where none is steered.

        Raises ConfigError for a variant that there is not.
        """
        if len(rows) == 1 and rows[0] in self._alike:
            return self._alike[rows[0]]
        if self._mixed is not None and rows == self._mixed[0]:
            return self._mixed[1]
        named = set(rows)
        if not all(0 <= row <= self._count for row in named):
            raise ConfigError(f"a row names variant {max(named)}; there are 0 to {self._count}.")
        if len(named) > 1:
            self._mixed = list(rows), _Batch(torch.tensor(rows))
            return self._mixed[1]
        variant = int(rows[0])
        if variant not in self._alike:
            self._alike[variant] = _Batch(variant) if variant else None
        return self._alike[variant]

    def install(self, engine_driven: bool) -> None:
        """Put the hooks on the model."""
        self.engine_driven = engine_driven
        for layer in self._tables:
            block = self._layers[layer]
            self._handles.append(block.register_forward_hook(self._hook(layer)))
        if not engine_driven:
            self._handles.append(self._model.register_forward_pre_hook(self._see_inputs, with_kwargs=True))
        self._handles.append(self._model.register_forward_hook(self._end_pass, always_call=True))

    def remove(self) -> None:
        """Take every hook off again."""
        while self._handles:
            self._handles.pop().remove()
        self._on = None

    def _see_inputs(self, _module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Under `generate`: one token after others in the cache is a decode step, all else is prompt."""
        ids = kwargs.get("input_ids")
        if ids is None:
            ids = args[0] if args else None
        past = kwargs.get("past_key_values")
        if ids is None or ids.shape[1] != 1 or past is None or int(past.get_seq_length()) == 0:
            self._on = None
            return
        if self.rows is not None and len(self.rows) != len(ids):
            raise ConfigError(f"steering has variants for {len(self.rows)} rows; the batch has {len(ids)}.")
        self._begin([1] if self.rows is None else list(self.rows), ids if self._reads_tokens else None)

    def _end_pass(self, *_: Any) -> None:
        self._on = None

    def _hook(self, layer: int) -> Any:
        # This runs at every layer and step, where a call more is time that can be measured.
        def add(_module: Any, _args: Any, output: Any) -> Any:
            batch = self._on
            if batch is None:
                return None
            hidden = output if isinstance(output, torch.Tensor) else residual_of(output)
            found = batch.picked.get((layer, hidden.device, hidden.dtype))
            steered = hidden
            for picked in self._pick(layer, hidden, batch) if found is None else found:
                steered = picked.added_to(steered, self._tokens, self._where, self._lens)
            if hidden is output and steered.shape == hidden.shape:
                return steered
            return with_residual(output, steered)

        return add

    def _pick(self, layer: int, hidden: torch.Tensor, batch: _Batch) -> list[Picked]:
        """What a batch takes of a layer's tables, on the device where its output is, in its dtype."""
        key = (layer, hidden.device, hidden.dtype)
        # What is kept must also do in a pass with gradients, which tensors made in inference mode do not.
        with torch.inference_mode(False):
            if key not in self._placed:
                self._placed[key] = [table.to(hidden.device, hidden.dtype) for table in self._tables[layer]]
            batch.picked[key] = [table.pick(batch.rows) for table in self._placed[key]]
        return batch.picked[key]


def interventions(
    vectors: VectorSet, strengths: Mapping[str, float] | None = None, *, gated: bool = True
) -> tuple[Intervention, ...]:
    """A set's patterns as one variant: `strengths` maps patterns to multiples of the calibrated strength.

    By default the set's first pattern at 1.0. Where not `gated` they are added at every decode position,
    whatever the set's gates. Raises ConfigError for a pattern that the set does not have.
    """
    chosen = {next(iter(vectors.vectors)): 1.0} if strengths is None else strengths
    return tuple(
        Intervention(
            vectors.vector(name).layer,
            vectors.added(name) * factor,
            vectors.vector(name).gate if gated else Gate(),
        )
        for name, factor in chosen.items()
    )


@contextmanager
def steer(
    model: Any,
    vectors: VectorSet | Sequence[Variant],
    patterns: Mapping[str, float] | None = None,
    *,
    engine_driven: bool = False,
    layers_path: str | None = None,
) -> Iterator[Steering]:
    """Steer `model` while the context lasts; afterwards no hook is left, whatever happened in it.

    `vectors` is a set, whose `patterns` (see `interventions`) are on in every row, or the variants among which
    each row has its own. Works for every row of a batch, at decode positions, under a key-value cache, left
    padding and `generate`. `layers_path` is the module with the decoder blocks, None for the set's own or where
    it is found. `engine_driven` is for loops that announce each pass by `begin_step`. Raises
    VectorError for a vector of another width than the model's residual stream or a layer that it does not have,
    ConfigError for a pattern that the set does not have, or patterns without a set.

        with steer(model, load_vectors("demo"), {"all": 1.5}):
            model.generate(**inputs)
    """
    if isinstance(vectors, VectorSet):
        require_shape(vectors, model)
        layers_path = layers_path or vectors.model.layers_path
        variants: Sequence[Variant] = [interventions(vectors, patterns)]
    elif patterns is not None:
        raise ConfigError(f"patterns ({', '.join(patterns)}) are a vector set's: give one.")
    else:
        variants = vectors
    steering = Steering(model, variants, layers_path)
    try:
        steering.install(engine_driven)
        yield steering
    finally:
        steering.remove()
