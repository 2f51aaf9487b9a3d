"""The values that pass between the floors of the package. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from pts.errors import ConfigError
from pts.packed_ids import packs_completion

if TYPE_CHECKING:
    from pts.policies.guide import Guide

TokenIds: TypeAlias = tuple[int, ...]
Finish: TypeAlias = Literal["end", "budget"]
"""Why a completion stopped: the model ended it (end token or stop text), or the budget cut it (it fails)."""

SCHEMA_VERSION = 1
MOST_CUT = 0.2
"""Share of completions that a budget may cut before it is said: each of them has failed."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A question with a reference answer; `metadata` keeps the data set's other fields.

    pts.search("demo", [pts.Problem("1", "What is 12 + 5 - 9 ?", "8")], budget=96)
    """

    id: str
    query: str
    answer: str
    metadata: Mapping[str, str | int | float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sampling:
    """How completions are sampled: truncated by temperature, top-k, top-p and min-p, in transformers' order.

    `budget` limits a completion's total new tokens. `top_k=0`, `top_p=1.0` and `min_p=0.0` switch the
    truncation off; `temperature=0.0` is greedy. A completion ends with the token that completes one of the
    texts `stop` in its own text, as it does with an end token: the token belongs to it, the text is read up to
    where the stop text begins. Raises ConfigError for a value outside its range.
    """

    temperature: float = 0.6
    top_k: int = 20
    top_p: float = 0.95
    min_p: float = 0.0
    budget: int = 512
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.stop, str):
            raise ConfigError(f"stop is the text {self.stop!r}; it must be a tuple of texts.")
        if "" in self.stop:
            raise ConfigError("a stop text is empty: every completion holds it; leave it out, or give a text.")
        if any("\ufffd" in text for text in self.stop):
            raise ConfigError("a stop text has the character U+FFFD, which stands for bytes that are no text.")
        checks = (
            (self.temperature >= 0, "temperature", self.temperature, "at least 0"),
            (self.top_k >= 0, "top-k", self.top_k, "at least 0 (0 switches it off)"),
            (0 < self.top_p <= 1, "top-p", self.top_p, "in (0, 1] (1 switches it off)"),
            (0 <= self.min_p < 1, "min-p", self.min_p, "in [0, 1) (0 switches it off)"),
            (self.budget >= 1, "budget", self.budget, "at least 1 token"),
        )
        for holds, name, value, wanted in checks:
            if not holds:
                raise ConfigError(f"{name} is {value}; it must be {wanted}.")


DEFAULT_SAMPLING = Sampling()


@dataclass(frozen=True, slots=True)
class TokenDistribution:
    """The policy's next-token distribution after all truncation: `ids` [k] and `probs` [k], most likely first.

    `probs` is float64 and sums to 1; every id not listed has probability 0.
    """

    ids: npt.NDArray[np.int64]
    probs: npt.NDArray[np.float64]

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return self.ids.nbytes + self.probs.nbytes

    @property
    def entropy(self) -> float:
        """Entropy in nats: 0.0 where one token is certain."""
        probs = self.probs[self.probs > 0]
        return max(0.0, float(-(probs * np.log(probs)).sum()))

    def prob(self, token_id: int) -> float:
        """Probability of one token, 0.0 where truncation removed it."""
        hit = np.flatnonzero(self.ids == token_id)
        return float(self.probs[hit[0]]) if hit.size else 0.0


@dataclass(frozen=True, slots=True)
class Trace:
    """One completion as token ids, with the policy's probability `token_probs[i]` of each (same length).

    A trace that the model ended includes its end token or stop text; `finish` is "budget" where the budget cut
    it.
    """

    prompt: TokenIds
    completion: TokenIds
    token_probs: tuple[float, ...]
    finish: Finish


@dataclass(frozen=True, slots=True)
class RolloutRequest:
    """`n` completions from `prompt + prefix`, where `prefix` is the part of the completion so far.

    The first new token is `force` where that is given. With `avoid` it is drawn from the policy without that
    token, renormalised (not both); a sampler whose truncation leaves nothing else gives the likeliest other
    token.
    `sampling` holds the sampler, the budget and the stop texts of these completions.
    `key` is the asker's own name for the request, by which its rollouts are matched. It is unique among the
    requests under way.
    Every draw comes from a stream of `seed` alone: a request has the same result whatever its key and whatever
    shares its batch. `variant` says which of the policy's steerings completes it (0 is the model as it is); it
    is no part of the stream, so variants share their random numbers.
    `guide` makes what else decides each completion's tokens (its `advance` has heard of the prefix already).
    With `resumed` the stream goes on where it was after the prefix, as if the same request without one had
    drawn it: a completion that was stopped goes on to what it would have been.
    """

    prompt: TokenIds
    prefix: TokenIds = ()
    force: int | None = None
    avoid: int | None = None
    n: int = 1
    seed: int = 0
    variant: int = 0
    guide: Callable[[], Guide] | None = None
    resumed: bool = False
    key: str = ""
    sampling: Sampling = DEFAULT_SAMPLING


@packs_completion
@dataclass(frozen=True)
class Rollout:
    """`count` equal completions drawn for `request`; `completion` holds the prefix and the new tokens.

    Over the rollouts of one request the counts add up to `request.n`.
    """

    request: RolloutRequest
    completion: TokenIds
    count: int
    finish: Finish


@dataclass(frozen=True, slots=True)
class Completions:
    """How many completions were drawn, each counted as often as it was drawn, and how many the budget cut."""

    drawn: int = 0
    cut: int = 0

    @property
    def cut_share(self) -> float | None:
        """The share that the budget cut; None where none was drawn."""
        return self.cut / self.drawn if self.drawn else None

    def to_json(self) -> dict[str, int | float | None]:
        """Both numbers and the share, for machines."""
        return {"drawn": self.drawn, "cut": self.cut, "cut_share": self.cut_share}

    def __add__(self, more: Completions) -> Completions:
        """Both together."""
        return Completions(self.drawn + more.drawn, self.cut + more.cut)
