"""What decoder blocks put out at the last token of each row, recorded in passes made for another reason."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from pts.models.decoder_layers import residual_of


class Record:
    """What blocks put out at the last token of each row, `ends` [rows], of the last forward pass."""

    def __init__(self, blocks: int) -> None:
        self.ends: Sequence[int] = ()
        self._outputs: list[torch.Tensor | None] = [None] * blocks

    def hook(self, index: int) -> Any:
        """A forward hook for the block of that index: only the rows' last tokens are kept."""

        def hear(_module: Any, _args: Any, output: object) -> None:
            rows = torch.arange(len(self.ends))
            self._outputs[index] = residual_of(output)[rows, torch.tensor(self.ends)].float().cpu()

        return hear

    def states(self) -> torch.Tensor:
        """[rows, blocks, hidden], float32 on the CPU."""
        return torch.stack([output for output in self._outputs if output is not None], dim=1)


@contextmanager
def recorded(blocks: Sequence[Any]) -> Iterator[Record]:
    """The outputs of blocks at the rows' ends, while the context lasts."""
    record = Record(len(blocks))
    handles = [block.register_forward_hook(record.hook(index)) for index, block in enumerate(blocks)]
    try:
        yield record
    finally:
        for handle in handles:
            handle.remove()
