"""Whether two completions of one prompt are the same, or part at a place that rounding alone can decide."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from pts.records import Sampling, TokenIds
from pts.verification.subject import Subject

_MARGIN = 1.0
"""Nats between two tokens that rounding to 16 bits may swap.

Two passes of SmolLM2 in bfloat16 differ by up to 0.1 in a probability; a wrong mask or position moves logits by
several nats.
"""
_MARGIN_EXACT = 1e-3
"""The same in float32."""
_WHOLE = Sampling(temperature=1.0, top_k=20, top_p=1.0)


@dataclass(frozen=True, slots=True)
class Agreement:
    """How many pairs of completions were compared, how many parted at a tie, and where others parted first.

    A tie is a position at which the two tokens are so equally likely that rounding decides between them.
    `parted` is the position of the first real difference, `at` the length of its prompt.
    """

    compared: int
    ties: int
    different: int
    parted: int | None = None
    at: int | None = None

    @property
    def good(self) -> bool:
        """Whether no pair really differs."""
        return self.different == 0

    def __str__(self) -> str:
        """The counts in words."""
        text = f"{self.compared - self.different} of {self.compared} equal"
        if self.ties:
            text += f" ({self.ties} of them part at a tie)"
        if self.parted is not None:
            text += f"; the first difference is at token {self.parted} after a prompt of {self.at} tokens"
        return text


def agreement(subject: Subject, pairs: Iterable[tuple[TokenIds, TokenIds, TokenIds]]) -> Agreement:
    """Compare greedy completions: each pair with its prompt."""
    compared = ties = different = 0
    parted: tuple[int, int] | None = None
    for prompt, one, other in pairs:
        compared += 1
        if one == other:
            continue
        if _part_at_tie(subject, prompt, one, other):
            ties += 1
            continue
        different += 1
        if parted is None:
            parted = _first_difference(one, other), len(prompt)
    return Agreement(compared, ties, different, *(parted or (None, None)))


def _first_difference(one: TokenIds, other: TokenIds) -> int:
    """The first position at which two completions differ, or the shorter one's length."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))


def _part_at_tie(subject: Subject, prompt: TokenIds, one: TokenIds, other: TokenIds) -> bool:
    place = _first_difference(one, other)
    if place >= min(len(one), len(other)):
        return False
    found = subject.policy.next_token_probs(prompt, one[: place + 1], _WHOLE)[place]
    probs = found.prob(one[place]), found.prob(other[place])
    margin = _MARGIN_EXACT if subject.exact else _MARGIN
    return min(probs) > 0 and abs(math.log(probs[0] / probs[1])) <= margin
