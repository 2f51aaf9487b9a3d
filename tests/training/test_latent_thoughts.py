"""The passes of `benchmarks/latent_thoughts.py` are the model's own; a thought is its last hidden state."""

import copy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pts.decoding import SteeredDecoder
from pts.demo.problems import demo_problems
from pts.models.load import load_model
from pts.models.options import ModelOptions
from pts.records import Sampling

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from latent_thoughts import complete, learning_loss

PROMPTS = [(2, 13, 20, 60, 7, 48, 12, 3, 4), (2, 13, 20, 70, 7, 49, 8, 45, 12, 3, 4)]
RESTS = [(60, 7, 48, 9, 107, 10, 5), (33, 11, 70, 5)]


@pytest.fixture(scope="module")
def demo():
    """The demo model."""
    return load_model(ModelOptions("demo", dtype="float32"))


@pytest.fixture(scope="module")
def model(demo):
    """A copy in float64 that may be trained."""
    return copy.deepcopy(demo.model).double().requires_grad_(True)


def alone(model, prompt, rest, thoughts, pause):
    """The summed loss of one row by whole passes, without padding or a cache."""
    table = model.get_input_embeddings()
    inputs = table(torch.tensor([prompt]))
    for _ in range(thoughts):
        last = model.model(inputs_embeds=inputs).last_hidden_state[:, -1:]
        inputs = torch.cat([inputs, last if pause is None else table(torch.tensor([[pause]]))], dim=1)
    first = inputs.size(1) - 1
    logits = model(inputs_embeds=torch.cat([inputs, table(torch.tensor([rest]))], dim=1)).logits[0, first:-1]
    return torch.nn.functional.cross_entropy(logits, torch.tensor(rest), reduction="sum")


@pytest.mark.parametrize(("thoughts", "pause"), [(0, None), (3, None), (3, 1)])
def test_loss_and_gradient_are_those_of_whole_passes(model, thoughts, pause):
    expected = sum(alone(model, *pair, thoughts, pause) for pair in zip(PROMPTS, RESTS, strict=True))
    expected = expected / sum(map(len, RESTS))
    loss = learning_loss(model, PROMPTS, RESTS, thoughts, pause)
    assert torch.allclose(loss, expected, rtol=1e-9)
    weights = list(model.parameters())
    found, wanted = torch.autograd.grad(loss, weights), torch.autograd.grad(expected, weights)
    for one, other in zip(found, wanted, strict=True):
        # The model's norms are computed in float32.
        assert (one - other).norm() < 1e-4 * other.norm()


def test_without_thoughts_it_writes_what_full_writes(demo):
    problems = demo_problems("train", 8, 5)
    greedy = Sampling(temperature=0.0, budget=96)
    with SteeredDecoder(demo, None, "full", sampling=greedy).session([]) as session:
        prompts = [session.encode(problem.query) for problem in problems]
        stops = session.policy.end_token_ids
    answers = SteeredDecoder(demo, None, "full", sampling=greedy).generate([one.query for one in problems])
    written = complete(demo.model, prompts, 0, None, greedy, stops, np.random.default_rng(0))
    assert [tuple(tokens) for tokens in written] == [answer.completion for answer in answers]


def test_thoughts_change_what_is_written_and_count_in_the_budget(demo):
    sampling = Sampling(temperature=0.0, budget=5)
    by_thoughts = [
        complete(demo.model, PROMPTS, count, pause, sampling, (3,), np.random.default_rng(0))
        for count, pause in ((0, None), (3, None), (3, 1))
    ]
    assert [len(rows[0]) for rows in by_thoughts] == [5, 2, 2]
    assert by_thoughts[0][0][:2] != by_thoughts[1][0]
