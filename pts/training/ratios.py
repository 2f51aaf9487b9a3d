"""Importance ratios of completions that were made to begin in a mode, and the clipped loss on them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch

from pts.training.modes import Modes
from pts.training.samples import Sample

Form: TypeAlias = Literal["sequence", "full"]
"""How a completion's ratio is made of its tokens': their geometric mean, or their product."""

FORCED_SHARE = 0.5
"""The share of each mode among completions whose mode is forced."""


def old_log_probs(sample: Sample, modes: Modes | None) -> list[float]:
    """The log-probabilities by which a completion was drawn, one a token [length], in nats.

    The first token of a forced mode has log ½, what else was put in log 1. A thinking completion that began as
    the policy liked has log ½ + log p(first token | the mode's). A free completion has its own throughout.
    """
    drawn = list(sample.log_probs)
    if not sample.forced or modes is None:
        return drawn
    put_in = len(modes.opener if sample.thinks else modes.no_thinking)
    old = [0.0] * put_in + drawn[put_in:]
    old[0] += math.log(FORCED_SHARE)
    return old


def padded(rows: Sequence[Sequence[float]], width: int) -> torch.Tensor:
    """Rows of different lengths as one tensor [rows, width], zeros behind; nan (not drawn) becomes zero."""
    table = torch.zeros(len(rows), width)
    for row, values in zip(table, rows, strict=True):
        row[: len(values)] = torch.tensor(values)
    return torch.nan_to_num(table, nan=0.0)


def ratios(log_probs: torch.Tensor, old: torch.Tensor, mask: torch.Tensor, form: Form) -> torch.Tensor:
    """π(completion) ÷ π_old(completion) [batch], of log-probabilities and mask [batch, length].

    `sequence` takes the mean of the tokens' log-ratios, as AdaptThink's code does and GSPO (Zheng et al. 2025):
    the first token then weighs 1/length. `full` takes their sum, as AdaptThink's paper writes.
    """
    total = ((log_probs - old) * mask).sum(-1)
    return torch.exp(total if form == "full" else total / mask.sum(-1).clamp(min=1.0))


def clipped_loss(ratio: torch.Tensor, advantages: torch.Tensor, clip: float) -> torch.Tensor:
    """−min(ratio · A, clip(ratio, 1 − clip, 1 + clip) · A), the mean over completions (PPO's)."""
    bounded = ratio.clamp(1.0 - clip, 1.0 + clip)
    return -torch.min(ratio * advantages, bounded * advantages).mean()
