"""From confirmed candidates to findings: Benjamini–Hochberg and false-coverage-rate intervals over a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pts.pivot_search.results import Candidate, ProblemResult
from pts.stats import benjamini_hochberg, difference_interval


@dataclass(frozen=True, slots=True)
class Finding:
    """A reported token or sentence: its problem, its candidate, its q-value, its interval for Δ at `level`."""

    problem: ProblemResult
    candidate: Candidate
    q_value: float
    ci_low: float
    ci_high: float
    level: float = 0.95

    @property
    def different_interval(self) -> tuple[float, float] | None:
        """For a sentence: the value after it less that after a different one; None where none was drawn."""
        candidate = self.candidate
        if not candidate.different_n:
            return None
        return difference_interval(
            candidate.value_successes,
            candidate.value_n,
            candidate.different_successes,
            candidate.different_n,
            1.0 - (1.0 - self.level) / candidate.looks,
        )


def select_findings(results: Sequence[ProblemResult], fdr: float) -> list[Finding]:
    """The candidates that Benjamini–Hochberg rejects at level `fdr` over all that entered the confirmation.

    Every candidate of every result counts, those with p = 1 as well. Intervals are at level
    1 − fdr·R/m for R findings among m candidates (Benjamini and Yekutieli 2005). Largest |Δ̂| first; ties in an
    order that does not depend on that of the results.
    """
    entered = [(result, candidate) for result in results for candidate in result.candidates]
    q_values = benjamini_hochberg([candidate.p_value for _, candidate in entered])
    found = [(*pair, q) for pair, q in zip(entered, q_values, strict=True) if q <= fdr]
    level = 1.0 - fdr * len(found) / max(len(entered), 1)
    findings = [Finding(r, c, q, *effect_interval(c, level), level) for r, c, q in found]
    return sorted(findings, key=_rank)


def _rank(finding: Finding) -> tuple[float, str, int, int]:
    candidate = finding.candidate
    return -abs(candidate.delta), finding.problem.problem_id, candidate.trace, candidate.position


def effect_interval(candidate: Candidate, level: float) -> tuple[float, float]:
    """Interval for Δ at `level`, valid whichever of the planned looks the confirmation stopped at."""
    low, high = difference_interval(
        candidate.value_successes,
        candidate.value_n,
        candidate.off_trace_successes,
        candidate.off_trace_n,
        1.0 - (1.0 - level) / candidate.looks,
    )
    share = 1.0 - candidate.token_prob
    return share * low, share * high
