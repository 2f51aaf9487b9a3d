"""From a model spec to a model and tokenizer that are ready to use."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import logging as hub_logging
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING
from transformers.utils import logging as transformers_logging

from pts.errors import ModelError
from pts.models.adapters import apply_adapter
from pts.models.demo import demo_model_dir
from pts.models.end_tokens import end_token_ids
from pts.models.fingerprint import fingerprint
from pts.models.hardware import choose_device, choose_dtype
from pts.models.options import ModelOptions

__all__ = ["LoadedModel", "ModelOptions", "load_model"]

_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_LOADING_ERRORS = (OSError, ValueError, ImportError, RuntimeError, KeyError, SafetensorError, HfHubHTTPError)
"""What transformers raises for files that are missing, broken, or need a package that is not there."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A causal language model in evaluation mode, without gradients, and its tokenizer.

    `revision` is the commit on the hub, or a digest of local files. `device` is where inputs go, `dtype` what
    the model computes in. `end_token_ids` are the tokens that end a completion.
    """

    model: Any
    tokenizer: Any
    model_id: str
    revision: str | None
    device: torch.device
    dtype: torch.dtype
    end_token_ids: frozenset[int]


@dataclass(frozen=True, slots=True)
class _Source:
    """Where a spec leads: `name` for transformers, the .gguf file in it, and the local path if there is one."""

    name: str
    gguf_file: str | None
    path: Path | None


def load_model(options: ModelOptions) -> LoadedModel:
    """Load what `options` describe.

    Raises ModelError, one line that says what to do, where the model is not there or cannot be reached, is no
    causal language model, needs remote code or pickled weights, or does not fit the device or dtype asked for.
    """
    device = choose_device(options.device)
    source = _resolve(options.spec)
    shared: dict[str, Any] = {"trust_remote_code": options.trust_remote_code}
    if source.path is None and options.revision is not None:
        shared["revision"] = options.revision
    if source.gguf_file is not None:
        shared["gguf_file"] = source.gguf_file
    with _quiet(source), _one_line_errors(options, source):
        config = AutoConfig.from_pretrained(source.name, **shared)
        _check_causal(config, options)
        tokenizer = AutoTokenizer.from_pretrained(source.name, **shared)
        placement = _placement(options, config, device)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            source.name, use_safetensors=True, output_loading_info=True, **placement, **shared
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
    model.eval().requires_grad_(False)
    ends = end_token_ids(model, tokenizer)
    if not ends:
        raise ModelError(f"{options.spec} names no end token: set eos_token_id in its generation_config.json.")
    return LoadedModel(model, tokenizer, model_id, revision, model.device, model.dtype, ends)


def _resolve(spec: str) -> _Source:
    """Where a spec leads. Raises ModelError for a path that is not there, or a directory of another kind."""
    if spec == "demo":
        folder = demo_model_dir()
        return _Source(str(folder), None, folder)
    path = Path(spec).expanduser()
    if path.suffix.lower() == ".gguf":
        if not path.is_file():
            raise ModelError(f"model file {spec} is not there.")
        return _Source(str(path.parent), path.name, path)
    if path.is_dir():
        _check_directory(path)
        return _Source(str(path), None, path)
    if path.exists():
        raise ModelError(f"{spec} is a file: a model is a directory, a .gguf file, a hub id or demo.")
    if spec.startswith((".", "/", "~")) or not _HUB_ID.fullmatch(spec):
        raise ModelError(f"model directory {spec} is not there, and {spec!r} is no hub id.")
    return _Source(spec, None, None)


def _check_directory(path: Path) -> None:
    """Raise ModelError for a directory without a configuration, or whose weights are pickled or missing."""
    if not (path / "config.json").is_file():
        raise ModelError(
            f"{path} holds no config.json: it is not a model directory (adapters go with --adapter)."
        )
    if any(path.glob("*.safetensors")):
        return
    pickled = sorted(file.name for file in path.iterdir() if file.suffix in (".bin", ".pt", ".pth", ".ckpt"))
    if pickled:
        raise ModelError(
            f"{path} holds pickled weights only ({pickled[0]}), which can run code; if you trust them, convert "
            f"them: AutoModelForCausalLM.from_pretrained({str(path)!r}).save_pretrained('NEW_DIRECTORY')."
        )
    raise ModelError(f"{path} holds no .safetensors weights.")


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
            f"{options.spec} lacks {len(missing)} weights of a causal language model ({missing[0]}, ...): "
            "give a model with a language modelling head and all of its weights."
        )


def _placement(options: ModelOptions, config: Any, device: torch.device) -> dict[str, Any]:
    """The dtype and, for a quantised model or several GPUs, the device map.

    Raises ModelError for a dtype asked of a quantised model.
    """
    if getattr(config, "quantization_config", None) is not None:
        if options.dtype != "auto":
            raise ModelError(f"{options.spec} is quantised and keeps its own dtype: leave out --dtype.")
        return {"dtype": "auto", "device_map": {"": str(device)}}
    parameters = 0 if options.dtype != "auto" or device.type != "cpu" else _parameters(config, options)
    placement: dict[str, Any] = {"dtype": choose_dtype(options.dtype, device, parameters)}
    if options.device == "auto" and device.type == "cuda" and torch.cuda.device_count() > 1:
        placement["device_map"] = "auto"
    return placement


def _parameters(config: Any, options: ModelOptions) -> int:
    """Number of parameters of a model of this configuration, without its weights."""
    build: Any = AutoModelForCausalLM
    with torch.device("meta"):
        empty = build.from_config(config, trust_remote_code=options.trust_remote_code)
    return sum(weights.numel() for weights in empty.parameters())


@contextmanager
def _quiet(source: _Source) -> Iterator[None]:
    """Keep transformers' progress bars and advice from the user's terminal while a model loads."""
    libraries: tuple[Any, ...] = (transformers_logging, hub_logging)
    levels = [library.get_verbosity() for library in libraries]
    shows_bars = bool(transformers_logging.is_progress_bar_enabled())
    bars: Any = transformers_logging
    with ExitStack() as stack:
        if source.gguf_file is not None:
            # The conversion of a GGUF file shows a bar of its own that no setting switches off.
            stack.enter_context(redirect_stderr(io.StringIO()))
        for library, level in zip(libraries, levels, strict=True):
            library.set_verbosity_error()
            stack.callback(library.set_verbosity, level)
        if shows_bars:
            bars.disable_progress_bar()
            stack.callback(bars.enable_progress_bar)
        yield


@contextmanager
def _one_line_errors(options: ModelOptions, source: _Source) -> Iterator[None]:
    """Turn what transformers raises into a ModelError of one line that says what to do."""
    try:
        yield
    except _LOADING_ERRORS as error:
        said = " ".join(str(error).split())
        if "trust_remote_code" in said:
            raise ModelError(
                f"{options.spec} needs code from its repository: --trust-remote-code runs it."
            ) from error
        if source.path is None and isinstance(error, (OSError, HfHubHTTPError)):
            raise ModelError(
                f"{options.spec} is no local directory, and the hub does not give it; offline, use a local "
                "directory, a .gguf file, HF_HUB_OFFLINE=1 if it is cached, or --model demo "
                f"({_short(said)})"
            ) from error
        raise ModelError(f"{options.spec} cannot be loaded: {_short(said)}") from error


def _short(text: str) -> str:
    """The beginning of a long message."""
    return text if len(text) <= 200 else f"{text[:197]}..."
