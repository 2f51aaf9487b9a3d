"""Lengths at which a model changes what it computes: its last position, rotary switches, windows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_WINDOW_WORDS = ("window", "local_att", "chunk", "span")
"""Parts of a setting's name by which configurations tell of windows that `sliding_window` does not declare."""
_OTHER_WORDS = ("layer", "pattern", "use_", "sliding_window", "attention_chunk")
"""Parts of names that count layers, switch a window on, or belong to a window or chunks that are declared."""


@dataclass(frozen=True, slots=True)
class LengthLimit:
    """The tokens that a prompt and its completion may have together, and `reason`, as "exceed ..." goes on."""

    tokens: int
    reason: str


def length_limit(config: Any) -> LengthLimit | None:
    """The smallest limit on length of a text config; None where there is none.

    Rotary tables of the types "dynamic" and "longrope" follow the longest position of a whole batch, and keys
    that are cached keep the table of their own time. So rows that share a batch, or a cache, stay at lengths
    where the table has not changed yet.
    """
    limits = []
    for name in ("max_position_embeddings", "max_seq_len"):
        positions = getattr(config, name, None)
        if isinstance(positions, int):
            limits.append(LengthLimit(positions, f"the model's {positions} positions"))
            break
    for kind, tokens in _rope_switches(config):
        reason = f"the {tokens} positions after which its {kind} rotary embedding changes for all rows at once"
        limits.append(LengthLimit(tokens, reason))
    return min(limits, key=lambda limit: limit.tokens, default=None)


def undeclared_windows(config: Any) -> tuple[int, ...]:
    """Sizes of windows that a text config may mean besides `sliding_window`, in tokens, ascending.

    A guess by names, for a trial: a number that is no window costs a few tokens and decides nothing.
    """
    return tuple(sorted({size for name, size in _numbers(config.to_dict()) if _is_window(name) and size > 1}))


def _is_window(name: str) -> bool:
    return any(word in name for word in _WINDOW_WORDS) and not any(word in name for word in _OTHER_WORDS)


def _numbers(settings: Mapping[str, object]) -> Iterator[tuple[str, int]]:
    """Whole numbers in settings and in the settings inside them, with their own names."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _numbers(value)
        elif isinstance(value, int) and not isinstance(value, bool):
            yield str(name), value


def _rope_switches(config: Any) -> Iterator[tuple[str, int]]:
    """Rotary embeddings' types whose tables change with length, and the last length before the change."""
    for rope in _ropes(config):
        kind = str(rope.get("rope_type") or rope.get("type") or "")
        if kind == "longrope" or kind == "su":
            tokens = rope.get("original_max_position_embeddings") or getattr(
                config, "original_max_position_embeddings", None
            )
        elif "dynamic" in kind:
            tokens = getattr(config, "max_position_embeddings", None)
        else:
            continue
        if isinstance(tokens, int):
            yield kind, tokens


def _ropes(config: Any) -> Iterator[Mapping[str, Any]]:
    """The rotary embeddings' settings: one for all layers, or one by layer type."""
    for name in ("rope_parameters", "rope_scaling"):
        settings = getattr(config, name, None)
        if isinstance(settings, Mapping):
            yield settings
            yield from (inner for inner in settings.values() if isinstance(inner, Mapping))
