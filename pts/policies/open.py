"""The one place that knows engines by name: opens a policy for a model."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from pts.errors import ConfigError
from pts.models.options import ModelOptions
from pts.models.prompt import PromptFormat
from pts.plugins import load_plugin, plugin_names
from pts.policies.protocol import Policy, SteerablePolicy

if TYPE_CHECKING:
    from pts.models.load import LoadedModel

TRANSFORMERS = "transformers"
"""The bundled engine: it runs in this process."""
VLLM = "vllm"
"""vLLM: in this process, where it is installed, or a server that runs already."""
ENGINES = (TRANSFORMERS, VLLM)
_PLAIN = PromptFormat()


def open_policy(
    spec: str | ModelOptions,
    *,
    engine: str = TRANSFORMERS,
    prompt_format: PromptFormat = _PLAIN,
    **options: Any,
) -> Policy:
    """A policy that generates with the model `spec` names, on an engine.

    `engine` is "transformers", "vllm", or the name under which an installed package registers one
    (`docs/extending.md`); `options` are the engine's own (those of `policy_of` for transformers,
    `batch_rows` for vllm, and with an `endpoint`, a server's address, `timeout`). Raises ConfigError for an
    engine that is unknown or not installed, ModelError for a model or server that cannot be had.

        policy = open_policy("demo", batch_rows=64)
        print(policy.decode(policy.encode(Problem("1", "What is 17 + 5 ?", "22"))))
    """
    opened = load_plugin("policy", engine, ENGINES)
    if engine == TRANSFORMERS:
        from pts.models.load import load_model

        loaded = load_model(ModelOptions(spec) if isinstance(spec, str) else spec)
        return policy_of(loaded, prompt_format, **options)
    if engine == VLLM and options.get("endpoint") is not None:
        from pts.policies.vllm.endpoint import EndpointPolicy

        return EndpointPolicy(spec=spec, prompt_format=prompt_format, **options)
    if engine == VLLM:
        options.pop("endpoint", None)
        from pts.policies.vllm import VllmPolicy

        return VllmPolicy(spec, prompt_format, **options)
    if opened is None:
        names = [*ENGINES, *plugin_names("policy", ENGINES)]
        near = difflib.get_close_matches(engine, names, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}."
        raise ConfigError(f"there is no engine {engine!r}: {hint}")
    policy: Policy = opened(spec, prompt_format=prompt_format, **options)
    return policy


def policy_of(
    loaded: LoadedModel,
    prompt_format: PromptFormat = _PLAIN,
    *,
    batch_rows: int | None = None,
    memory_bytes: int | None = None,
    layers_path: str | None = None,
) -> SteerablePolicy:
    """A policy of a model that is loaded, in this process.

    `batch_rows` bounds the rows of a batch and `memory_bytes` what caches and prefilled sequences may take
    together; both follow from the device where they are None. `layers_path` names the decoder layers where they
    cannot be found. Raises ModelError for a model that the
    engine cannot run.
    """
    from pts.policies.transformers.policy import TransformersPolicy

    return TransformersPolicy(
        loaded,
        prompt_format,
        batch_rows=batch_rows,
        memory_bytes=memory_bytes,
        layers_path=layers_path,
    )
