"""A search's run in numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from pts.pivot_search.audit import RecallEstimate
from pts.pivot_search.config import SearchUnit, SentenceMeasure
from pts.pivot_search.results import Fate, ProblemResult
from pts.records import Completions
from pts.runs.search_run import SearchResults

RunStatus: TypeAlias = Literal["complete", "partial", "spent"]
"""All problems done; some still to do; or the spending limit came before the last problem."""


@dataclass(frozen=True, slots=True)
class SearchSummary:
    """A run in numbers.

    `token_shares` says what part of all trace tokens each bound removed, and what part was confirmed; `fdr` is
    the false discovery rate for |Δ| ≤ threshold/2. The `tokens_*` count everything generated, each rollout
    once, and so do `completions`, by phase, with those that the `budget` cut. `tokens_reused` are tokens of the
    results that were taken from rollouts of earlier settings. `cut_share` is the share of all that it cut,
    `cut_shares` those of the phases; all are None in a run that did not count.
    `tokens_lost` were generated, but the run's journal of rollouts is gone or cut: no phase counts them, and
    `completions` is None. `undecided` completions could not be compared with their reference, and count as
    wrong. `sandbox` names what held in the programs that were run to grade them, None where none were. `recall`
    is the share that was found, as the audit shows; None where there was no audit. `unit` is what was searched,
    and `sentences` are the findings that are sentences. `different` is by what another sentence counts as a
    different one; None where no sentences were searched.
    """

    status: RunStatus
    model_id: str
    dataset_id: str
    problems: int
    searched: int
    out_of_range: int
    spent: int
    traces: int
    trace_tokens: int
    token_shares: Mapping[str, float]
    candidates: int
    findings: int
    helping: int
    harming: int
    fdr: float
    threshold: float
    grader: str
    tokens_range: int
    tokens_traces: int
    tokens_screen: int
    tokens_confirm: int
    tokens_generated: int
    budget: int | None = None
    completions: Mapping[str, Completions] | None = None
    cut_share: float | None = None
    cut_shares: Mapping[str, float | None] | None = None
    undecided: int = 0
    sandbox: tuple[str, ...] | None = None
    tokens_reused: int = 0
    tokens_audit: int = 0
    recall: RecallEstimate | None = None
    unit: SearchUnit = "token"
    sentences: int = 0
    tokens_lost: int = 0
    different: SentenceMeasure | None = None

    @property
    def done(self) -> int:
        """Problems that need no further search."""
        return self.searched + self.out_of_range


def search_summary(run: SearchResults) -> SearchSummary:
    """The run in numbers, as of its shard."""
    statuses = [result.status for result in run.results]
    traces = [trace for result in run.results for trace in result.traces]
    deltas = [finding.candidate.delta for finding in run.findings]
    completions = run.completions
    return SearchSummary(
        status=_status(run),
        model_id=run.resolved.model_id,
        dataset_id=run.resolved.dataset_id,
        problems=run.manifest.problems.count,
        searched=statuses.count("searched"),
        out_of_range=statuses.count("out_of_range"),
        spent=statuses.count("spent"),
        traces=len(traces),
        trace_tokens=sum(len(trace.completion) for trace in traces),
        token_shares=_token_shares(run.results),
        candidates=sum(len(result.candidates) for result in run.results),
        findings=len(deltas),
        helping=sum(delta > 0 for delta in deltas),
        harming=sum(delta < 0 for delta in deltas),
        fdr=run.fdr,
        threshold=run.threshold,
        grader=run.resolved.grader,
        tokens_range=run.tokens_in("range"),
        tokens_traces=run.tokens_in("traces"),
        tokens_screen=run.tokens_in("screen"),
        tokens_confirm=run.tokens_in("confirm"),
        tokens_generated=run.tokens_spent,
        tokens_reused=sum(line.reused for line in run.latest.values()),
        budget=run.budget,
        completions=completions,
        cut_share=None if completions is None else sum(completions.values(), Completions()).cut_share,
        cut_shares=None
        if completions is None
        else {phase: counted.cut_share for phase, counted in completions.items()},
        undecided=sum(line.undecided for line in run.lines),
        sandbox=run.environment.sandbox,
        tokens_audit=run.tokens_in("audit"),
        recall=run.recall,
        unit=run.unit,
        sentences=sum(finding.candidate.unit == "sentence" for finding in run.findings),
        tokens_lost=run.tokens_lost,
        different=None if run.unit == "token" else run.different,
    )


def _status(run: SearchResults) -> RunStatus:
    done = sum(line.result.status != "spent" for line in run.settled.values())
    if done >= run.manifest.problems.count:
        return "complete"
    limit = run.environment.max_tokens
    # Of a merged run each line has the limit of its shard.
    reached = limit is not None and run.tokens_spent >= limit
    cut = any(
        line.result.status == "spent" and (reached or line.settled(limit)) for line in run.settled.values()
    )
    return "spent" if cut else "partial"


def _token_shares(results: Sequence[ProblemResult]) -> dict[str, float]:
    traces = [trace for result in results for trace in result.traces]
    counts = {fate: sum(getattr(trace, fate) for trace in traces) for fate in get_args(Fate)}
    total = sum(counts.values())
    return {fate: count / total if total else 0.0 for fate, count in counts.items()}
