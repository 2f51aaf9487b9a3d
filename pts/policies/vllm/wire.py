"""What a client and the worker of a vLLM server tell each other: plain JSON values, nothing that is run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pts.records import Sampling

WIRE = 1
"""The version of all this: a client and a server of different ones do not understand each other."""
LABEL = "pts"
"""The key in a request's extra arguments under which `pts` names its completion."""
DRAW = "pts_draw"
"""The key with the text of a `DrawSpec`: `pts` draws the completion's tokens in the server."""
READ = "pts_read"
"""The key with the text of a `ReadSpec`: the residual stream is wanted."""
VARIANTS, THINK, CONTEXTS = "variants", "think", "contexts"
"""Kinds of what a server keeps for a client: steering variants, think tags, contexts to match."""


@dataclass(frozen=True, slots=True)
class DrawSpec:
    """How the tokens of one completion are drawn.

    The request's token ids are a prompt of `prompt` tokens, then `prefix` of the completion, then a forced one
    where there are more. `key` is its stream of random numbers, `ends` what ends it. `variants` names the
    steering variants that the server keeps, of which `variant` is on (0: none). `guide` describes its guide.
    """

    prompt: int
    prefix: int
    avoid: int | None
    key: int
    own_probs: bool
    sampling: Mapping[str, Any]
    ends: tuple[int, ...]
    variants: str | None
    variant: int
    guide: Mapping[str, Any] | None

    def text(self) -> str:
        """As a request's extra argument."""
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, text: str) -> DrawSpec:
        """From that. Raises ValueError for what is none."""
        found = _object(text, cls)
        return cls(**{**found, "ends": tuple(found["ends"])})

    def sampler(self) -> Sampling:
        """The sampler. Raises ConfigError for one outside its range."""
        return Sampling(**{**self.sampling, "stop": tuple(self.sampling["stop"])})


@dataclass(frozen=True, slots=True)
class ReadSpec:
    """The residual stream after `layers` (from 0) is wanted at the sequence's token `position`."""

    position: int
    layers: tuple[int, ...]

    def text(self) -> str:
        """As a request's extra argument."""
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, text: str) -> ReadSpec:
        """From that. Raises ValueError for what is none."""
        found = _object(text, cls)
        return cls(int(found["position"]), tuple(found["layers"]))


def content_name(content: Mapping[str, Any]) -> str:
    """The name by which a server keeps a content: the same for the same content, whoever sends it."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def _object(text: Any, kind: Any) -> dict[str, Any]:
    """The JSON object in a text, with exactly the fields of a dataclass. Raises ValueError."""
    found = json.loads(text) if isinstance(text, str) else None
    if not isinstance(found, dict) or set(found) != set(kind.__dataclass_fields__):
        raise ValueError("pts: a request of another version of pts.")
    return found
