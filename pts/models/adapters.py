"""PEFT adapters on a loaded model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError

from pts.errors import ModelError, one_line
from pts.hub import only_from_cache
from pts.models.fingerprint import fingerprint


def apply_adapter(model: Any, adapter: str) -> tuple[Any, str]:
    """The model with a PEFT adapter in it, merged where weights are not quantised; and its digest.

    `adapter` is a directory or a hub id. Raises ModelError where peft is missing, or the adapter is absent,
    pickled, does not fit the model, or prepends virtual tokens.
    """
    try:
        from peft import PeftConfig, PeftModel
    except ImportError as error:
        raise ModelError("an adapter needs the peft package: pip install peft.") from error
    folder = _folder(adapter)
    try:
        if PeftConfig.from_pretrained(str(folder)).is_prompt_learning:
            raise ModelError(
                f"adapter {adapter} prepends virtual tokens, which is not supported: use LoRA or the like."
            )
        adapted = PeftModel.from_pretrained(model, str(folder))
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise ModelError(f"adapter {adapter} does not fit the model: {one_line(error)}") from error
    if getattr(model, "is_quantized", False) or not hasattr(adapted, "merge_and_unload"):
        # The adapter's layers stay in the base model, which alone is needed to run.
        return adapted.get_base_model(), fingerprint(folder)
    return adapted.merge_and_unload(), fingerprint(folder)


def _folder(adapter: str) -> Path:
    """The local directory of an adapter, fetched from the hub where it is an id. Raises ModelError."""
    folder = Path(adapter).expanduser()
    if not folder.is_dir():
        if adapter.startswith((".", "/", "~")) or adapter.count("/") != 1:
            raise ModelError(f"adapter directory {adapter} does not exist.")
        cached = only_from_cache("adapter", adapter, "model", None, "adapter_config.json", ModelError)
        wanted = ["adapter_config.json", "*.safetensors"]
        try:
            folder = Path(snapshot_download(adapter, allow_patterns=wanted, local_files_only=cached))
        except (OSError, ValueError, HfHubHTTPError) as error:
            raise ModelError(
                f"adapter {adapter} is neither a local directory nor available on the Hub."
            ) from error
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        if not (folder / name).is_file():
            raise ModelError(f"adapter {adapter} holds no {name} (pickled weights are not loaded).")
    return folder
