"""AutoThink's configuration, by optillm's own keys (optillm 0.4.0, `autothink/processor.py`)."""

from __future__ import annotations

import difflib
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pts.errors import ConfigError
from pts.runs.codec import ShapeError, from_json, known_keys

logger = logging.getLogger(__name__)

_UNREAD = ("min_thinking_tokens", "max_thinking_tokens")
"""Keys that optillm has and reads nowhere: the limits by complexity hold."""
_OPTIONAL_TEXTS = ("classifier_model", "steering_dataset")


@dataclass(frozen=True, slots=True)
class AutoThinkConfig:
    """The keys that `autothink_decode` takes, with optillm's defaults.

    Limits are tokens of thinking after the start tag, its end not counted. `pattern_strengths` are on optillm's
    scale (see `pts.steering.formats.optillm.additions`). Where `target_layer` is None it is the records' own.
    Where `classifier_model` is None a long prompt is taken for a complex one. `complexity_threshold` is the
    least probability of HIGH; None takes the likelier label.
    """

    start_think_token: str = "<think>"
    end_think_token: str = "</think>"
    prefill: str = ""
    max_thoughts: int = 64
    high_complexity_min_tokens: int = 1024
    high_complexity_max_tokens: int = 4096
    low_complexity_min_tokens: int = 256
    low_complexity_max_tokens: int = 1024
    thought_switch_tokens: tuple[str, ...] | None = None
    classifier_model: str | None = None
    complexity_threshold: float | None = None
    steering_dataset: str | None = None
    target_layer: int | None = None
    pattern_strengths: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.max_thoughts < 1:
            raise ConfigError(f"max_thoughts is {self.max_thoughts}; it must be at least 1.")
        for level in ("high", "low"):
            least, most = self.tokens(level == "high")
            if not 0 <= least <= most:
                raise ConfigError(
                    f"{level}_complexity limits are {least} to {most} tokens; give 0 <= min <= max."
                )
        if self.thought_switch_tokens is not None and not all(self.thought_switch_tokens or ("",)):
            raise ConfigError("thought_switch_tokens must be a list of words, or left out.")
        if not all(map(math.isfinite, self.pattern_strengths.values())):
            raise ConfigError("pattern_strengths must have a finite number for each pattern.")
        threshold = self.complexity_threshold
        if threshold is not None and not 0 <= threshold <= 1:
            raise ConfigError(f"complexity_threshold is {threshold}; it is a probability, from 0 to 1.")

    def tokens(self, high: bool) -> tuple[int, int]:
        """The least and the most tokens of thinking."""
        if high:
            return self.high_complexity_min_tokens, self.high_complexity_max_tokens
        return self.low_complexity_min_tokens, self.low_complexity_max_tokens


def autothink_config(given: Mapping[str, Any]) -> AutoThinkConfig:
    """The configuration of a mapping as optillm takes it; what is missing has its default.

    Raises ConfigError for an unknown key, with the nearest known one, and for a value of another kind.
    """
    known = known_keys(AutoThinkConfig)
    chosen: dict[str, Any] = {}
    for key, value in given.items():
        if key in _UNREAD:
            logger.warning("%s has no effect, in optillm neither: set the limits by complexity.", key)
            continue
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}."
            raise ConfigError(f"AutoThink has no setting {key!r}: {hint}")
        # optillm's way to say none.
        chosen[key] = None if value == "" and key in _OPTIONAL_TEXTS else value
    try:
        return from_json(AutoThinkConfig, chosen, "AutoThink")
    except ShapeError as error:
        raise ConfigError(f"{error}.") from error
