from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    Gemma3Config,
    Gemma3TextConfig,
    SiglipVisionConfig,
)

from pts.errors import ModelError
from pts.models.decoder_layers import decoder_layers, residual_of, with_residual
from tests.policies.tiny import ARCHITECTURES, OLDER_ARCHITECTURES, VOCAB, tiny_model

FAMILIES = (*ARCHITECTURES, *OLDER_ARCHITECTURES)
IDS = torch.tensor([[3, 5, 7, 11, 13], [2, 4, 6, 8, 10]])


def layer_outputs(model: Any, layers: nn.ModuleList) -> list[torch.Tensor]:
    seen: list[torch.Tensor] = []
    handles = [
        layer.register_forward_hook(lambda module, args, output: seen.append(residual_of(output)))
        for layer in layers
    ]
    with torch.no_grad():
        model(input_ids=IDS)
    for handle in handles:
        handle.remove()
    return seen


def assert_residual_stream(model: Any, layers: nn.ModuleList) -> None:
    with torch.no_grad():
        states = model(input_ids=IDS, output_hidden_states=True).hidden_states
    outputs = layer_outputs(model, layers)
    assert len(outputs) == len(states) - 1 >= 2
    for index, output in enumerate(outputs[:-1]):
        torch.testing.assert_close(output, states[index + 1], rtol=0, atol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_layer_outputs_are_the_residual_stream(family: str) -> None:
    model = tiny_model(family).model
    assert_residual_stream(model, decoder_layers(model))


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_under_a_peft_wrapper(family: str) -> None:
    model = tiny_model(family).model
    bare = decoder_layers(model)
    wrapped = get_peft_model(
        model, LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)
    ).eval()
    layers = decoder_layers(wrapped)
    assert layers is bare
    assert_residual_stream(wrapped, layers)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_replaced_residual_stream_reaches_the_next_layer(family: str) -> None:
    model = tiny_model(family).model
    layers = decoder_layers(model)
    steered = torch.zeros(2, 5, 32)
    received: list[torch.Tensor] = []
    handles = [
        layers[0].register_forward_hook(lambda module, args, output: with_residual(output, steered)),
        layers[1].register_forward_pre_hook(lambda module, args: received.append(args[0])),
    ]
    with torch.no_grad():
        model(input_ids=IDS)
    for handle in handles:
        handle.remove()
    assert received[0] is steered


def test_an_image_tower_with_as_many_layers_is_not_taken() -> None:
    text = Gemma3TextConfig(
        vocab_size=VOCAB,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
    )
    vision = SiglipVisionConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=8,
        patch_size=4,
    )
    config = Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4, image_token_index=36)
    model = AutoModelForImageTextToText.from_config(config).eval()
    layers = decoder_layers(model)
    assert layers is model.model.language_model.layers
    assert_residual_stream(model, layers)


def test_a_list_of_norms_as_long_as_the_layers_is_not_taken() -> None:
    model = tiny_model("llama").model
    model.model.norms = nn.ModuleList(nn.LayerNorm(32) for _ in range(2))
    assert decoder_layers(model) is model.model.layers


def test_one_layer_and_as_many_experts_lists() -> None:
    config = tiny_model("llama").model.config
    config.num_hidden_layers = 1
    model = AutoModelForCausalLM.from_config(config).eval()
    model.model.layers[0].parts = nn.ModuleList([nn.Identity()])
    assert decoder_layers(model) is model.model.layers


def test_nothing_is_left_on_the_model() -> None:
    model = tiny_model("llama").model
    decoder_layers(model)
    assert not any(module._forward_hooks for module in model.model.layers.modules())


def test_a_named_path_is_taken() -> None:
    model = tiny_model("gpt2").model
    assert decoder_layers(model, "transformer.h") is model.transformer.h


def test_a_path_that_is_not_there_raises() -> None:
    with pytest.raises(ModelError, match=r"no list of decoder blocks at 'model.layers'.*transformer\.h \(2\)"):
        decoder_layers(tiny_model("gpt2").model, "model.layers")


def test_a_path_to_something_else_raises() -> None:
    model = tiny_model("llama").model
    model.model.norms = nn.ModuleList(nn.LayerNorm(32) for _ in range(2))
    with pytest.raises(ModelError, match="do not pass a residual stream of width 32"):
        decoder_layers(model, "model.norms")


def test_an_unknown_layout_raises() -> None:
    model = tiny_model("llama").model
    model.config.num_hidden_layers = 7
    with pytest.raises(
        ModelError, match=r"no list that is its 7 decoder blocks: name the module by layers_path"
    ):
        decoder_layers(model)


def test_two_lists_that_fit_raise() -> None:
    model = tiny_model("llama").model
    model.model.again = nn.ModuleList(model.model.layers)
    model.model.layers = nn.ModuleList(model.model.layers)
    with pytest.raises(ModelError, match=r"2 lists that could be.*model\.layers \(2\).*"):
        decoder_layers(model)


def test_an_output_without_a_residual_stream_raises() -> None:
    with pytest.raises(ModelError, match="a decoder block returned dict"):
        residual_of({"hidden_states": torch.zeros(1)})


@pytest.mark.parametrize("rest", [(), (None,), ("weights", 3)])
def test_a_tuple_keeps_what_follows(rest: tuple[object, ...]) -> None:
    old, new = torch.zeros(1, 2, 3), torch.ones(1, 2, 3)
    replaced = with_residual((old, *rest), new)
    assert replaced[0] is new
    assert replaced[1:] == rest
    assert with_residual(old, new) is new


def test_a_residual_stream_of_another_shape_raises() -> None:
    with pytest.raises(ModelError, match="cannot become"):
        with_residual(torch.zeros(1, 2, 3), torch.zeros(1, 2, 4))
