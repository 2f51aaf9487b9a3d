"""What a vLLM server must show before it is used: its version, its model, its tokens, its number format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from pts.errors import ConfigError, ModelError
from pts.models.options import ModelOptions
from pts.policies.vllm.http_client import HttpClient, Refused
from pts.policies.vllm.installed import KNOWN
from pts.policies.vllm.model_files import ModelFiles
from pts.policies.vllm.served_engine import COMPLETIONS, Logit, body_of, only_choice, prompt_logits, token_ids
from pts.records import TokenIds
from pts.setting_names import setting

_TRIAL_TOKENS = 256
"""Tokens of the vocabulary whose text the server must read as we do."""
_TRIAL_LOGITS = 5
_HALVES = ("bfloat16", "float16")
_SPACING = 2.0**-11
"""Distance of float16's numbers from 0.5 to 1; larger ones, and bfloat16's, are multiples of it."""
_SCALES = ("logits_scaling", "logit_scale", "final_logit_softcapping", "lm_head_multiplier")
"""Names in a configuration of what a model does to its logits."""
_ON_GRID = 0.95
"""Share of logits' differences that are multiples of it where they were computed in 16 bits."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server that serves the model: `name` is its name for it, `positions` those of prompt and completion."""

    name: str
    positions: int
    dtype: str


def proved_server(client: HttpClient, options: ModelOptions, files: ModelFiles) -> Server:
    """Ask a server for what it must be. Raises ConfigError or ModelError, in one line, where it is not that."""
    _require_version(client)
    name, positions = _served(client, options, files)
    _require_tokens(client, name, files.tokenizer)
    dtype = _dtype(client, name, options, files)
    return Server(name, positions, dtype)


def require_logits(client: HttpClient, name: str, count: int, vocabulary: int) -> None:
    """Raise ConfigError where the server does not give the `count` largest logits of a position (−1: all)."""
    try:
        _logits(client, name, (0, 0), count)
    except Refused as error:
        if "logprobs" not in error.reason:
            raise
        wanted = vocabulary if count < 0 else count
        raise ConfigError(
            f"{client.shown} does not give {wanted} log-probabilities a token, as exact probabilities need: "
            f"start it with vllm serve ... --max-logprobs {count}."
        ) from error


def _require_version(client: HttpClient) -> None:
    found = client.ask("/version").get("version")
    if not isinstance(found, str):
        raise ModelError(f"{client.shown} does not say its version: it is no vLLM server.")
    if found.split(".")[:2] != KNOWN.split("."):
        raise ConfigError(f"{client.shown} runs vLLM {found}, and pts works with {KNOWN} alone.")


def _served(client: HttpClient, options: ModelOptions, files: ModelFiles) -> tuple[str, int]:
    """The server's name for the model, and its positions. Raises ConfigError where it serves another one."""
    listed = client.ask("/v1/models").get("data")
    entries = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    # One with a parent is an adapter on it, which is another model.
    models = [entry for entry in entries if entry.get("parent") is None and isinstance(entry.get("id"), str)]
    for entry in models:
        if _is_model(entry, options, files):
            positions = entry.get("max_model_len")
            if not isinstance(positions, int):
                raise ModelError(f"{client.shown} does not say how many positions {entry['id']} has.")
            return str(entry["id"]), positions
    if not models:
        raise ModelError(f"{client.shown} serves no model.")
    named = [str(entry.get("root") or entry["id"]) for entry in models]
    raise ConfigError(
        f"{client.shown} serves {', '.join(named)}, not {options.spec}: give "
        f"{setting('model', named[0])}, or the {setting('endpoint')} that serves {options.spec}."
    )


def _is_model(entry: Mapping[str, Any], options: ModelOptions, files: ModelFiles) -> bool:
    """Whether a server's entry is the model: by its name, or by its directory on either machine."""
    local, root = files.source.path, entry.get("root")
    if options.spec in (entry["id"], root) or files.source.name in (entry["id"], root):
        return True
    if not isinstance(root, str):
        return False
    if local is not None and Path(root).exists():
        return Path(root).resolve() == local.resolve()
    return (local is not None or Path(root).is_absolute()) and Path(root).name == Path(files.source.name).name


def _require_tokens(client: HttpClient, name: str, tokenizer: Any) -> None:
    """Raise ModelError where the server reads a text of many tokens otherwise than the tokenizer here."""
    ordinary = sorted(set(tokenizer.get_vocab().values()) - set(tokenizer.all_special_ids))
    chosen = ordinary[:: max(1, len(ordinary) // _TRIAL_TOKENS)]
    text: str = tokenizer.decode(chosen, clean_up_tokenization_spaces=False)
    ours = list(tokenizer.encode(text, add_special_tokens=False))
    answer = client.ask("/tokenize", {"model": name, "prompt": text, "add_special_tokens": False})
    if answer.get("tokens") != ours:
        raise ModelError(
            f"{client.shown} reads a text as other tokens than the tokenizer of {setting('model')} here: "
            "give the model that it serves, in the same revision."
        )


def _dtype(client: HttpClient, name: str, options: ModelOptions, files: ModelFiles) -> str:
    """The number format that the server computes in. Raises ConfigError where another one was requested.

    A server does not tell it, but its logits show whether they come from 16 bits, unless the model scales them.
    Which of the two formats of 16 bits follows from what was requested, or from the model's configuration.
    """
    ids = tuple(files.tokenizer.encode("What is 31 - 14 + 6 - 2 ? 27 + 8 - 9 ?", add_special_tokens=False))
    config = files.config.get_text_config(decoder=True)
    own = str(config.dtype).removeprefix("torch.")
    halves = own if own in _HALVES else _HALVES[0]
    if any(getattr(config, scale, None) not in (None, 1.0) for scale in _SCALES):
        return halves if options.dtype == "auto" else options.dtype
    halved = from_16_bits(_logits(client, name, ids, _TRIAL_LOGITS))
    if options.dtype != "auto" and halved != (options.dtype in _HALVES):
        raise ConfigError(
            f"{client.shown} computes in {'16 bits' if halved else 'float32'}, and {options.dtype} was "
            f"requested: start it with vllm serve ... --dtype {options.dtype}, or leave {setting('dtype')} out."
        )
    if options.dtype != "auto":
        return options.dtype
    return halves if halved else "float32"


def from_16_bits(rows: Sequence[Mapping[int, Logit]]) -> bool:
    """Whether logits were computed in 16 bits: nearly all their differences are multiples of a distance."""
    scores = [sorted((entry.logprob for entry in row.values()), reverse=True) for row in rows]
    differences = np.array([one - other for row in scores for one, other in pairwise(row)])
    differences = differences[differences > 0] / _SPACING
    off = np.abs(differences - np.rint(differences)) * _SPACING
    # Log-probabilities are rounded to float32 after that: by less than 1e-5 below 100.
    return off.size > 0 and bool(np.mean(off < 1e-5) >= _ON_GRID)


def _logits(client: HttpClient, name: str, ids: TokenIds, count: int) -> list[Mapping[int, Logit]]:
    """For each token of `ids` the `count` largest logits before it, by one request."""
    params = {"temperature": 0.0, "max_tokens": 1, "prompt_logprobs": count}
    choice = only_choice(client.ask(COMPLETIONS, body_of(name, ids, params)))
    token_ids(choice)
    found = prompt_logits(choice)
    if found is None or len(found) != len(ids):
        raise ModelError(f"{client.shown} gives no prompt_logprobs: pts needs vLLM {KNOWN}.")
    return found
