"""Adding vectors to the residual stream while a model runs: a context manager that leaves nothing behind.

A *variant* is what one row of a batch gets: any number of interventions, each a vector at a layer with its
gate. Rows of different variants share a batch. The tables of a layer are indexed by variant, so a step costs
one gather and one addition however many variants there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from pts.errors import ConfigError
from pts.models.decoder_layers import decoder_layers, residual_of, with_residual
from pts.steering.lens import LogitLens
from pts.steering.vector_algebra import require_shape
from pts.steering.vector_set import Gate, VectorError, VectorSet


@dataclass(frozen=True, slots=True, eq=False)
class Intervention:
    """`vector` [hidden] is added to the output of decoder block `layer` (from 0) wherever `gate` is open."""

    layer: int
    vector: torch.Tensor
    gate: Gate = Gate()  # noqa: RUF009 (frozen)


Variant: TypeAlias = Sequence[Intervention]


Rows: TypeAlias = int | torch.Tensor
"""The variants of a batch's rows: one number where they are all of one, else a tensor [rows, 1]."""


@dataclass(frozen=True, slots=True, eq=False)
class _Pass:
    """One forward pass: its rows' variants, the ids read [rows, tokens], and where to steer [rows, tokens].

    The ids are None where no gate looks at them.
    """

    rows: Rows
    tokens: torch.Tensor | None
    where: torch.Tensor | None = None

    def to(self, device: torch.device) -> _Pass:
        """The same on another device, where a model is spread over several."""
        if isinstance(self.rows, torch.Tensor):
            return _Pass(self.rows.to(device), _moved(self.tokens, device), _moved(self.where, device))
        return _Pass(self.rows, _moved(self.tokens, device), _moved(self.where, device))


@dataclass(frozen=True, slots=True, eq=False)
class _Table:
    """One layer's interventions by variant, `vectors` [variants, hidden]; the first adds nothing.

    An addition is open where weight · h > threshold, and its token is allowed, and the lens is uncertain
    enough; what no variant of the table asks is None, and costs nothing.
    """

    vectors: torch.Tensor
    weights: torch.Tensor | None
    thresholds: torch.Tensor
    allowed: torch.Tensor | None
    entropies: torch.Tensor | None

    def to(self, device: torch.device, dtype: torch.dtype) -> _Table:
        """The same on another device, with what is added in the residual stream's dtype."""
        return _Table(
            self.vectors.to(device, dtype),
            _moved(self.weights, device),
            self.thresholds.to(device),
            _moved(self.allowed, device),
            _moved(self.entropies, device),
        )

    def opened(self, hidden: torch.Tensor, step: _Pass, lens: LogitLens | None) -> torch.Tensor | None:
        """Where its gates are open [rows, tokens]; None for everywhere."""
        tests = []
        if self.weights is not None:
            scores = torch.linalg.vecdot(hidden.float(), self.weights[step.rows])
            tests.append(scores > self.thresholds[step.rows])
        if self.allowed is not None and step.tokens is not None:
            tests.append(self.allowed[step.rows, step.tokens])
        if self.entropies is not None and lens is not None:
            tests.append(lens.entropy(hidden) > self.entropies[step.rows])
        return reduce(torch.logical_and, tests) if tests else None


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
        self._tables = _tables(model, variants, len(self._layers))
        kinds = {entry.gate.kind for variant in variants for entry in variant}
        self._lens = LogitLens(model, layers_path) if "entropy" in kinds else None
        self._reads_tokens = "tokens" in kinds
        self._placed: dict[tuple[int, torch.device, torch.dtype], list[_Table]] = {}
        self._pass: _Pass | None = None
        self._handles: list[Any] = []
        self.engine_driven = False

    def begin_step(self, variants: npt.NDArray[np.int64], tokens: npt.NDArray[np.int64]) -> None:
        """The next pass reads one token [rows] a row, steered by these variants [rows] (0: not at all)."""
        first = int(variants[0])
        alike = bool((variants == first).all())
        self._begin(first if alike else torch.from_numpy(variants), torch.from_numpy(tokens)[:, None])

    def begin_pass(
        self, variants: torch.Tensor, tokens: torch.Tensor, where: torch.Tensor | None = None
    ) -> None:
        """The next pass reads `tokens` [rows, n]; `where` [rows, n] says which positions may be steered."""
        self._begin(int(variants[0]) if len(variants) == 1 else variants, tokens, where)

    def _begin(self, rows: int | torch.Tensor, tokens: torch.Tensor, where: torch.Tensor | None = None) -> None:
        """Note the next pass, with the variants of its rows [rows], or none where nothing of it is steered."""
        if isinstance(rows, int) and rows == 0:
            self._pass = None
            return
        device = self._model.device
        self._pass = _Pass(
            rows if isinstance(rows, int) else rows.to(device)[:, None],
            tokens.to(device) if self._reads_tokens else None,
            None if where is None else where.to(device),
        )

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
        self._pass = None

    def _see_inputs(self, _module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Under `generate`: one token after others in the cache is a decode step, all else is prompt."""
        ids = kwargs.get("input_ids")
        if ids is None:
            ids = args[0] if args else None
        past = kwargs.get("past_key_values")
        if ids is None or ids.shape[1] != 1 or past is None or int(past.get_seq_length()) == 0:
            self._pass = None
            return
        if self.rows is not None and len(self.rows) != len(ids):
            raise ConfigError(f"steering has variants for {len(self.rows)} rows; the batch has {len(ids)}.")
        self._begin(1 if self.rows is None else self._checked(self.rows), ids)

    def _checked(self, named: Sequence[int]) -> int | torch.Tensor:
        """The rows' variants. Raises ConfigError for one that there is not."""
        if not all(0 <= row <= self._count for row in named):
            raise ConfigError(f"a row names variant {max(named)}; there are 0 to {self._count}.")
        return named[0] if len(set(named)) == 1 else torch.tensor(list(named))

    def _end_pass(self, *_: Any) -> None:
        self._pass = None

    def _hook(self, layer: int) -> Any:
        def add(_module: Any, _args: Any, output: Any) -> Any:
            if self._pass is None:
                return None
            hidden = residual_of(output)
            return with_residual(output, self._steered(layer, hidden, self._pass))

        return add

    def _steered(self, layer: int, hidden: torch.Tensor, step: _Pass) -> torch.Tensor:
        """The residual stream [rows, tokens, hidden] with what is added to it."""
        device = hidden.device
        step = step.to(device)
        steered = hidden
        for table in self._on(layer, device, hidden.dtype):
            added, opened = table.vectors[step.rows], table.opened(hidden, step, self._lens)
            if step.where is not None:
                opened = step.where if opened is None else opened & step.where
            steered = steered + (added if opened is None else added * opened[..., None])
        return steered

    def _on(self, layer: int, device: torch.device, dtype: torch.dtype) -> list[_Table]:
        """A layer's tables on the device where its output is, in its dtype."""
        key = (layer, device, dtype)
        if key not in self._placed:
            self._placed[key] = [table.to(device, dtype) for table in self._tables[layer]]
        return self._placed[key]


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
    padding and `generate`. `engine_driven` is for loops that announce each pass by `begin_step`. Raises
    VectorError for a vector of another width than the model's residual stream or a layer that it does not have,
    ConfigError for a pattern that the set does not have, or patterns without a set.

        with steer(model, load_vectors("demo"), {"all": 1.5}):
            model.generate(**inputs)
    """
    if isinstance(vectors, VectorSet):
        require_shape(vectors, model)
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


def _tables(model: Any, variants: Sequence[Variant], layers: int) -> dict[int, list[_Table]]:
    """By layer, one table for every intervention that a variant may have there."""
    config = model.config.get_text_config(decoder=True)
    hidden, vocab = int(config.hidden_size), int(config.vocab_size)
    for variant in variants:
        for intervention in variant:
            _check(intervention, hidden, layers)
    used = sorted({intervention.layer for variant in variants for intervention in variant})
    tables = {}
    for layer in used:
        here = [[entry for entry in variant if entry.layer == layer] for variant in variants]
        deepest = max(len(entries) for entries in here)
        tables[layer] = [
            _table([entries[slot] if slot < len(entries) else None for entries in here], hidden, vocab)
            for slot in range(deepest)
        ]
    return tables


def _table(entries: Sequence[Intervention | None], hidden: int, vocab: int) -> _Table:
    count = len(entries) + 1
    vectors = torch.zeros(count, hidden)
    kinds = {entry.gate.kind for entry in entries if entry is not None}
    weights = torch.zeros(count, hidden) if "probe" in kinds else None
    thresholds = torch.full((count,), -1.0)  # open: 0 > -1
    allowed = torch.ones(count, vocab, dtype=torch.bool) if "tokens" in kinds else None
    entropies = torch.full((count,), -float("inf")) if "entropy" in kinds else None
    for index, entry in enumerate(entries, start=1):
        if entry is None:
            continue
        gate = entry.gate
        vectors[index] = entry.vector.float().cpu()
        if gate.weight is not None and weights is not None:
            weights[index], thresholds[index] = gate.weight.float().cpu(), gate.threshold
        if gate.kind == "entropy" and entropies is not None:
            entropies[index] = gate.threshold
        if gate.kind == "tokens" and allowed is not None:
            allowed[index] = False
            allowed[index, list(gate.token_ids)] = True
    return _Table(vectors, weights, thresholds, allowed, entropies)


def _check(intervention: Intervention, hidden: int, layers: int) -> None:
    shapes = [intervention.vector.shape]
    if intervention.gate.weight is not None:
        shapes.append(intervention.gate.weight.shape)
    for shape in shapes:
        if tuple(shape) != (hidden,):
            raise VectorError(
                f"a steering vector has shape {list(shape)}; the model's residual stream is [{hidden}]."
            )
    if not 0 <= intervention.layer < layers:
        raise VectorError(
            f"layer {intervention.layer} is out of range: the model has decoder layers 0 to {layers - 1}."
        )


def _moved(values: torch.Tensor | None, device: torch.device) -> torch.Tensor | None:
    return None if values is None else values.to(device)
