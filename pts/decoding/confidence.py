"""How sure a model was of what it wrote, from its own probabilities of the tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias

from pts.decoding.session import Draft, Session
from pts.errors import ConfigError

Over: TypeAlias = Literal["completion", "answer"]
"""Whose tokens a confidence is taken over."""


def mean_log_prob(probs: Sequence[float]) -> float:
    """The mean log-probability in nats of the tokens that were drawn (nan marks one that was put in).

    −inf where none was drawn.
    """
    logs = [math.log(prob) for prob in probs if not math.isnan(prob)]
    return sum(logs) / len(logs) if logs else -math.inf


def geometric_mean(probs: Sequence[float]) -> float:
    """The geometric mean of the drawn tokens' probabilities; 0 where none was drawn."""
    return math.exp(mean_log_prob(probs))


def confidence_of(session: Session, draft: Draft, over: Over) -> float:
    """The geometric mean probability of a draft's tokens, all or its answer's; 0 where it has no answer.

    The draft must have been written from its beginning, and its probabilities asked for.
    """
    _, answer = session.split(draft)
    if not answer:
        return 0.0
    return geometric_mean(draft.probs if over == "completion" else draft.probs[-len(answer) :])


def require_draws(name: str, session: Session) -> None:
    """Raise ConfigError for a greedy sampler, whose branches all agree."""
    if session.sampling.temperature == 0:
        raise ConfigError(
            f"strategy {name} needs a temperature above 0: a greedy sampler's completions are all the same."
        )
