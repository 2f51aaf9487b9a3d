"""A model made ready to be read: evaluation mode, frozen weights, logits of all rows at once."""

from __future__ import annotations

from typing import Any


def frozen(model: Any) -> Any:
    """The model itself, put in evaluation mode, with frozen weights.

    Its output layer is given contiguous states. A forward pass that keeps the logits of some positions slices
    the states [rows, positions, hidden], and PyTorch multiplies a slice of several rows with a *frozen* matrix
    row by row. In bfloat16 on a CPU each row then has a copy of the matrix: 272 MB at a vocabulary of 151,936
    and a width of 896, and reading eight prompts takes seven times as long (`benchmarks/prompt_reading.py`).
    """
    model.eval().requires_grad_(False)
    head = model.get_output_embeddings()
    if head is not None and with_contiguous_states not in head._forward_pre_hooks.values():
        head.register_forward_pre_hook(with_contiguous_states)
    return model


def with_contiguous_states(_: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The output layer's arguments, its states contiguous."""
    return (inputs[0].contiguous(), *inputs[1:])
