"""A search run in the terminal: a table of its findings, their context in colour, and the run in numbers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from pts.pivot_search.findings import Finding
from pts.pivot_search.results import Alternative, SentenceLink
from pts.records import MOST_CUT
from pts.runs.lost_text import lost_text
from pts.runs.recall_text import recall_text
from pts.runs.search_run import SearchResults
from pts.runs.search_summary import SearchSummary, search_summary
from pts.setting_names import setting

BEFORE = 240
"""Characters of the text before a token that its context shows."""
HELPS, HARMS = "dodger_blue1", "dark_orange"
"""Blue and orange, as in `pts report`: told apart by eyes that do not tell red from green."""
_BARS = "▁▂▃▄▅▆▇█"
_CURVE = 50
"""Columns of a value curve, at most."""
_SHARES = {
    "excluded_exact": "by 1 − q",
    "excluded_value": "by the value bound",
    "screened_out": "by the screen",
    "out_of_region": "outside the region",
    "shared": "searched on another trace",
    "unresolved": "left open",
    "confirmed": "confirmed",
}


def run_report(run: SearchResults, top: int, problem: str | None = None) -> RenderableType:
    """The `top` findings with the largest |Δ|, of one problem if given, and the summary of the whole run.

    Raises DataError for a problem that the run does not hold.
    """
    findings = run.findings_of(problem)
    shown = findings[:top]
    parts: list[RenderableType] = []
    if shown:
        parts += [_Findings(shown), Text()]
        parts += [part for finding in shown for part in (*_context(run, finding), Text())]
        if len(findings) > len(shown):
            more = len(findings) - len(shown)
            parts.append(Text(f"{more} more findings: --top {len(findings)}\n", style="dim"))
    else:
        where = f" in problem {problem}" if problem is not None else ""
        what = {"token": "tokens", "sentence": "sentences", "both": "tokens or sentences"}[run.unit]
        parts.append(Text(f"No pivotal {what} were found{where}.\n", style="bold"))
    summary = summary_report(search_summary(run), shard=run.manifest.whole is not None)
    return Group(*parts, summary, Text(f"Run directory: {run.path}"))


def summary_report(summary: SearchSummary, *, shard: bool = False) -> RenderableType:
    """The run in numbers, as a few lines of text; a `shard` counts its own problems, not those requested."""
    again = "the same command" if shard else setting("problems", summary.problems)
    limit = f"this shard's part of {setting('max_tokens')}" if shard else setting("max_tokens")
    state = {
        "complete": "complete",
        "partial": f"partial: {again} continues it",
        "spent": f"stopped by {limit}: a larger {setting('max_tokens')} continues it",
    }[summary.status]
    shares = ", ".join(f"{summary.token_shares[key]:.0%} {what}" for key, what in _SHARES.items())
    sandbox = f" (programs held in by {', '.join(summary.sandbox)})" if summary.sandbox else ""
    lines = [
        f"Findings: {_count(summary)} of {summary.candidates} candidates "
        f"({summary.helping} help, {summary.harming} harm), at a false discovery rate of {summary.fdr:g} "
        f"for |Δ| ≤ {summary.threshold / 2:g}; {recall_text(summary)}",
        f"{summary.model_id} on {summary.dataset_id}, graded by {summary.grader}{sandbox}: {state}",
        f"Problems: {summary.searched} searched, {summary.out_of_range} out of range, "
        f"{summary.spent} cut by the spending limit, "
        f"{summary.problems - summary.done - summary.spent} to do; {summary.problems} in all",
        f"Traces: {summary.traces}, of {summary.trace_tokens:,} tokens: {shares}",
        f"Generated: {summary.tokens_generated:,} tokens: range {summary.tokens_range:,}, traces "
        f"{summary.tokens_traces:,}, screen {summary.tokens_screen:,}, confirm {summary.tokens_confirm:,}, "
        f"audit {summary.tokens_audit:,}",
    ]
    if summary.different is not None:
        measure = setting("different", summary.different)
        lines.append(f"Different sentences ({measure}): {_MEASURES[summary.different]}")
    if summary.tokens_lost:
        lines.append(lost_text(summary.tokens_lost))
    if summary.tokens_reused:
        lines.append(f"Reused: {summary.tokens_reused:,} tokens of rollouts that other settings had paid for")
    lines.append(_cut(summary))
    if summary.undecided:
        lines.append(
            f"Not decided: {summary.undecided:,} completions could not be compared with their reference "
            "answer; they count as wrong"
        )
    text = Text("\n".join(lines))
    if summary.cut_share is not None and summary.cut_share > MOST_CUT:
        text.append(f"\n{_too_much()}", style="bold")
    return text


_MEASURES = {
    "words": "those that share less than half of the words",
    "embedding": "those whose embedding by the model is less like it than the median",
}
"""By what another sentence counts as a different one."""


def _count(summary: SearchSummary) -> str:
    """How many were found, by unit where sentences were searched."""
    return {
        "token": str(summary.findings),
        "sentence": f"{summary.sentences} sentences",
        "both": f"{summary.sentences} sentences and {summary.findings - summary.sentences} tokens",
    }[summary.unit]


def _cut(summary: SearchSummary) -> str:
    """What the budget cut, by phase; a run that did not count it says so."""
    counted, shares = summary.completions, summary.cut_shares
    if counted is None or shares is None:
        why = "the rollouts are gone" if summary.tokens_lost else "the version that searched did not count it"
        return f"Cut by the budget: unknown; {why}"
    drawn = sum(each.drawn for each in counted.values())
    phases = ", ".join(f"{name} {share:.0%}" for name, share in shares.items() if share is not None)
    share = f"{summary.cut_share:.0%}" if summary.cut_share is not None else "none"
    return (
        f"Cut by the budget of {summary.budget} tokens: {share} of {drawn:,} completions"
        f"{f' ({phases})' if phases else ''}"
    )


class _Findings:
    """The table of findings, with as many columns as the console has room for."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        self._findings = findings

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The table; the last columns go first where it would not fit."""
        table = self._table(0)
        for left_out in range(1, len(_OPTIONAL) + 1):
            if table.__rich_measure__(console, options.update_width(_WIDE)).maximum <= options.max_width:
                break
            table = self._table(left_out)
        yield table

    def _table(self, left_out: int) -> Table:
        table = Table(show_lines=False)
        hidden = _OPTIONAL[:left_out]
        headings = [heading for heading in _COLUMNS if heading not in hidden]
        for heading in headings:
            left = heading in ("problem", "token", "best alternative")
            table.add_column(heading, justify="left" if left else "right", no_wrap=heading != "problem")
        for number, finding in enumerate(self._findings, start=1):
            cells = dict(zip(_COLUMNS, _cells(number, finding), strict=True))
            table.add_row(*(cells[heading] for heading in headings))
        return table


_LINKS = 3
"""Links of a sentence that are shown; its record has all."""
_CELL = 40
"""Characters of a token or sentence that the table shows."""
_COLUMNS = ("#", "problem", "token", "at", "q", "value", "Δ", "interval", "q-value", "best alternative")
_WIDE = 1000
"""Columns of a console on which every table fits, to ask one how wide it is."""
_OPTIONAL = ("best alternative", "q-value", "value", "at")
"""What a narrow console goes without, in this order."""


def _cells(number: int, finding: Finding) -> tuple[str | Text, ...]:
    candidate = finding.candidate
    return (
        str(number),
        Text(finding.problem.problem_id, overflow="fold"),
        Text(_visible(_shortened(candidate.token)), style=_style(finding)),
        str(candidate.position),
        f"{candidate.token_prob:.2f}",
        f"{candidate.value_before:.2f} → {candidate.value:.2f}",
        Text(f"{candidate.delta:+.2f}", style=_style(finding)),
        f"{finding.ci_low:+.2f} to {finding.ci_high:+.2f}",
        f"{finding.q_value:.1g}",
        Text(_best(candidate.alternatives)),
    )


def _context(run: SearchResults, finding: Finding) -> list[RenderableType]:
    candidate, context = finding.candidate, run.context(finding)
    before = context.before if len(context.before) <= BEFORE else "…" + context.before[-BEFORE:]
    effect = "helps" if candidate.delta > 0 else "harms"
    text = Text()
    where = f"token {candidate.position}"
    if candidate.end is not None:
        where = f"sentence of tokens {candidate.position} to {candidate.end - 1}"
    text.append(f"{finding.problem.problem_id}, {where}, {effect} ", style="bold")
    text.append(f"{candidate.delta:+.2f}\n", style=_style(finding))
    # Marked as well as coloured, for pipes and NO_COLOR.
    token = context.token.lstrip(" ")
    text.append(before + " " * (len(context.token) - len(token)))
    text.append(f"«{token}»", style=f"bold reverse {_style(finding)}")
    text.append(context.after, style="dim")
    lines: list[RenderableType] = [text]
    curve = _curve(finding)
    if curve is not None:
        lines.append(curve)
    if (interval := finding.different_interval) is not None:
        n, value = candidate.different_n, candidate.different_successes / candidate.different_n
        low, high = interval
        lines.append(
            Text(
                f"a different sentence: value {value:.2f} (n={n}), {candidate.value - value:+.2f} "
                f"({low:+.2f} to {high:+.2f}) with this one"
            )
        )
    lines += [Text(_linked(link)) for link in run.links_of(finding)[:_LINKS]]
    if candidate.alternatives:
        others = "; ".join(_described(alternative) for alternative in _ranked(candidate.alternatives)[:4])
        lines.append(Text(f"instead: {others}"))
    return lines


def _linked(link: SentenceLink) -> str:
    """A later sentence, and how often it is written with and without the reported one."""
    return (
        f"later: {_visible(_shortened(link.text))} is written by {link.written:.0%} with this sentence and "
        f"{link.written_without:.0%} without, {link.written - link.written_without:+.2f} "
        f"({link.low:+.2f} to {link.high:+.2f})"
    )


def _curve(finding: Finding) -> Text | None:
    """The believed value along the whole trace, a bar for some tokens each, the finding's own in its colour.

    None in a run of an earlier version, which kept no values.
    """
    result, position = finding.problem, finding.candidate.position
    details = result.traces[finding.candidate.trace].details
    if details is None:
        return None
    count = len(details.values)
    columns = min(count, _CURVE)
    edges = [count * column // columns for column in range(columns + 1)]
    text = Text("value  ")
    for start, end in pairwise(edges):
        here = start <= position < end
        value = details.values[position] if here else sum(details.values[start:end]) / (end - start)
        bar = _BARS[min(len(_BARS) - 1, int(value * len(_BARS)))]
        text.append(bar, style=f"bold {_style(finding)}" if here else "dim")
    # In words: the two are of the whole completion, and not of the finding.
    text.append(f"  prompt {result.prompt_value:.2f}, end {details.values[-1]:.2f}", style="dim")
    return text


def _ranked(alternatives: Sequence[Alternative]) -> list[Alternative]:
    return sorted(alternatives, key=lambda alternative: (-alternative.value, -alternative.n))


def _best(alternatives: Sequence[Alternative]) -> str:
    ranked = _ranked(alternatives)
    return f"{_visible(ranked[0].token)} {ranked[0].value:.2f} (n={ranked[0].n})" if ranked else ""


def _described(alternative: Alternative) -> str:
    token, n = _visible(alternative.token), alternative.n
    return f"{token} (q {alternative.prob:.2f}, value {alternative.value:.2f}, n={n})"


def _shortened(text: str) -> str:
    """A sentence's beginning: the whole of it stands in its context."""
    return text if len(text) <= _CELL else text[: _CELL - 1] + "…"


def _visible(token: str) -> str:
    return repr(token)


def _style(finding: Finding) -> str:
    return HELPS if finding.candidate.delta > 0 else HARMS


def _too_much() -> str:
    """What to do where the budget cut many completions."""
    return (
        f"Many completions were cut, and a cut one has failed: search again with a larger {setting('budget')}, "
        "which must leave room for the whole of a model's thinking and for the answer; or without thinking "
        f"({setting('thinking', False)}, or {setting('suffix', '/no_think')} where the model knows that)."
    )
