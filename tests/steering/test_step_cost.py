"""What steering adds to a decode step: a few operations a layer, and no more for more stored vectors."""

from collections import Counter

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.cache_utils import DynamicCache

from pts.errors import ModelError
from pts.steering.hooks import Intervention, steer
from pts.steering.vector_set import Gate
from tests.policies.tiny import tiny_model

PROMPT = (5, 9, 12, 7)
LAYERS = (0, 1)


class Operations(TorchDispatchMode):
    """Counts the operations that are dispatched."""

    def __init__(self):
        super().__init__()
        self.seen = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.seen[function.overloadpacket.__name__] += 1
        return function(*args, **(kwargs or {}))


@pytest.fixture(scope="module")
def loaded():
    return tiny_model("qwen3")


def draw(seed):
    return torch.randn(32, generator=torch.Generator().manual_seed(seed))


def variants(gate, count):
    kinds = {"always": Gate(), "probe": Gate("probe", weight=draw(1))}
    return [[Intervention(layer, draw(index), kinds[gate]) for layer in LAYERS] for index in range(count)]


@torch.inference_mode()
def operations(model, rows, steering=None):
    """Of the third decode step of a batch with these rows' variants."""
    ids, cache = torch.tensor([PROMPT] * len(rows)), DynamicCache()
    model(ids, past_key_values=cache)
    for _ in range(3):
        if steering is not None:
            steering.begin_step(np.array(rows), ids[:, 0].numpy())
        with Operations() as counted:
            model(ids[:, :1], past_key_values=cache)
    return counted.seen


@pytest.mark.parametrize("rows", [(2,), (3, 3, 3), (0, 1, 3)])
@pytest.mark.parametrize(("gate", "each"), [("always", ["add"]), ("probe", ["mul", "sum", "gt_", "addcmul"])])
def test_a_step_costs_a_few_operations_a_layer_however_many_vectors(loaded, rows, gate, each):
    plain = operations(loaded.model, rows)
    for count in (3, 300):
        with steer(loaded.model, variants(gate, count), engine_driven=True) as steering:
            steered = operations(loaded.model, rows, steering)
        assert steered - plain == Counter(each * len(LAYERS))


def test_rows_that_change_get_their_own_vectors(loaded):
    """What was picked for a batch is never used for another, nor for the same rows in another order."""
    model, vectors = loaded.model, variants("always", 3)

    def logits(rows, steering):
        ids, cache = torch.tensor([PROMPT] * len(rows)), DynamicCache()
        model(ids, past_key_values=cache)
        steering.begin_step(np.array(rows), ids[:, 0].numpy())
        return model(ids[:, :1], past_key_values=cache).logits[:, -1]

    with torch.inference_mode(), steer(model, vectors, engine_driven=True) as steering:
        alone = [logits([variant], steering)[0] for variant in range(4)]
        for rows in ([1, 2], [2, 1], [2, 1], [0, 3], [3, 3], [1, 2], [0, 0], [1, 2, 3], [2, 1]):
            for found, variant in zip(logits(rows, steering), rows, strict=True):
                torch.testing.assert_close(found, alone[variant])


def test_what_was_picked_in_inference_mode_serves_a_pass_with_gradients(loaded):
    model, ids = loaded.model, torch.tensor([PROMPT])
    with steer(model, variants("probe", 1), engine_driven=True) as steering:
        with torch.inference_mode():
            steering.begin_pass(torch.tensor([1]), ids)
            expected = model(ids).logits.clone()
        steering.begin_pass(torch.tensor([1]), ids)
        embedded = model.get_input_embeddings()(ids).detach().requires_grad_()
        logits = model(inputs_embeds=embedded).logits
        logits.sum().backward()
    torch.testing.assert_close(logits.detach(), expected)
    assert embedded.grad is not None
    assert embedded.grad.abs().sum() > 0


def test_a_batch_of_another_size_than_announced_is_refused(loaded):
    with steer(loaded.model, variants("always", 2), engine_driven=True) as steering:
        steering.begin_pass(torch.tensor([1, 2]), torch.tensor([PROMPT] * 2))
        with pytest.raises(ModelError, match="cannot become"):
            loaded.model(torch.tensor([PROMPT]))
