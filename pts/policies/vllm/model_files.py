"""What vLLM's policies read of a model beside its weights: tokenizer, configuration, end tokens."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from pts.errors import ModelError
from pts.models.end_tokens import end_token_ids
from pts.models.fingerprint import fingerprint
from pts.models.options import ModelOptions
from pts.models.source import Source, find_source, one_line_errors, quiet
from pts.models.tokenizer import load_tokenizer
from pts.setting_names import setting


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """Where a model is, with what is read of it; `revision` is its commit, or a digest of its files."""

    source: Source
    tokenizer: Any
    config: Any
    end_token_ids: frozenset[int]
    revision: str | None


def read_model_files(options: ModelOptions) -> ModelFiles:
    """Read what goes with a model. Raises ModelError for one that is not there, or that vLLM cannot serve."""
    source = find_source(options)
    _require_served(options, source)
    with quiet(source), one_line_errors(options, source):
        from transformers import AutoConfig

        tokenizer = load_tokenizer(options)
        config = AutoConfig.from_pretrained(source.name, **source.named)
    revision = fingerprint(source.path) if source.path is not None else getattr(config, "_commit_hash", None)
    return ModelFiles(source, tokenizer, config, _ends(source, config, tokenizer), revision)


def _require_served(options: ModelOptions, source: Source) -> None:
    if "gguf_file" in source.named:
        raise ModelError(
            f"the engine vllm reads safetensors, and {options.spec} is GGUF: use transformers for it."
        )
    if options.adapter is not None:
        raise ModelError(
            f"the engine vllm takes no adapter: merge it into the model, or leave {setting('adapter')}."
        )


def _ends(source: Source, config: Any, tokenizer: Any) -> frozenset[int]:
    """The tokens that end a completion. Raises ModelError where there are none."""
    from transformers import GenerationConfig

    named = {key: value for key, value in source.named.items() if key in ("revision", "local_files_only")}
    reader: Any = GenerationConfig
    try:
        generation = reader.from_pretrained(source.name, **named)
    except OSError:  # the model comes without one
        generation = None
    ends = end_token_ids(SimpleNamespace(generation_config=generation, config=config), tokenizer)
    if not ends:
        raise ModelError(f"{source.name} has no end token: set eos_token_id in its generation_config.json.")
    return ends
