"""A small vector set, made of numbers alone."""

from dataclasses import replace

import pytest
import torch

from pts.steering.vector_set import Gate, SteeredModel, SteeringVector, VectorSet

HIDDEN, LAYERS = 8, 5


@pytest.fixture
def make_set():
    """A function: patterns and their layers, to a set with random directions at every layer."""

    def make(strength=0.4, gate=None, hidden=HIDDEN, layers=LAYERS, **patterns):
        generator = torch.Generator().manual_seed(0)
        vectors = {}
        for pattern, layer in (patterns or {"self_correction": 2}).items():
            directions = torch.randn(layers, hidden, generator=generator)
            unit = directions / directions.norm(dim=-1, keepdim=True)
            vectors[pattern] = SteeringVector(
                pattern, "preference", dict(enumerate(unit)), layer, strength, gate or Gate(), {"pairs": 9}
            )
        norms = tuple(10.0 * (layer + 1) for layer in range(layers))
        return VectorSet(SteeredModel("some/model", "abc", hidden, layers), norms, vectors)

    return make


@pytest.fixture
def several_layers():
    """A function: a set and layers, to the set with every vector at these together, in growing shares."""

    def spread(vectors, layers):
        total = sum(range(1, len(layers) + 1))
        shares = {layer: (place + 1) / total for place, layer in enumerate(layers)}
        return replace(
            vectors,
            vectors={
                name: replace(
                    vector,
                    directions={layer: vector.directions[layer] for layer in layers},
                    layer=layers[len(layers) // 2],
                    shares=shares,
                )
                for name, vector in vectors.vectors.items()
            },
        )

    return spread


@pytest.fixture
def tiny_llama():
    """A random model that fits the sets."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=20,
        hidden_size=HIDDEN,
        intermediate_size=16,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        num_key_value_heads=2,
        architectures=["LlamaForCausalLM"],
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture
def block_outputs(tiny_llama):
    """A function: the residual stream after each block [1, tokens, hidden], as what comes next receives it.

    Not `output_hidden_states`, which transformers takes inside a block, before what others add to its output.
    """

    def outputs():
        seen = []
        after = [*list(tiny_llama.model.layers)[1:], tiny_llama.model.norm]
        handles = [m.register_forward_pre_hook(lambda _, args: seen.append(args[0].clone())) for m in after]
        with torch.no_grad():
            tiny_llama(torch.tensor([[1, 2, 3, 4]]))
        for handle in handles:
            handle.remove()
        return seen

    return outputs
