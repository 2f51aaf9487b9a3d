"""Steering and reading one model for several clients: a small model that passes its stream as vLLM's do."""

import base64
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pts.policies.vllm.batch import Row
from pts.policies.vllm.passes import Passes
from pts.policies.vllm.wire import DRAW, LABEL, READ, ReadSpec, content_name
from pts.serving.hooks import SharedHooks
from pts.serving.kept import LEASE
from pts.serving.service import Service
from pts.steering.tables import Intervention
from pts.steering.wire import described_variants
from tests.serving.test_completions import END, spec

WIDTH, LAYERS, VOCAB = 8, 3, 40
PROMPT = [5, 6]


class Block(torch.nn.Module):
    def forward(self, hidden, residual):
        total = hidden if residual is None else hidden + residual
        return torch.tanh(total), total


class Model(torch.nn.Module):
    """Reads flat token ids [tokens]; gives the residual stream [tokens, WIDTH]."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.embedding = torch.randn(VOCAB, WIDTH, generator=generator)
        self.blocks = torch.nn.ModuleList(Block() for _ in range(LAYERS))

    def forward(self, input_ids):
        hidden, residual = self.embedding[input_ids], None
        for block in self.blocks:
            hidden, residual = block(hidden, residual)
        return hidden + residual


@pytest.fixture
def made():
    clock = SimpleNamespace(at=0.0)
    model, service, rows = Model(), Service(lambda: clock.at), []
    text = SimpleNamespace(hidden_size=WIDTH, vocab_size=VOCAB, num_hidden_layers=LAYERS)
    config = SimpleNamespace(get_text_config=lambda **_: text)
    passes = Passes(model, LAYERS, lambda: list(rows))
    service.hooks = SharedHooks(
        passes, config, lambda: list(rows), service.kept, service.completions, service._clock
    )
    return SimpleNamespace(model=model, service=service, rows=rows, clock=clock)


def content(size):
    return described_variants([(Intervention(1, torch.full((WIDTH,), float(size))),)])


def begin(made, label, what, **more):
    extra = {LABEL: label}
    extra |= {READ: what.text()} if isinstance(what, ReadSpec) else {DRAW: spec(**what, **more).text()}
    made.service.begin(SimpleNamespace(extra_args=extra), PROMPT, [])


def read(made, labels, first=2):
    """A pass over one token of each request, its token number `first`: the stream [requests, WIDTH]."""
    made.rows[:] = [Row(label, place, 1, first) for place, label in enumerate(labels)]
    return made.model(torch.full((len(labels),), 7))


def test_each_client_steers_its_own_rows_and_leaves_nothing(made):
    plain = read(made, [None])[0]
    names = {}
    for client, size in (("one", 1.0), ("two", 2.0), ("three", 1.0)):
        names[client] = content_name(content(size))
        made.service.put(client, names[client], content(size))
        begin(made, f"{client} 1", {"variants": names[client], "variant": 1})
    assert len(made.service.kept) == 2
    found = read(made, ["one 1", None, "two 1", "three 1"])
    assert torch.equal(found[1], plain)
    assert torch.equal(found[0], found[3])
    assert not torch.allclose(found[0], plain)
    assert not torch.allclose(found[0], found[2])
    # A prompt's tokens are not steered.
    assert torch.equal(read(made, ["one 1"], first=1)[0], plain)
    assert made.service.take("one 1") == {"drawn": [], "read": 1, "failed": None}
    for client in names:
        made.service.release(client, None)
    assert made.service.hooks.count() == 0
    assert len(made.service.completions) == 0
    assert torch.equal(read(made, ["two 1"])[0], plain)


def test_what_fails_in_a_pass_ends_what_it_steered_and_no_other(made):
    name = content_name(content(1.0))
    made.service.put("one", name, content(1.0))
    begin(made, "one 1", {"variants": name, "variant": 1})
    begin(made, "two 1", {})
    blocks = made.model.blocks
    del blocks[1]  # as a model that leaves a layer out
    read(made, ["one 1", "two 1"])
    assert "0 of 1 steered layers ran" in made.service.take("one 1")["failed"]
    assert made.service.take("two 1")["failed"] is None
    logits = torch.zeros(1, VOCAB)
    begin(made, "one 2", {"variants": name, "variant": 1})
    read(made, ["one 2"])
    made.service.draw(logits, [(0, "one 2")])
    assert int(logits[0].argmax()) == END


def test_residual_streams_are_read_and_what_nobody_takes_is_forgotten(made):
    begin(made, "one 1", ReadSpec(2, (0, 2)))
    begin(made, "one 2", ReadSpec(9, (0, 2)))
    begin(made, "one 3", ReadSpec(2, (99,)))
    whole = read(made, ["one 1", "one 2"])
    told = made.service.take("one 1")
    streams = np.frombuffer(base64.b64decode(told["streams"]), dtype="<f4").reshape(2, WIDTH)
    assert np.allclose(streams[1], whole[0].numpy())
    assert "0 of 2 residual streams" in made.service.take("one 2")["failed"]
    assert "layer 99 is out of range" in made.service.take("one 3")["failed"]
    assert made.service.hooks.count() == 0
    begin(made, "killed 1", ReadSpec(2, (0,)))
    assert made.service.hooks.count() > 0
    made.clock.at = LEASE + 1
    made.service.expire()
    assert made.service.hooks.count() == 0
