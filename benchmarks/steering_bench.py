"""A model with vectors to time its steering by."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch

from pts.models.load import LoadedModel
from pts.steering.hooks import Intervention, Steering, Variant, steer
from pts.steering.vector_set import Gate


class Bench:
    """One model with random vectors that are too small to change a token: what is timed is the hook."""

    def __init__(self, loaded: LoadedModel, steps: Mapping[int, int]) -> None:
        self.steps = steps
        self.model = loaded.model
        # optillm reads the name of the architecture, which a GGUF file does not give.
        self.model.config.architectures = [type(self.model).__name__]
        self.tokenizer = loaded.tokenizer
        config = loaded.model.config.get_text_config(decoder=True)
        self.hidden, self.layers = int(config.hidden_size), int(config.num_hidden_layers)
        self.vocab = int(config.vocab_size)
        self.random = torch.Generator().manual_seed(0)

    def variant(self, layers: Sequence[int], gate: str) -> Variant:
        return [Intervention(layer, 1e-6 * self.draw(), self.gate(gate)) for layer in layers]

    def gate(self, kind: str) -> Gate:
        return Gate("probe", weight=self.draw()) if kind == "probe" else Gate()

    def draw(self) -> torch.Tensor:
        return torch.randn(self.hidden, generator=self.random)

    def prepare(self, variants: Sequence[Variant]) -> tuple[Steering, float]:
        """Steering that is not installed, and the milliseconds that it took to make."""
        started = time.perf_counter()
        with steer(self.model, variants) as steering:
            took = time.perf_counter() - started
        return steering, 1000 * took

    def prompts(self, rows: int, tokens: int) -> torch.Tensor:
        ids = torch.randint(4, self.vocab, (rows, tokens), generator=self.random)
        return ids.to(self.model.device)


@contextmanager
def installed(steering: Steering | None) -> Iterator[None]:
    """The hooks on the model for as long as the context lasts; none where there is no steering."""
    if steering is None:
        yield
        return
    steering.install(engine_driven=False)
    try:
        yield
    finally:
        steering.remove()
