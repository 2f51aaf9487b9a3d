"""Adding vectors to the residual stream while a model runs: a context manager that leaves nothing behind.

A *variant* is what one row of a batch gets: any number of interventions, each a vector at a layer with its
gate (`pts.steering.tables`). Rows of different variants share a batch. Which positions are of a completion, and
so steered, is followed from the first forward pass on (`pts.steering.passes`).
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import torch

from pts.errors import ConfigError, ModelError
from pts.models.decoder_layers import LOOKING, decoder_layers, residual_of, with_residual
from pts.steering.generate_calls import GenerateCalls
from pts.steering.lens import LogitLens
from pts.steering.passes import Passes, PromptTokens, Span
from pts.steering.tables import Intervention, Picked, Rows, Table, Variant, tables
from pts.steering.tally import Added
from pts.steering.vector_algebra import require_shape
from pts.steering.vector_set import Gate, VectorSet

__all__ = ["Intervention", "Steering", "UnsteeredWarning", "Variant", "interventions", "is_steered", "steer"]

_STEERED: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
"""How many contexts steer each model now."""


@dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    """The variants of a batch's rows, with what they take of each layer's tables once that was picked.

    `steered` says which rows have a variant [rows], True for each.
    """

    rows: Rows
    steered: bool | torch.Tensor
    picked: dict[tuple[int, torch.device, torch.dtype], list[Picked]] = field(default_factory=dict)


class UnsteeredWarning(UserWarning):
    """Texts were read while steering was on, and none of their positions was one that is steered."""


class Steering:
    """The handle that `steer` yields. Variant 0 is the model as it is; the variants given count from 1.

    Under `generate`, and in passes made by hand, every row is of variant 1, or of those set in `rows` [batch];
    positions of the prompt are not steered. What is prompt is followed from the first pass on; `prompt_tokens`
    says it, padding included, for one number of tokens or one a row, where passes by hand do not tell.
    `positions_seen` counts the positions of completions that were read, `positions_steered` those of them at
    which a gate was open: none steered of many seen is a gate that never opened.
    An engine of its own calls `begin_step` before each pass, and steers nothing in any other. Nothing is
    counted for it.
    """

    def __init__(self, model: Any, variants: Sequence[Variant], layers_path: str | None) -> None:
        self.rows: Sequence[int] | None = None
        self._model = model
        self._base = model.get_base_model() if hasattr(model, "get_base_model") else model
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
        # Where no engine announces passes: what is read, the module whose pass is on, how many layers were
        # steered in it, and where.
        self._passes = Passes()
        self._calls = GenerateCalls(self._base, self._passes, lambda: self.rows, self._steers)
        self._inside: Any = None
        self._span: Span | None = None
        self._ran = 0
        self._added: list[Added] | None = None

    @property
    def prompt_tokens(self) -> PromptTokens:
        """Tokens of the prompts, of every row or of each; None (the default) where passes tell."""
        return self._passes.prompt_tokens

    @prompt_tokens.setter
    def prompt_tokens(self, tokens: PromptTokens) -> None:
        self._passes.prompt_tokens = tokens

    @property
    def positions_seen(self) -> int:
        """Positions of completions read so far, each once, in rows that have a variant."""
        return self._passes.counts()[0]

    @property
    def positions_steered(self) -> int:
        """Positions of completions to which at least one vector was added so far, each once."""
        return self._passes.counts()[1]

    def steered_positions(self) -> torch.Tensor:
        """Where a vector was added in the batch of texts that was begun last: booleans [rows, positions].

        Positions are counted from the first token of the completions. Empty where nothing was read.
        """
        return self._passes.steered_last()

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
            variants = torch.tensor(rows)
            self._mixed = list(rows), _Batch(variants, variants != 0)
            return self._mixed[1]
        variant = int(rows[0])
        if variant not in self._alike:
            self._alike[variant] = _Batch(variant, True) if variant else None
        return self._alike[variant]

    def install(self, engine_driven: bool) -> None:
        """Put the hooks on the model. Raises ModelError for a compiled one, which would go by them."""
        self.engine_driven = engine_driven
        _require_eager(self._model)
        _STEERED[self._base] = _STEERED.get(self._base, 0) + 1
        for layer in self._tables:
            block = self._layers[layer]
            self._handles.append(block.register_forward_hook(self._hook(layer)))
        if engine_driven:
            self._handles.append(self._model.register_forward_hook(self._end_pass, always_call=True))
            return
        self._added = []
        # A caller may call the model, what it wraps, or what holds the blocks: the outermost has the pass.
        for module in dict.fromkeys((self._model, self._base, _owner(self._base, self._layers))):
            names = _arguments(module, self._base)
            self._handles.append(module.register_forward_pre_hook(self._see_inputs(names), with_kwargs=True))
            self._handles.append(module.register_forward_hook(self._see_output, always_call=True))
        self._calls.install()

    def remove(self) -> None:
        """Take every hook off again."""
        if self._handles:
            _STEERED[self._base] -= 1
        self._calls.remove()
        while self._handles:
            self._handles.pop().remove()
        self._on = self._inside = None

    def unsteered_texts(self) -> tuple[int, int]:
        """Of the batches of texts read so far, how many had no position to steer; and how many there were."""
        return self._passes.unsteered()

    def _see_inputs(self, names: tuple[str, ...]) -> Any:
        def see(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if self._inside is not None:
                return
            self._on = None
            if LOOKING.get():
                self._inside = module
                return
            span = self._passes.span({**dict(zip(names, args, strict=False)), **kwargs} if args else kwargs)
            if span.any and self.rows is not None and len(self.rows) != span.text.rows:
                raise ConfigError(
                    f"steering has variants for {len(self.rows)} rows; the batch has {span.text.rows}."
                )
            self._inside, self._span, self._ran = module, span, 0
            if span.any:
                span.text.reached = True
                ids = self._ids(args, kwargs) if self._reads_tokens else None
                self._begin([1] if self.rows is None else list(self.rows), ids, span.where)

        return see

    def _ids(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The ids of a pass, at which a gate looks. Raises ConfigError where there are none."""
        ids = kwargs.get("input_ids", args[0] if args else None)
        if ids is None:
            raise ConfigError("a gate opens after certain tokens, and the pass has embeddings only: pass ids.")
        return ids

    def _see_output(self, module: Any, _args: Any, output: Any) -> None:
        if module is not self._inside:
            return
        batch, span, added = self._on, self._span, self._added
        self._on = self._inside = self._span = None
        self._added = []
        if output is None or span is None:
            return
        cache = getattr(output, "past_key_values", None)
        if cache is None:
            cache = getattr(output, "cache_params", None)
        if cache is not None:
            self._passes.register(cache, span.text)
        if batch is None:
            return
        if self._ran != len(self._tables) and self._passes.depth < 2:
            raise ModelError(
                f"{self._ran} of {len(self._tables)} steered layers ran in a pass: a compiled model, or one "
                "that leaves layers out, cannot be steered."
            )
        if span.text.counted:
            span.text.tally.note(span.first, span.size, batch.steered, span.where, added or ())

    def _steers(self) -> bool:
        """Whether any row has a variant that adds something."""
        return bool(self._tables) and (self.rows is None or any(self.rows))

    def _end_pass(self, *_: Any) -> None:
        self._on = None

    def _hook(self, layer: int) -> Any:
        # This runs at every layer and step, where a call more is time that can be measured.
        def add(_module: Any, _args: Any, output: Any) -> Any:
            batch = self._on
            if batch is None:
                if self._inside is None and not self.engine_driven:
                    raise ModelError(
                        "decoder blocks ran outside a pass of the model, which cannot be steered: "
                        "call the model."
                    )
                return None
            self._ran += 1
            hidden = output if isinstance(output, torch.Tensor) else residual_of(output)
            found = batch.picked.get((layer, hidden.device, hidden.dtype))
            steered = hidden
            for picked in self._pick(layer, hidden, batch) if found is None else found:
                steered = picked.added_to(steered, self._tokens, self._where, self._lens, self._added)
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


def is_steered(model: Any) -> bool:
    """Whether a `steer` context of this model is open."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return _STEERED.get(base, 0) > 0


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
            layer,
            vectors.added(name, layer) * factor,
            vectors.vector(name).gate if gated else Gate(),
        )
        for name, factor in chosen.items()
        for layer in vectors.vector(name).places
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
    each row has its own. Works for every row of a batch, at decode positions, under `generate` in each of its
    modes (with and without a cache, beams, drafts of any kind, a cache that holds a prompt's beginning) and in
    passes by hand; what cannot be followed is refused. `positions_steered` of what is yielded counts. Leaving
    the context warns (`UnsteeredWarning`) where a text was read and none of it was a completion. `layers_path`
    is the module with the decoder blocks, None for the set's own or where it is found.
    `engine_driven` is for loops that announce each pass by `begin_step`. Raises VectorError for a vector of
    another width than the model's residual stream or a layer that it does not have, ConfigError for a pattern
    that the set does not have, or patterns without a set, and ModelError for a compiled model.

        with steer(model, load_vectors("demo"), {"all": 1.5}) as steering:
            model.generate(**inputs)
        steering.positions_steered
    """
    if isinstance(vectors, VectorSet):
        require_shape(vectors, model)
        layers_path = layers_path or vectors.model.layers_path
        variants: Sequence[Variant] = [interventions(vectors, patterns)]
    elif patterns is not None:
        raise ConfigError(f"patterns ({', '.join(patterns)}) need a vector set: give one.")
    else:
        variants = vectors
    _require_eager(model)
    steering = Steering(model, variants, layers_path)
    try:
        steering.install(engine_driven)
        yield steering
    finally:
        steering.remove()
    unsteered, texts = steering.unsteered_texts()
    if unsteered:
        warnings.warn(
            f"{unsteered} of {texts} batches that were read while steering was on had no position to steer: "
            "prompts are not steered (set steering.prompt_tokens where a pass reads prompt and completion).",
            UnsteeredWarning,
            stacklevel=3,
        )


def _owner(model: Any, layers: Any) -> Any:
    """The module that holds the decoder blocks."""
    for module in model.modules():
        if any(child is layers for child in module.children()):
            return module
    return model


def _arguments(module: Any, base: Any) -> tuple[str, ...]:
    """Names of a module's arguments; a wrapper that hands on whatever it is given has those of its base."""
    arguments = inspect.signature(module.forward).parameters.values()
    if any(argument.kind is argument.VAR_POSITIONAL for argument in arguments):
        arguments = inspect.signature(base.forward).parameters.values()
    return tuple(argument.name for argument in arguments)


def _require_eager(model: Any) -> None:
    """Raise ModelError for a compiled model, whose passes may go by hooks."""
    compiled = type(model).__name__ == "OptimizedModule" or any(
        module._compiled_call_impl is not None or hasattr(module.forward, "_torchdynamo_orig_callable")
        for module in model.modules()
    )
    if compiled:
        raise ModelError("a compiled model bypasses the hooks that steer it: give the model before compiling.")
