"""vLLM's forward passes, followed token by token: what is steered in them, and residual streams out of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pts.errors import ModelError
from pts.policies.guide import Guide, StepSteering
from pts.policies.vllm.batch import Row


@dataclass(slots=True, eq=False)
class Followed:
    """A completion whose passes are followed: of `variant` from the end of a prompt of `prompt` tokens on.

    Where its guide says otherwise it is read unsteered. `read` counts the completion's tokens that passes read.
    """

    prompt: int
    variant: int
    guide: Guide | None = None
    read: int = 0

    def variants(self, first: int, size: int) -> npt.NDArray[np.int64]:
        """The variants of `size` positions of the sequence from `first` on [size]; 0 is unsteered."""
        found = np.zeros(size, dtype=np.int64)
        begin = max(0, self.prompt - first)
        if begin >= size:
            return found
        self.read += size - begin
        guide = self.guide
        found[begin:] = self.variant if guide is None else guide.steered(self.variant) or self.variant
        for position in () if guide is None else guide.skipped:
            place = self.prompt + position - first
            if begin <= place < size:
                found[place] = 0
        return found


@dataclass(slots=True, eq=False)
class Recording:
    """Residual streams being recorded: of each label at its position, at blocks in their order."""

    blocks: int
    positions: dict[str, int] = field(default_factory=dict)
    streams: dict[str, list[torch.Tensor | None]] = field(default_factory=dict)
    here: list[tuple[str, int]] = field(default_factory=list)

    def begin(self, rows: Sequence[Row]) -> None:
        """Find the tokens of a pass that are recorded."""
        self.here = []
        for label, start, size, first in rows:
            place = -1 if label is None else self.positions.get(label, -1) - first
            if label is not None and 0 <= place < size:
                self.here.append((label, start + place))

    def take(self, index: int, output: Any) -> None:
        """Record what block number `index` returned."""
        if self.here:
            stream = _stream(output, [token for _, token in self.here]).float().cpu()
            for (label, _), values in zip(self.here, stream, strict=True):
                self.streams.setdefault(label, [None] * self.blocks)[index] = values

    def found(self, label: str) -> torch.Tensor:
        """The residual streams of a label [blocks, hidden]. Raises ModelError where a hook saw none."""
        streams = [stream for stream in self.streams.get(label, ()) if stream is not None]
        if len(streams) != self.blocks:
            raise ModelError(
                f"{len(streams)} of {self.blocks} residual streams were seen in a pass of vLLM: a compiled "
                "model, or one that leaves layers out, cannot be read (use the engine transformers)."
            )
        return torch.stack(streams)


class Passes:
    """Hooks on vLLM's model that are there only while something is steered or recorded.

    `rows` tells what the next pass reads. Raises ModelError where the decoder blocks cannot be found.
    """

    def __init__(self, model: torch.nn.Module, layers: int, rows: Callable[[], list[Row]]) -> None:
        self.model = model
        self.blocks = _blocks(model, layers)
        self.followed: dict[str, Followed] = {}
        self._rows = rows

    @contextmanager
    def steered(self, steering: StepSteering) -> Iterator[None]:
        """Tell a steering of each pass before it is made, while the context lasts."""

        def before(_model: Any, args: Any, kwargs: dict[str, Any]) -> None:
            rows = self._rows()
            ids = kwargs.get("input_ids", args[0] if args else None)
            if ids is None:
                raise ModelError("vLLM reads embeddings in place of token ids, which cannot be steered.")
            variants = np.zeros(len(ids), dtype=np.int64)
            for label, start, size, first in rows:
                followed = None if label is None else self.followed.get(label)
                if followed is not None:
                    variants[start : start + size] = followed.variants(first, size)
            tokens = ids.cpu().numpy().astype(np.int64) if variants.any() else np.zeros_like(variants)
            steering.begin_step(variants, tokens)

        handle = self.model.register_forward_pre_hook(before, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()

    @contextmanager
    def recording(
        self, layers: Sequence[int], guard: Callable[[Any], Any] = lambda hook: hook
    ) -> Iterator[Recording]:
        """Record residual streams after layers (from 0), while the context lasts.

        `guard` makes of each hook the one that is put on the model.
        """
        record = Recording(len(layers))
        begin = guard(lambda *_: record.begin(self._rows()))
        handles = [self.model.register_forward_pre_hook(begin)]
        for index, layer in enumerate(layers):
            handles.append(self.blocks[layer].register_forward_hook(guard(_recorder(record, index))))
        try:
            yield record
        finally:
            for handle in handles:
                handle.remove()


def _recorder(record: Recording, index: int) -> Callable[[Any, Any, Any], None]:
    def record_output(_block: Any, _args: Any, output: Any) -> None:
        record.take(index, output)

    return record_output


def parts(output: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The two parts of a residual stream that a decoder block of vLLM returns: their sum is the stream.

    The second is None where there is only one. Raises ModelError for any other output.
    """
    found = tuple(output) if isinstance(output, (tuple, list)) else (output,)
    shapes = {part.shape for part in found if isinstance(part, torch.Tensor)}
    if len(found) <= 2 and len(shapes) == 1 and isinstance(found[0], torch.Tensor):
        return found[0], found[1] if len(found) == 2 else None
    raise ModelError(
        "a decoder block of vLLM returned no residual stream that pts knows: use the engine transformers."
    )


def _stream(output: Any, tokens: Sequence[int]) -> torch.Tensor:
    """The residual stream of some of a pass's tokens [tokens, hidden]."""
    hidden, residual = parts(output)
    at = torch.tensor(tokens, device=hidden.device)
    return hidden[at] if residual is None else hidden[at] + residual[at]


def _blocks(model: torch.nn.Module, count: int) -> torch.nn.ModuleList:
    """The decoder blocks: the one list with as many as the model has layers."""
    lists = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.ModuleList) and len(module) == count
    }
    if len(lists) != 1:
        raise ModelError(
            f"vLLM's {type(model).__name__} has {len(lists)} lists that could be its {count} decoder blocks "
            f"({', '.join(lists) or 'none'}): use the engine transformers."
        )
    return next(iter(lists.values()))
