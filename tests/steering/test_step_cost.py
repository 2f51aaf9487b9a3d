"""What steering adds to a decode step: a few operations a layer, and no more for more stored vectors."""

import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.cache_utils import DynamicCache

import pts
from pts.errors import ModelError
from pts.steering.hooks import Intervention, steer
from pts.steering.vector_set import Gate
from tests.policies.tiny import tiny_model

PROMPT = (5, 9, 12, 7)
LAYERS = (0, 1)
CALLS = 16
"""Calls of Python functions of pts for a step of `generate`, beside those of each steered layer."""


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


LENGTHS = (20, 100)
"""New tokens of two texts: what the longer one takes more is that of 80 steps, a counting among them."""


def generate(model, rows, new):
    ids = torch.tensor([PROMPT] * rows)
    written = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, do_sample=False, eos_token_id=None
    )
    assert written.shape[1] == len(PROMPT) + new


def generated_operations(model, rows):
    """Of the steps by which one text is longer than the other."""
    generate(model, rows, 2)  # picks what the rows take of the tables
    found = []
    for new in LENGTHS:
        with Operations() as counted:
            generate(model, rows, new)
        found.append(counted.seen)
    return found[1] - found[0]


@pytest.mark.parametrize(("rows", "told"), [([1], None), ([0, 1, 3], None), ([0, 1, 3], [3, 4, 4])])
@pytest.mark.parametrize(("gate", "each"), [("always", ["add"]), ("probe", ["mul", "sum", "gt_", "addcmul"])])
def test_following_generate_costs_no_operation_more_than_steering(loaded, rows, told, gate, each):
    """Which positions are prompt and which were steered is followed without a tensor for each step."""
    plain = generated_operations(loaded.model, len(rows))
    with steer(loaded.model, variants(gate, 3)) as steering:
        steering.rows, steering.prompt_tokens = rows, told
        steered = generated_operations(loaded.model, len(rows))
    steps = LENGTHS[1] - LENGTHS[0]
    more = steered - plain - Counter(each * (len(LAYERS) * steps))
    assert not plain - steered
    # What a gate decided is counted for many steps together.
    assert more.total() == 0 if gate == "always" else more.total() < steps
    assert steering.positions_seen == sum(row > 0 for row in rows) * (1 + sum(LENGTHS) - len(LENGTHS))


@contextmanager
def calls_counted():
    """Counts the calls of Python functions of pts."""
    counted, own = Counter(), str(Path(pts.__file__).parent)

    def count(frame, event, _argument):
        if event == "call" and frame.f_code.co_filename.startswith(own):
            counted[frame.f_code.co_qualname] += 1

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        yield counted
    finally:
        sys.setprofile(before)


@pytest.mark.parametrize(("gate", "each"), [("always", 3), ("probe", 4)])
def test_following_generate_takes_a_few_calls_a_step(loaded, gate, each):
    """Beside those of each layer's hook, a bounded number for each step however long the text is."""
    with steer(loaded.model, variants(gate, 1)):
        generate(loaded.model, 1, 2)
        totals = []
        for new in LENGTHS:
            with calls_counted() as counted:
                generate(loaded.model, 1, new)
            totals.append(counted.total())
    steps = LENGTHS[1] - LENGTHS[0]
    assert (totals[1] - totals[0]) / steps <= CALLS + each * len(LAYERS)


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
