"""How sure a policy was of what it wrote, from the probabilities of its tokens."""

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

    The draft must have been written from its beginning. The probabilities are the policy's, after truncation:
    a lower temperature or top-p makes every answer look surer.
    """
    _, answer = session.split(draft)
    if not answer:
        return 0.0
    return geometric_mean(draft.probs if over == "completion" else draft.probs[-len(answer) :])


def require_draws(name: str, session: Session) -> None:
    """Raise ConfigError for a greedy sampler, whose tokens all have probability 1 and whose branches agree."""
    if session.sampling.temperature == 0:
        raise ConfigError(
            f"strategy {name} needs a temperature above 0: the tokens of a greedy sampler all have "
            "probability 1, and its completions are all the same."
        )
