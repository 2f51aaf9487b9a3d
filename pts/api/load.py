"""`pts.load_model`."""

from __future__ import annotations

from typing import Any

from pts.errors import ConfigError
from pts.models.load import LoadedModel
from pts.models.options import DtypeName, ModelOptions


def load_model(
    model: Any = "demo",
    tokenizer: Any = None,
    *,
    name: str | None = None,
    revision: str | None = None,
    device: str = "auto",
    dtype: DtypeName = "auto",
    adapter: str | None = None,
    trust_remote_code: bool = False,
) -> LoadedModel:
    """Load a model, or take one that you have.

    `model` is a Hub id, a local directory, a `.gguf` file, `"demo"`, or a causal language model of transformers
    together with its `tokenizer`: that one is used as it is, in evaluation mode and with its weights frozen.
    `name` is what records call it. `device` is "auto", "cpu", "cuda", "cuda:1" or "mps"; `dtype` "auto",
    "float32", "bfloat16" or "float16"; `adapter` a PEFT adapter. Raises ModelError where the model cannot be
    had or is no causal language model, ConfigError for a setting that does not go with it.

        model = pts.load_model("Qwen/Qwen3-0.6B")
        model = pts.load_model(my_model, my_tokenizer)
    """
    from pts.models.given import given_model
    from pts.models.load import load_model as load

    if isinstance(model, str):
        if tokenizer is not None or name is not None:
            raise ConfigError(
                f"{model} has its own tokenizer and name: leave out tokenizer and name, or "
                "give a model that is in memory."
            )
        return load(ModelOptions(model, revision, device, dtype, adapter, trust_remote_code))
    given = {"revision": revision, "adapter": adapter}
    changed = [key for key, value in given.items() if value is not None]
    changed += ["device"] * (device != "auto") + ["dtype"] * (dtype != "auto")
    changed += ["trust_remote_code"] * trust_remote_code
    if changed:
        raise ConfigError(f"a model in memory is loaded already: leave out {', '.join(changed)}.")
    return given_model(model, tokenizer, name)
