"""From a model spec to a model and tokenizer that are ready to use."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from pts.errors import ModelError
from pts.models.adapters import apply_adapter
from pts.models.end_tokens import end_token_ids
from pts.models.fingerprint import fingerprint
from pts.models.frozen import frozen
from pts.models.hardware import choose_device, choose_dtype
from pts.models.held import held_model
from pts.models.options import ModelOptions
from pts.models.source import find_source, one_line_errors, quiet
from pts.models.tokenizer import load_tokenizer
from pts.setting_names import setting

__all__ = ["LoadedModel", "ModelOptions", "load_model"]


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A causal language model in evaluation mode, without gradients, and its tokenizer.

    `revision` is the commit on the hub, or a digest of local files. `device` is where inputs go, `dtype` what
    the model computes in. `end_token_ids` are the tokens that end a completion. `options` are those that it was
    loaded by.

        model = pts.load_model("demo")
        print(model.generate("What is 17 + 5 ?", max_new_tokens=40))
    """

    model: Any
    tokenizer: Any
    model_id: str
    revision: str | None
    device: torch.device
    dtype: torch.dtype
    end_token_ids: frozenset[int]
    options: ModelOptions | None = None

    @property
    def attention(self) -> str | None:
        """The implementation of attention that the model computes with, None where it does not say."""
        name = getattr(self.model.config, "_attn_implementation", None)
        return name if isinstance(name, str) else None

    def __repr__(self) -> str:
        """Its name, size, dtype and device."""
        size = self.model.num_parameters()
        named = f"{size / 1e9:.1f} billion" if size >= 1e9 else f"{size / 1e6:.0f} million"
        dtype = str(self.dtype).removeprefix("torch.")
        return f"<{self.model_id}: {named} parameters in {dtype} on {self.device}>"

    def generate(self, inputs: Any = None, **options: Any) -> Any:
        """Complete a question, several, or token ids, by the model's own `generate` with its `options`.

        A text is put into the chat template (where there is one) and its completion returned as text, a list of
        texts as a list. Anything else goes to `generate` as it is, which returns token ids. Raises ModelError
        where the chat template does not take the question.
        """
        if isinstance(inputs, str):
            return self._completion(inputs, options)
        if isinstance(inputs, list | tuple) and inputs and all(isinstance(text, str) for text in inputs):
            return [self._completion(text, options) for text in inputs]
        return self.model.generate(inputs, **options)

    def _completion(self, question: str, options: dict[str, Any]) -> str:
        from pts.models.prompt import PromptFormat, encode_prompt

        prompt = encode_prompt(self.tokenizer, question, PromptFormat())
        ids = torch.tensor([prompt], device=self.device)
        written = self.model.generate(ids, attention_mask=torch.ones_like(ids), **options)[0, len(prompt) :]
        text: str = self.tokenizer.decode(written, skip_special_tokens=True)
        return text


def load_model(options: ModelOptions) -> LoadedModel:
    """Load what `options` describe, or return the model that is held in memory where it is that one.

    Raises ModelError, one line that says what to do, where the model is not there or cannot be reached, is no
    causal language model, needs remote code or pickled weights, or does not fit the device or dtype asked for.
    """
    held = held_model(options)
    if held is not None:
        return held
    device = choose_device(options.device)
    source = find_source(options)
    if source.path is not None and source.path.is_dir():
        _check_directory(source.path)
    with quiet(source), one_line_errors(options, source):
        config = AutoConfig.from_pretrained(source.name, **source.named)
        _check_causal(config, options)
        tokenizer = load_tokenizer(options)
        placement = _placement(options, config, device)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            source.name, use_safetensors=True, output_loading_info=True, **placement, **source.named
        )
        model, info = loaded
        _check_complete(info, options)
    model_id, revision = options.spec, getattr(model.config, "_commit_hash", None)
    if source.path is not None:
        revision = fingerprint(source.path)
    if options.adapter is not None:
        model, adapter_revision = apply_adapter(model, options.adapter)
        model_id, revision = f"{model_id}+{options.adapter}", f"{revision}+{adapter_revision}"
    if "device_map" not in placement:
        model.to(device)
    frozen(model)
    ends = end_token_ids(model, tokenizer)
    if not ends:
        raise ModelError(f"{options.spec} has no end token: set eos_token_id in its generation_config.json.")
    return LoadedModel(model, tokenizer, model_id, revision, model.device, model.dtype, ends, options)


def _check_directory(path: Path) -> None:
    """Raise ModelError for a directory without a configuration, or whose weights are pickled or missing."""
    if not (path / "config.json").is_file():
        raise ModelError(
            f"{path} has no config.json, so it is not a model directory (an adapter is given "
            f"by {setting('adapter')})."
        )
    if any(path.glob("*.safetensors")):
        return
    pickled = sorted(file.name for file in path.iterdir() if file.suffix in (".bin", ".pt", ".pth", ".ckpt"))
    if pickled:
        raise ModelError(
            f"{path} holds pickled weights only ({pickled[0]}), which can run code; if you trust them, convert "
            f"them: AutoModelForCausalLM.from_pretrained({str(path)!r}).save_pretrained('NEW_DIRECTORY')."
        )
    raise ModelError(f"{path} has no .safetensors weights.")


def _check_causal(config: Any, options: ModelOptions) -> None:
    """Raise ModelError for a configuration that is no causal language model's."""
    remote = options.trust_remote_code and "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})
    if getattr(config, "is_encoder_decoder", False) or not (
        remote or type(config) in MODEL_FOR_CAUSAL_LM_MAPPING
    ):
        raise ModelError(f"{options.spec} is a {config.model_type} model, not a causal language model.")


def _check_complete(info: Any, options: ModelOptions) -> None:
    """Raise ModelError where weights were not in the files and so would be random."""
    missing = sorted(info["missing_keys"])
    if missing:
        raise ModelError(
            f"{options.spec} lacks {len(missing)} weights of a causal language model "
            f"({missing[0]}, ...): use a model with a language modelling head and all of its "
            "weights."
        )


def _placement(options: ModelOptions, config: Any, device: torch.device) -> dict[str, Any]:
    """The dtype and, for a quantised model or several GPUs, the device map.

    Raises ModelError for a dtype asked of a quantised model.
    """
    if getattr(config, "quantization_config", None) is not None:
        if options.dtype != "auto":
            raise ModelError(
                f"{options.spec} is quantised and has its own number format: leave out {setting('dtype')}."
            )
        return {"dtype": "auto", "device_map": {"": str(device)}}
    dtype = options.auto_dtype if options.dtype == "auto" else options.dtype
    parameters = 0 if dtype != "auto" or device.type != "cpu" else parameter_count(config, options)
    placement: dict[str, Any] = {"dtype": choose_dtype(dtype, device, parameters)}
    if options.device == "auto" and device.type == "cuda" and torch.cuda.device_count() > 1:
        placement["device_map"] = "auto"
    return placement


def parameter_count(config: Any, options: ModelOptions) -> int:
    """Number of parameters of a model of this configuration, without its weights."""
    build: Any = AutoModelForCausalLM
    with torch.device("meta"):
        empty = build.from_config(config, trust_remote_code=options.trust_remote_code)
    return sum(weights.numel() for weights in empty.parameters())
