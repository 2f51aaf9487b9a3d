"""Pairs: at a confirmed pivot, a better and a worse next token after the same prefix, both measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pts.errors import DataError
from pts.pivot_search.findings import Finding
from pts.pivot_search.results import Alternative
from pts.records import TokenIds
from pts.runs.search_run import SearchResults
from pts.setting_names import setting

LEAST_ROLLOUTS = 4
"""Rollouts that an alternative's value must rest on to be the other side of a pair."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One side of a pair: a token, its policy probability, its measured value and the rollouts behind it."""

    token_id: int
    token: str
    prob: float
    value: float
    n: int

    @property
    def shrunk(self) -> float:
        """The value with one success and one failure added: few rollouts say less than many."""
        return (self.value * self.n + 1) / (self.n + 2)


@dataclass(frozen=True, slots=True)
class Pair:
    """A pivot with both sides measured. `prefix` is the completion before it; texts are for people and labels.

    `index` counts the run's findings, from 0; `taken_better` says that the trace took the better token, which
    changed the value from `value_before` by `delta`.
    """

    index: int
    problem_id: str
    prompt: TokenIds
    prefix: TokenIds
    better: Choice
    worse: Choice
    taken_better: bool
    value_before: float
    delta: float
    before: str
    after: str

    @property
    def gap(self) -> float:
        """Value of the better token less that of the worse."""
        return self.better.value - self.worse.value

    @property
    def taken(self) -> Choice:
        """The side that the trace took."""
        return self.better if self.taken_better else self.worse

    @property
    def ids(self) -> TokenIds:
        """All ids before the pivot."""
        return self.prompt + self.prefix


def measured_pairs(run: SearchResults) -> list[Pair]:
    """One pair for each finding whose other side was drawn often enough, in the run's order.

    The other side is, of the alternatives with at least `LEAST_ROLLOUTS` rollouts, the one whose shrunk value
    is farthest on the right side of the taken token's. Raises DataError where the run has no finding at all.
    """
    findings = run.findings
    if not findings:
        raise DataError(
            f"{run.path} has no pivotal token: search more problems, or problems that the "
            "model solves sometimes."
        )
    if all(finding.candidate.unit == "sentence" for finding in findings):
        raise DataError(
            f"{run.path} has pivotal sentences and no tokens: vectors are built from tokens; search with "
            f"{setting('unit', 'both')} or {setting('unit', 'token')}."
        )
    pairs = [_pair(run, index, finding) for index, finding in enumerate(findings)]
    return [pair for pair in pairs if pair is not None]


def split_problems(pairs: Sequence[Pair], share: float, seed: int) -> tuple[list[Pair], list[Pair]]:
    """Pairs to fit on and pairs held out, about `share` of them, no problem on both sides."""
    import numpy as np

    problems = sorted({pair.problem_id for pair in pairs})
    order = np.random.default_rng(seed).permutation(len(problems))
    held = {problems[index] for index in order[: round(share * len(problems))]}
    return (
        [pair for pair in pairs if pair.problem_id not in held],
        [pair for pair in pairs if pair.problem_id in held],
    )


def _pair(run: SearchResults, index: int, finding: Finding) -> Pair | None:
    result, candidate = finding.problem, finding.candidate
    taken = Choice(
        candidate.token_id, candidate.token, candidate.token_prob, candidate.value, candidate.value_n
    )
    other = _other_side(taken, candidate.alternatives, candidate.delta > 0)
    if other is None:
        return None
    helps = candidate.delta > 0
    context = run.context(finding)
    return Pair(
        index=index,
        problem_id=result.problem_id,
        prompt=result.prompt,
        prefix=result.traces[candidate.trace].completion[: candidate.position],
        better=taken if helps else other,
        worse=other if helps else taken,
        taken_better=helps,
        value_before=candidate.value_before,
        delta=candidate.delta,
        before=context.before,
        after=context.after,
    )


def _other_side(taken: Choice, alternatives: Sequence[Alternative], helps: bool) -> Choice | None:
    """The best other token where the taken one harms, the worst where it helps."""
    others = [Choice(a.token_id, a.token, a.prob, a.value, a.n) for a in alternatives if a.n >= LEAST_ROLLOUTS]
    if not others:
        return None
    chosen = min(others, key=lambda other: other.shrunk if helps else -other.shrunk)
    right = chosen.value < taken.value if helps else chosen.value > taken.value
    return chosen if right else None
