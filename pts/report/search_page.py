"""The report of a search run: its head in words and figures, and the page that shows its traces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pts.pivot_search.audit import RecallEstimate
from pts.records import MOST_CUT
from pts.report.one_file import Page
from pts.report.search_data import SearchData
from pts.runs.lost_text import lost_text
from pts.runs.search_summary import SearchSummary

SCRIPTS = (
    "search_state.js",
    "overview.js",
    "problems.js",
    "moved.js",
    "trace_text.js",
    "value_curve.js",
    "event.js",
    "steered_run.js",
    "trace.js",
    "search.js",
)


@dataclass(frozen=True, slots=True)
class Runs:
    """What the page draws: one run, or two side by side."""

    runs: tuple[SearchData, ...]
    kind: Literal["search"] = "search"


def search_page(runs: Sequence[SearchData]) -> Page:
    """The page of one run, or of two side by side."""
    first = runs[0].summary
    several = len(runs) > 1
    title = " beside ".join(run.name for run in runs) if several else f"{first.model_id} on {first.dataset_id}"
    return Page(
        title=title,
        head=[f"{_named(run, several)}{found_sentence(run.summary)}" for run in runs],
        facts=_facts(runs),
        warnings=[f"{_named(run, several)}{warning}" for run in runs for warning in _warnings(run)],
        template="search.html.j2",
        scripts=SCRIPTS,
        data=Runs(tuple(runs)),
        values={"steered": any(run.steering is not None for run in runs)},
    )


def _named(run: SearchData, several: bool) -> str:
    return f"{run.name}: " if several else ""


def found_sentence(summary: SearchSummary) -> str:
    """What the search found and how sure that is, for a reader who knows nothing of it."""
    found, half = summary.findings, summary.threshold / 2
    if not found:
        return (
            f"No {_unit(summary, 1)} was found that changes the probability of a right answer by "
            f"{summary.threshold:g} or more; {_count(summary.candidates, 'candidate')} entered the "
            "confirmation."
        )
    one = found == 1
    return (
        f"At {found:,} {_unit(summary, found)} this model wins or loses its answer: {summary.helping} "
        f"{'raises' if summary.helping == 1 else 'raise'} the probability of a right one by "
        f"{summary.threshold:g} or more, {summary.harming} {'lowers' if summary.harming == 1 else 'lower'} it. "
        f"{'It was' if one else 'All were'} confirmed on completions that the search had not seen. The "
        f"expected share of reported ones whose true effect is {half:g} or less is at most {summary.fdr:.0%}."
        f"{_recall_sentence(summary.recall)}"
    )


def _unit(summary: SearchSummary, number: int) -> str:
    """What was searched, in the singular or the plural."""
    words = {"token": "token", "sentence": "sentence", "both": "token or sentence"}
    plural = {"token": "tokens", "sentence": "sentences", "both": "tokens and sentences"}
    return (words if number == 1 else plural)[summary.unit]


def _recall_sentence(recall: RecallEstimate | None) -> str:
    if recall is None or recall.recall is None or recall.low is None or recall.high is None:
        return ""
    return (
        f" By a random check of what the search dropped, these are {recall.recall:.0%} of all such places "
        f"({recall.low:.0%} to {recall.high:.0%})."
    )


def _warnings(run: SearchData) -> list[str]:
    summary = run.summary
    warnings = []
    if summary.status == "partial":
        to_do = summary.problems - summary.done - summary.spent
        warnings.append(
            f"This run is not complete: {_count(to_do, 'problem')} of {summary.problems:,} are still to be "
            "searched. All figures are of what was done so far."
        )
    if summary.status == "spent":
        warnings.append(
            f"The spending limit stopped this run: {_count(summary.spent, 'problem')} of "
            f"{summary.problems:,} were cut short."
        )
    if summary.cut_share is not None and summary.cut_share > MOST_CUT:
        warnings.append(
            f"The budget of {summary.budget:,} tokens cut {summary.cut_share:.0%} of all completions. Each of "
            "them counts as wrong, so what finishes in time is part of what these effects show."
        )
    if summary.tokens_lost:
        warnings.append(f"{lost_text(summary.tokens_lost)}, and there are no example continuations of them.")
    if run.without_tokenizer is not None:
        warnings.append(
            "The model's tokenizer was not to be had, so tokens are shown one by one (spaces may be missing) "
            f"and there are no example continuations. {run.without_tokenizer}"
        )
    if any(trace.fates is None for problem in run.problems for trace in problem.traces):
        warnings.append(
            "An earlier version made this run. It kept no believed values, so there is no value curve, and "
            "not what became of each token."
        )
    return warnings


def _facts(runs: Sequence[SearchData]) -> list[tuple[str, tuple[str, ...]]]:
    """The rows of the table in the head, one cell a run."""
    rows = [_fact_cells(run) for run in runs]
    facts = [(label, tuple(row[label] for row in rows)) for label in rows[0]]
    return facts if len(runs) == 1 else [("Run", tuple(run.name for run in runs)), *facts]


def _fact_cells(run: SearchData) -> dict[str, str]:
    summary = run.summary
    shares = summary.token_shares
    drawn = None if summary.completions is None else sum(each.drawn for each in summary.completions.values())
    cut = "unknown" if summary.tokens_lost else "not counted by the version that searched"
    if drawn is not None and summary.cut_share is not None:
        cut = f"{summary.cut_share:.1%} of {drawn:,} completions"
    return {
        "Model": summary.model_id,
        "Sampler": run.sampler,
        "Problems": (
            f"{summary.dataset_id}: {summary.searched:,} searched, {summary.out_of_range:,} out of range, "
            f"{summary.problems:,} in all"
        ),
        "Grader": summary.grader,
        "Reported": (
            f"{summary.findings:,} of {summary.candidates:,} tested candidates "
            f"({summary.helping:,} help, {summary.harming:,} harm)"
        ),
        "Recall, by the audit": _recall_cell(summary.recall),
        "False discovery rate": f"{summary.fdr:g}, for an effect of {summary.threshold / 2:g} or less",
        "Completions searched": (
            f"{summary.traces:,}, of {summary.trace_tokens:,} tokens; {shares['excluded_exact']:.0%} excluded "
            f"by their probability, {shares['excluded_value'] + shares['screened_out']:.0%} by the screen, "
            f"{shares['unresolved']:.0%} left open"
        ),
        "Generated tokens": (
            f"{summary.tokens_generated:,}: range {summary.tokens_range:,}, traces {summary.tokens_traces:,}, "
            f"screen {summary.tokens_screen:,}, confirmation {summary.tokens_confirm:,}, "
            f"audit {summary.tokens_audit:,}"
        ),
        "Cut by the budget": cut,
    }


def _recall_cell(recall: RecallEstimate | None) -> str:
    """What share was found, and from what that was estimated."""
    if recall is None:
        return "unknown: there was no audit"
    audited = f"fresh rollouts at {recall.audited:,} of {recall.dropped:,} places that the screen dropped"
    missed = f"{recall.missed:.1f} missed ({recall.missed_low:.1f} to {recall.missed_high:.1f})"
    if recall.recall is None or recall.low is None or recall.high is None:
        return f"{missed}; {audited}"
    return f"{recall.recall:.0%} ({recall.low:.0%} to {recall.high:.0%}); {missed}; {audited}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
