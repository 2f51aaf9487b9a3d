"""Frozen models: an output layer that multiplies all rows at once."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from pts.models.frozen import frozen
from tests.policies.tiny import tiny_model

ROWS, WIDTH = 8, 6


def products(model, kept):
    """The kinds of matrix products of the output layer in a pass that keeps some logits, and the logits."""
    head = model.get_output_embeddings()
    seen = []
    handles = [
        head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()), prepend=True),
        head.register_forward_hook(lambda _, __, logits: seen.append(logits)),
    ]
    with torch.inference_mode():
        ids = torch.arange(ROWS * WIDTH).view(ROWS, WIDTH) % head.out_features
        model(input_ids=ids, use_cache=False)
        states, logits = seen
        for handle in handles:
            handle.remove()
        with profile(activities=[ProfilerActivity.CPU]) as profiled:
            again = head(states[:, -kept:])
    torch.testing.assert_close(again, logits[:, -kept:])
    return {event.name for event in profiled.events()} & {"aten::bmm", "aten::mm", "aten::addmm"}


@pytest.mark.parametrize("kept", [1, 3])
def test_logits_of_some_positions_are_one_product_of_all_rows(kept):
    plain = tiny_model("llama").model
    assert products(plain, kept) == {"aten::bmm"}  # The fault is PyTorch's: without it `frozen` mends nothing.
    assert "aten::bmm" not in products(frozen(plain), kept)


def test_a_model_that_is_frozen_twice_has_one_hook():
    model = frozen(frozen(tiny_model("llama").model))
    assert len(model.get_output_embeddings()._forward_pre_hooks) == 1
