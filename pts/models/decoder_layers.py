"""A causal language model's decoder blocks, found by what they do and not by what they are called."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from pts.errors import ModelError

_SHOWN = 6
LOOKING: ContextVar[bool] = ContextVar("looking", default=False)
"""Whether the pass that is on only looks for a model's blocks: no text of anybody's is read by it."""


@dataclass(slots=True)
class _Passage:
    """What went into each block of a list and what came out of it, in the order of the calls."""

    inputs: dict[int, object] = field(default_factory=dict)
    outputs: dict[int, object] = field(default_factory=dict)


def decoder_layers(model: Any, path: str | None = None) -> nn.ModuleList:
    """The decoder blocks of a causal language model, the first one first.

    They are the `ModuleList` with as many blocks as the text config has hidden layers, through which one token
    passes block after block: each takes what the one before returned, of the width of the residual stream. To
    see that, the model runs once on one token. `path` names the list instead, such as "model.layers", from the
    model that a PEFT wrapper wraps; it is held to the same. Nothing is left on the model.

    Raises ModelError where no list of the model fits, more than one does, or that at `path` does not.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    config = base.config.get_text_config(decoder=True)
    count, width = int(config.num_hidden_layers), int(config.hidden_size)
    lists = {name: module for name, module in base.named_modules() if isinstance(module, nn.ModuleList)}
    if path is not None:
        if path not in lists:
            raise ModelError(f"the model has no list of decoder blocks at {path!r}; {_lists_of(lists)}.")
        candidates = {path: lists[path]}
    else:
        candidates = {name: blocks for name, blocks in lists.items() if len(blocks) == count}
    fitting = _carrying_residuals(model, base, candidates, width)
    if len(fitting) == 1:
        return next(iter(fitting.values()))
    if path is not None:
        raise ModelError(
            f"the blocks at {path!r} do not pass a residual stream of width {width} from one "
            f"to the next; {_lists_of(lists)}."
        )
    found = f"{len(fitting)} lists that could be" if fitting else "no list that is"
    raise ModelError(
        f"{type(base).__name__} has {found} its {count} decoder blocks: name the module by layers_path, "
        f'such as "model.layers"; {_lists_of(fitting or lists)}.'
    )


def residual_of(output: object) -> Tensor:
    """The residual stream [batch, tokens, hidden] in a decoder block's output: a tensor, or a tuple's first.

    Raises ModelError for anything else.
    """
    first = output[0] if isinstance(output, (tuple, list)) and output else output
    if not isinstance(first, Tensor):
        raise ModelError(
            f"a decoder block returned {type(output).__name__}, not a tensor or a tuple that starts with one: "
            "layers_path must name the list of decoder blocks."
        )
    return first


def with_residual(output: object, residual: Tensor) -> Any:
    """What a decoder block returned, with its residual stream replaced and the rest as it was.

    Raises ModelError where `output` holds no residual stream, or one of another shape.
    """
    there = residual_of(output)
    if there.shape != residual.shape:
        raise ModelError(f"a residual stream {tuple(there.shape)} cannot become {tuple(residual.shape)}.")
    if isinstance(output, (tuple, list)):
        return type(output)((residual, *output[1:]))
    return residual


def _carrying_residuals(
    model: Any, base: Any, candidates: dict[str, nn.ModuleList], width: int
) -> dict[str, nn.ModuleList]:
    """Those of the lists that one token passes through from block to block, as seen in a run of the model."""
    if not candidates:
        return {}
    looking = LOOKING.set(True)
    try:
        with _recording(candidates) as passages, torch.no_grad():
            model(input_ids=torch.zeros((1, 1), dtype=torch.long, device=base.device), use_cache=False)
    finally:
        LOOKING.reset(looking)
    return {
        name: blocks
        for name, blocks in candidates.items()
        if _is_chain(passages[name], len(blocks), width) and not _inside_another(name, candidates)
    }


@contextmanager
def _recording(candidates: dict[str, nn.ModuleList]) -> Iterator[dict[str, _Passage]]:
    """Passages through every block of the lists, for as long as the context lasts."""
    passages = {name: _Passage() for name in candidates}
    handles = [
        block.register_forward_hook(_recorder(passages[name], index), with_kwargs=True)
        for name, blocks in candidates.items()
        for index, block in enumerate(blocks)
    ]
    try:
        yield passages
    finally:
        for handle in handles:
            handle.remove()


def _recorder(passage: _Passage, index: int) -> Callable[..., None]:
    def record(_module: nn.Module, args: Sequence[object], kwargs: dict[str, object], output: object) -> None:
        passage.inputs[index] = args[0] if args else kwargs.get("hidden_states")
        passage.outputs[index] = output[0] if isinstance(output, (tuple, list)) and output else output

    return record


def _is_chain(passage: _Passage, count: int, width: int) -> bool:
    """Whether each block was called, on what the one before returned, and all of it [1, 1, width]."""
    if list(passage.outputs) != list(range(count)):
        return False
    streams = [*passage.inputs.values(), *passage.outputs.values()]
    if not all(isinstance(stream, Tensor) and stream.shape == (1, 1, width) for stream in streams):
        return False
    return all(_same(passage.outputs[index], passage.inputs[index + 1]) for index in range(count - 1))


def _same(left: object, right: object) -> bool:
    if left is right:
        return True
    # A model spread over devices moves the residual stream between its blocks.
    return isinstance(left, Tensor) and isinstance(right, Tensor) and torch.equal(left.to(right.device), right)


def _inside_another(name: str, candidates: dict[str, nn.ModuleList]) -> bool:
    return any(name.startswith(f"{other}.") for other in candidates)


def _lists_of(lists: dict[str, nn.ModuleList]) -> str:
    if not lists:
        return "it has no lists of modules"
    shown = ", ".join(f"{name} ({len(blocks)})" for name, blocks in list(lists.items())[:_SHOWN])
    return f"its lists of modules are {shown}" + (" and more" if len(lists) > _SHOWN else "")


@contextmanager
def adding(block: Any, vector: torch.Tensor) -> Iterator[None]:
    """Add to a decoder block's output in the passes made inside: a vector [hidden], or one a row
    [rows, 1, hidden]."""

    def add(_module: Any, _args: Any, output: Any) -> Any:
        hidden = residual_of(output)
        return with_residual(output, hidden + vector.to(hidden))

    handle = block.register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()
