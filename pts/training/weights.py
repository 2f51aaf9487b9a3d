"""Whether a model's weights can be trained: as they are, or an adapter on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pts.errors import ModelError
from pts.setting_names import setting

if TYPE_CHECKING:
    from pts.models.load import LoadedModel


def require_trainable(loaded: LoadedModel, lora: bool) -> None:
    """Let the weights of a .gguf file count as what they were unpacked to.

    transformers unpacks them into numbers but still calls the model quantised, and its trainer would refuse
    it. Raises ModelError for weights that are quantised indeed, where nothing can be trained on them.
    """
    model: Any = loaded.model
    quantizer = getattr(model, "hf_quantizer", None)
    if quantizer is None:
        return
    unpacked = all(weights.is_floating_point() for weights in model.parameters())
    if hasattr(quantizer, "packed_modules") and not quantizer.packed_modules and unpacked:
        quantizer.remove_quantization_config(model)
        return
    if not (lora and quantizer.is_trainable):
        remedy = f"give {setting('lora', True)}, or " if quantizer.is_trainable else ""
        raise ModelError(
            f"{loaded.model_id} is quantised, and its weights cannot be trained: {remedy}give the model "
            "that it was made of."
        )
