"""A transformers model and tokenizer that a program has already, as a `LoadedModel`."""

from __future__ import annotations

import hashlib
from typing import Any

import torch

from pts.errors import ModelError
from pts.models.end_tokens import end_token_ids
from pts.models.frozen import frozen
from pts.models.held import GIVEN
from pts.models.load import LoadedModel
from pts.models.options import ModelOptions

_SAMPLES = 64
"""Numbers of each tensor that the digest of the weights reads."""


def given_model(model: Any, tokenizer: Any, name: str | None = None) -> LoadedModel:
    """A causal language model of transformers with its tokenizer, under a name (by default its own).

    The model itself is used, not a copy: it is put in evaluation mode and its weights are frozen. Its revision
    is a digest of the weights. Raises ModelError for what is no causal language model or names no end token.
    """
    config = getattr(model, "config", None)
    if config is None or not hasattr(model, "generate") or getattr(config, "is_encoder_decoder", False):
        raise ModelError(
            f"{type(model).__name__} is not a causal language model of transformers: give "
            "what AutoModelForCausalLM.from_pretrained returns."
        )
    if tokenizer is None or not hasattr(tokenizer, "decode"):
        raise ModelError("a model in memory needs its tokenizer: pts.load_model(model, tokenizer).")
    named = name or getattr(config, "_name_or_path", "") or type(model).__name__
    frozen(model)
    ends = end_token_ids(model, tokenizer)
    if not ends:
        raise ModelError(f"{named} has no end token: set eos_token_id in its generation config.")
    options = ModelOptions(f"{GIVEN}{named}")
    return LoadedModel(model, tokenizer, named, weights_digest(model), model.device, model.dtype, ends, options)


def weights_digest(model: torch.nn.Module) -> str:
    """A digest of a model's weights, the same on every device: some numbers of each tensor are read.

    Training changes all of the weights, so a changed model shows, though a change of a few numbers might not.
    """
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(f"{name}:{tuple(tensor.shape)}:{tensor.dtype}\n".encode())
        flat = tensor.detach().reshape(-1)
        if len(flat):
            places = torch.linspace(0, len(flat) - 1, min(_SAMPLES, len(flat)), dtype=torch.float64).long()
            chosen = flat[places.to(flat.device)].cpu()
            digest.update(chosen.view(torch.uint8).numpy().tobytes())
    return f"sha256:{digest.hexdigest()[:32]}"
