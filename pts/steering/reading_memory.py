"""What reading prefixes may take of the memory, and what is kept of what was read."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from pts.policies.transformers.cache import CacheLayout
from pts.policies.transformers.forward import forward
from pts.policies.transformers.memory import available_bytes
from pts.policies.transformers.model_cache import cache_layout, empty_cache

_FREE_SHARE = 0.5
"""Share of the free memory that may be taken by default."""
_KEPT_BYTES = 1 << 30
"""Most that is kept between steps, of all fitting data together; beyond, it is read again."""
_LOGITS_COPIES = 5
"""Float32 tensors of a batch's logits that are alive at once in a step with gradients."""

_STATE_COPIES = 4
"""Copies of a row's states that are alive at once: kept, in a cache, and for the gradients."""

T = TypeVar("T")


def granted_bytes(device: torch.device, given: int | None) -> int:
    """What reading may take: what was given, or half of the memory that is free."""
    return int(_FREE_SHARE * available_bytes(device)) if given is None else given


@dataclass(frozen=True, slots=True)
class ReadingMemory:
    """Bytes that may be taken (`granted`), and bytes that a model takes for them.

    `token` is one token's keys and values in all layers, `state` what recurrent layers keep of a row, `passed`
    what a layer makes of a token on its way through, `compared` a token's mask over one key, `place` one
    token's logits.
    Half of what is granted is for what is kept between steps; an eighth each bounds a batch's keys and values,
    one forward pass, a batch's logits, and the activations that wait for the disk.
    """

    granted: int
    token: int
    state: int
    passed: int
    compared: int
    place: int
    layers: int

    @classmethod
    def of(cls, model: Any, granted: int | None = None) -> ReadingMemory:
        """What a model takes; by default half of the memory that is free may be taken."""
        granted = granted_bytes(model.device, granted)
        config = model.config.get_text_config(decoder=True)
        width = int(config.hidden_size)
        inner = int(getattr(config, "intermediate_size", None) or 4 * width)
        eager = getattr(config, "_attn_implementation", "eager") == "eager"
        layout = _layout(model)
        scores = 2 * int(config.num_attention_heads) if eager and layout.shapes else 0
        return cls(
            granted,
            token=max(1, layout.bytes_per_token),
            state=layout.state_bytes,
            passed=model.dtype.itemsize * (6 * width + 3 * inner),
            # As bool and as a number, and, where attention writes them down, the scores of all heads.
            compared=1 + model.dtype.itemsize * (1 + scores),
            place=4 * int(config.vocab_size) * _LOGITS_COPIES,
            layers=int(config.num_hidden_layers),
        )

    @property
    def part(self) -> int:
        """Bytes of a batch's keys and values, of a pass, of logits, or of waiting activations."""
        return self.granted // 8

    @property
    def cache_bytes(self) -> int:
        """Bytes of what is kept between steps."""
        return min(_KEPT_BYTES, self.granted // 2)

    @property
    def batch_tokens(self) -> int:
        """Tokens of a batch, padding included; one sequence may be longer."""
        return self.part // self.token

    @property
    def batch_rows(self) -> int:
        """Rows whose logits, or copies of states, one step may have."""
        return max(1, self.part // max(self.place, _STATE_COPIES * self.state))

    @property
    def trained_tokens(self) -> int:
        """Tokens of a pass that keeps what every layer made of them, for the gradients."""
        return self.part // (self.layers * self.passed)

    def columns(self, rows: int, width: int) -> int:
        """Tokens of each row in one pass, over at most `width` tokens."""
        return max(1, self.part // (rows * (self.passed + width * self.compared)))


class OwnersCache:
    """A cache of what is costly to make, while all of it fits in `limit` bytes, for owners that take turns.

    For the owner at work others' things go, the least recently used owner's first; its own never do, since a
    loop over more than fits would find nothing of it.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.nbytes = 0
        self._things: OrderedDict[object, dict[Hashable, tuple[Any, int]]] = OrderedDict()

    def get(self, owner: object, key: Hashable, make: Callable[[], T], size: Callable[[T], int]) -> T:
        """An owner's thing, made where it is not there; `size` gives its bytes."""
        own = self._things.setdefault(owner, {})
        self._things.move_to_end(owner)
        if key in own:
            found: T = own[key][0]
            return found
        made = make()
        nbytes = size(made)
        while self.nbytes + nbytes > self.limit and len(self._things) > 1:
            _, dropped = self._things.popitem(last=False)
            self.nbytes -= sum(taken for _, taken in dropped.values())
        if self.nbytes + nbytes <= self.limit:
            own[key] = made, nbytes
            self.nbytes += nbytes
        return made


@torch.no_grad()
def _layout(model: Any) -> CacheLayout:
    """What a pass over one token fills a cache with."""
    cache = empty_cache(model)
    nothing = torch.zeros(1, 1, dtype=torch.long, device=model.device)
    forward(model, nothing, nothing, cache)
    return cache_layout(cache)
