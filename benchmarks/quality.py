"""What a search found against what is true: the figures of a method over many traces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

THRESHOLD = 0.2
MARGIN = 0.05
ROUNDING = 1e-9
"""An effect of exactly −(1 − q) is the end of its interval."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """An effect as estimated at a position, with its interval where the method gives one."""

    position: int
    delta: float
    low: float = float("nan")
    high: float = float("nan")


@dataclass(frozen=True, slots=True)
class Searched:
    """What one method made of one trace, beside the trace's exact effects [length]."""

    effects: tuple[float, ...]
    reported: tuple[Estimate, ...]
    tokens: int
    confirmed: tuple[Estimate, ...] = ()


def figures(searched: Sequence[Searched]) -> dict[str, float]:
    """The figures of a method: error rates, recall, bias, coverage and cost.

    `fdr_half` and `fdr_margin` are the shares of the reported with |Δ| below τ/2 and below τ − 0.05;
    `recall_25` the share of all tokens with |Δ| ≥ 0.25 that were reported; `bias` the mean of
    sign(Δ)(Δ̂ − Δ). A true find is a reported token with |Δ| ≥ τ − 0.05.
    """
    reported = [(e, s.effects[e.position]) for s in searched for e in s.reported]
    confirmed = [(e, s.effects[e.position]) for s in searched for e in s.confirmed]
    true = np.array([abs(truth) for _, truth in reported])
    effects = np.abs(np.concatenate([s.effects for s in searched]))
    found = np.concatenate(
        [np.isin(np.arange(len(s.effects)), [e.position for e in s.reported]) for s in searched]
    )
    finds = int((true >= THRESHOLD - MARGIN).sum())
    tokens = sum(s.tokens for s in searched)
    result: dict[str, float] = {
        "traces": len(searched),
        "reported": len(reported),
        "fdr_half": _mean(true < THRESHOLD / 2),
        "fdr_margin": _mean(true < THRESHOLD - MARGIN),
    }
    for least in (20, 25, 30):
        result[f"recall_{least}"] = _mean(found[effects >= least / 100])
    result |= {"bias": _bias(reported), "coverage": _coverage(reported)}
    if confirmed:
        result |= {"bias_confirmed": _bias(confirmed), "coverage_confirmed": _coverage(confirmed)}
    return result | {
        "tokens_per_trace": tokens / len(searched),
        "tokens_per_find": tokens / finds if finds else float("inf"),
    }


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def _bias(pairs: Sequence[tuple[Estimate, float]]) -> float:
    return _mean(np.array([np.sign(truth) * (e.delta - truth) for e, truth in pairs]))


def _coverage(pairs: Sequence[tuple[Estimate, float]]) -> float:
    covered = [e.low - ROUNDING <= truth <= e.high + ROUNDING for e, truth in pairs if not np.isnan(e.low)]
    return _mean(np.array(covered))
