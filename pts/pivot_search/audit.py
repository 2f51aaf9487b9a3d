"""The audit: fresh rollouts at randomly drawn tokens that the screen dropped, and the recall that they show.

Each dropped token is drawn with a chance of its own, which is known. A token drawn with chance π that turns out
to be pivotal stands for 1/π tokens (Horvitz and Thompson 1952).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pts.pivot_search.findings import Finding
from pts.pivot_search.results import AuditDraw, ProblemResult
from pts.pivot_search.values import Floats

LEVEL = 0.95
"""Of the interval for the recall."""
ROLLOUTS = 30
"""What confirming a token that does not matter costs on average, in rollouts from before the token."""
FLOOR = 0.02
"""Added to the believed chance of being pivotal wherever it counts: the belief may be wrong."""


def inclusion_chances(pivotal: Floats, cost: Floats, tokens: float) -> Floats:
    """The chance with which each dropped token is audited [N], so that `tokens` are spent on average.

    `pivotal` [N] is the believed chance that a token is pivotal, and `cost` [N] the expected tokens of an
    audit. The chances are proportional to pivotal + FLOOR, and at most 1.
    """
    weight = pivotal + FLOOR
    chances: Floats = np.ones(len(weight))
    certain = np.zeros(len(weight), dtype=bool)
    while not certain.all():
        left = max(tokens - float(cost[certain].sum()), 0.0)
        scale = left / float((weight * cost)[~certain].sum())
        chances = np.where(certain, 1.0, np.minimum(weight * scale, 1.0))
        if (chances[~certain] < 1.0).all():
            break
        certain = chances >= 1.0
    return chances


def draw_audits(chances: Floats, seed: int) -> npt.NDArray[np.bool_]:
    """Which tokens are audited [N]: each independently, with its chance."""
    chosen: npt.NDArray[np.bool_] = np.random.default_rng(seed).random(len(chances)) < chances
    return chosen


def audit_draw(pivotal: Floats, chances: Floats) -> AuditDraw:
    """What an audit drew from, by the believed chances of being pivotal [N] and those of being drawn [N]."""
    unsure = chances < 1.0
    believed = pivotal[unsure] + FLOOR
    weight = float(believed.sum() / (believed @ chances[unsure])) if unsure.any() else 0.0
    return AuditDraw(len(pivotal), float(believed.sum()), weight)


@dataclass(frozen=True, slots=True)
class RecallEstimate:
    """The share of the pivotal tokens that a run reports, as its audit shows, with a 95% interval.

    All pivotal tokens are those that the run would report if the screen dropped nothing. `missed` is the
    estimated number of those that it does not report, with a 95% interval as well. The figures are of the
    problems that were audited: `reported` findings, of which the audit alone found `found_by_audit`, and
    `audited` of `dropped` tokens with fresh rollouts. Where nothing is reported there is no share: `recall`,
    `low` and `high` are None.
    """

    recall: float | None
    low: float | None
    high: float | None
    missed: float
    missed_low: float
    missed_high: float
    reported: int
    found_by_audit: int
    audited: int
    dropped: int


def estimate_recall(results: Sequence[ProblemResult], findings: Sequence[Finding]) -> RecallEstimate | None:
    """The recall of a run, over the problems that were audited.

    `findings` are those of the whole run (`select_findings`). None where no problem was audited.
    """
    audits = {result.problem_id: result.audit for result in results if result.audit is not None}
    if not audits:
        return None
    reported = [f.candidate for f in findings if f.problem.problem_id in audits]
    drawn = [
        candidate
        for result in results
        if result.problem_id in audits
        for candidate in result.candidates
        if candidate.audit_weight is not None
    ]
    dropped = sum(audit.dropped for audit in audits.values())
    weights = [candidate.audit_weight for candidate in reported if candidate.audit_weight is not None]
    low, estimate, high = pivotal_interval(weights, expected_weight(list(audits.values())), dropped)
    # What the audit found is reported as well: only the rest was missed.
    found, total = len(weights), len(reported)

    def recall(among_dropped: float) -> float | None:
        return total / (total - found + among_dropped) if total else None

    return RecallEstimate(
        *(recall(estimate), recall(high), recall(low)),
        *(estimate - found, low - found, high - found),
        reported=total,
        found_by_audit=found,
        audited=len(drawn),
        dropped=dropped,
    )


def pivotal_interval(weights: Sequence[float], unseen: float, dropped: int) -> tuple[float, float, float]:
    """How many of the `dropped` tokens are pivotal: lower bound, estimate and upper bound.

    `weights` are 1/π of those that the audit found. The interval is the gamma interval for weighted sums of
    counts of Fay and Feuer (1997), whose upper bound allows for one more token that was not drawn, of weight
    `unseen`. Theirs is the largest weight. One over the mean chance of a pivotal token to be drawn keeps the
    level as well, and is far narrower: M pivotal tokens all stay unseen with probability (1 − that chance)^M.
    Tokens with π = 1 are known, so that they widen nothing.
    """
    from scipy.stats import chi2

    sampled = np.array([weight for weight in weights if weight > 1.0])
    certain = len(weights) - len(sampled)
    total, variance = float(sampled.sum()), float((sampled**2).sum())
    tail = (1.0 - LEVEL) / 2.0
    low = high = 0.0
    if total:
        low = variance / (2.0 * total) * float(chi2.ppf(tail, 2.0 * total**2 / variance))
    if unseen > 1.0:
        mean, spread = total + unseen, variance + unseen**2
        high = spread / (2.0 * mean) * float(chi2.ppf(1.0 - tail, 2.0 * mean**2 / spread))
    estimate = certain + total
    return certain + max(low, len(sampled)), estimate, max(min(certain + high, dropped), estimate)


def expected_weight(audits: Sequence[AuditDraw]) -> float:
    """One over the mean chance of being drawn, over several audits, each token by its chance to be pivotal."""
    believed = np.array([audit.believed for audit in audits if audit.weight])
    weight = np.array([audit.weight for audit in audits if audit.weight])
    return float(believed.sum() / (believed / weight).sum()) if len(believed) else 0.0
