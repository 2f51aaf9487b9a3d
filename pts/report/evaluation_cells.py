"""What the tables of an evaluation say, cell by cell: the same in a terminal and on a page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pts.evaluation.direction import DirectionTest
from pts.evaluation.summary import Comparison, EvaluationSummary, SystemSummary

SYSTEM_HEADINGS = (
    "strategy",
    "success",
    "interval",
    "tokens",
    "interval",
    "of full",
    "cut",
    "no answer",
    "kept",
)
COMPARISON_HEADINGS = ("question", "system", "against", "difference", "interval", "p", "corrected p")
QUESTIONS = {
    "steering": "do the vectors help?",
    "routing": "does the router help?",
    "budget": "above fixed budgets?",
    "full": "better than full?",
    "other": "better than the other model?",
    "other budget": "above the other's budgets?",
}
DIRECTION = "is it their direction?"
_NONE = "–"


def ordered_systems(summary: EvaluationSummary) -> list[SystemSummary]:
    """What was asked for first, then the baselines; each group by its steering, the cheapest first.

    The systems of the other run come last, named after it.
    """
    steerings = ("none", "vectors", "random direction")
    own = sorted(
        summary.lines, key=lambda system: (not system.asked, steerings.index(system.steering), system.tokens)
    )
    if summary.other is None:
        return own
    label = Path(summary.other.path).resolve().name
    return own + [
        replace(system, name=f"{system.name} of {label}", asked=False)
        for system in sorted(summary.other.lines, key=lambda system: system.tokens)
    ]


def system_cells(system: SystemSummary) -> tuple[str, ...]:
    """One system's cells, under `SYSTEM_HEADINGS`."""
    return (
        system.name,
        f"{system.success:.3f}",
        f"{system.success_low:.3f} to {system.success_high:.3f}",
        f"{system.tokens:,.1f}",
        f"{system.tokens_low:,.1f} to {system.tokens_high:,.1f}",
        _NONE if system.tokens_ratio is None else f"{system.tokens_ratio:.0%}",
        f"{system.cut:.1%}",
        f"{system.unreadable:.1%}",
        f"{system.kept:.0%}",
    )


def comparison_cells(comparison: Comparison) -> tuple[str, ...]:
    """One comparison's cells, under `COMPARISON_HEADINGS`."""
    names = (QUESTIONS[comparison.kind], comparison.line, comparison.against)
    if math.isnan(comparison.difference):
        return (*names, _NONE, "no budget so cheap", _NONE, _NONE)
    return (
        *names,
        f"{comparison.difference:+.3f}",
        f"{comparison.low:+.3f} to {comparison.high:+.3f}",
        _p_value(comparison.p_value, comparison.p_bounded),
        _p_value(comparison.corrected, comparison.corrected_bounded),
    )


def comparison_rows(summary: EvaluationSummary) -> list[tuple[int, tuple[str, ...]]]:
    """The rows of the comparisons, each with its verdict: 1 better, −1 worse, 0 neither.

    The rank of the vectors' direction stands behind the comparison that says whether they help.
    """
    rows = [(verdict(comparison), comparison_cells(comparison)) for comparison in summary.comparisons]
    test = summary.direction
    if test is not None:
        asked = [(one.kind, one.line) for one in summary.comparisons]
        helped = ("steering", test.line)
        place = asked.index(helped) + 1 if helped in asked else 0
        rows.insert(place, (int(test.passed), _direction_cells(test)))
    return rows


def _direction_cells(test: DirectionTest) -> tuple[str, ...]:
    if test.rank is None:
        return DIRECTION, test.line, "random directions", "no answer", _NONE, _NONE, _NONE
    count = len(test.controls)
    against = f"{_counted(count, 'random direction')}, calibrated"
    rank = f"rank {test.rank} of {count + 1}"
    return DIRECTION, test.line, against, rank, _NONE, _p_value(test.p_value), _NONE


def verdict(comparison: Comparison) -> int:
    """1 where the system is better after correction and its interval is above zero, −1 worse, 0 neither."""
    if math.isnan(comparison.difference) or comparison.corrected > 0.05:
        return 0
    return 1 if comparison.low > 0 else -1 if comparison.high < 0 else 0


def head_lines(summary: EvaluationSummary) -> list[str]:
    """What was measured, in a few sentences."""
    chance = "" if summary.chance is None else f" Guessing succeeds in {summary.chance:.3f}."
    vectors = "" if summary.vectors is None else f", steered by {summary.vectors}"
    lines = [
        f"{summary.model_id} on {summary.dataset_id}{vectors}: {_counted(summary.problems, 'problem')} × "
        f"{_counted(summary.seeds, 'seed')}, graded by {summary.grader}, "
        f"at most {summary.budget:,} tokens.{chance}"
    ]
    lines += [
        f"The threshold of {fit.strategy}, {fit.threshold:g}, was fitted on {fit.problems} other problems."
        for fit in summary.thresholds
    ]
    if summary.undecided:
        counted = _counted(summary.undecided, "answer")
        lines.append(f"{counted} could not be compared with the reference, and count as wrong.")
    if summary.other is not None:
        lines.append(f"Compared with {summary.other.model_id}, in {summary.other.path}, on the same problems.")
    lines += [f"Left out: {why}" for why in _reasons(summary)]
    return lines + mode_lines(summary) + readable_lines(summary)


def mode_lines(summary: EvaluationSummary) -> list[str]:
    """How often each system that was asked for, and chooses, answers without thinking, by level."""
    lines = []
    for system in ordered_systems(summary):
        share = system.no_thinking
        chooses = system.strategy in ("auto", "model") or (share is not None and 0 < share < 1)
        if share is None or not system.asked or not chooses:
            continue
        levels = system.no_thinking_by_level or {}
        by_level = ", ".join(f"level {level} {part:.2f}" for level, part in levels.items())
        lines.append(
            f"No thinking in {share:.2f} of the answers of {system.name}"
            f"{f' ({by_level})' if len(levels) > 1 else ''}."
        )
    return lines


def readable_lines(summary: EvaluationSummary) -> list[str]:
    """What the vectors do among the answers that can be read alone."""
    return [
        f"Of the answers that ended with something to grade ({found.readable:.0%}, unsteered "
        f"{found.readable_unsteered:.0%}), {found.line} solves {found.success:.3f}, unsteered "
        f"{found.unsteered:.3f}: {found.difference:+.3f} ({found.low:+.3f} to {found.high:+.3f})."
        for found in summary.readable
    ]


def note(summary: EvaluationSummary) -> str:
    """What the columns mean."""
    text = (
        f"Intervals: {summary.level:.0%}, bootstrap over problems. Tokens: all that were generated for an "
        "answer, dropped branches and trials included."
    )
    direction = "" if summary.direction is None else f" {direction_note(summary.direction)}"
    if not summary.comparisons:
        return text + direction
    test = "McNemar's exact test" if summary.seeds == 1 else "a sign-flip test over problems"
    tests = sum(not math.isnan(comparison.p_value) for comparison in summary.comparisons)
    holm = f"; corrected: Holm, over all {tests}" if tests > 1 else ""
    return f"{text} p: {test} (above fixed budgets: the bootstrap){holm}.{direction}"


def direction_note(test: DirectionTest) -> str:
    """What the rank of the vectors' direction means, or why there is none."""
    if test.rank is None:
        return f"{DIRECTION.capitalize()} No answer: {test.reason}."
    text = (
        f"{DIRECTION.capitalize()} The rank of {test.line} among the same with each of "
        f"{_counted(len(test.controls), 'random direction')} that were calibrated alike, on the first seed's "
        "answers (ties count against it)"
    )
    if not test.possible:
        best = "" if test.methods == 1 else f" for the best of {test.methods} methods"
        return f"{text}. With so few it proves nothing{best}: at least {test.needed} are needed."
    times = (
        "" if test.methods == 1 else f", times {test.methods} for the methods that the vector is the best of"
    )
    return f"{text}; p: rank / {len(test.controls) + 1}{times}, one test by itself, not among the corrected."


def _reasons(summary: EvaluationSummary) -> list[str]:
    by_reason: dict[str, list[str]] = {}
    for name, why in summary.left_out.items():
        shared = why.partition(" needs ")[2] or why
        by_reason.setdefault(shared, []).append(name)
    return [f"{_listed(names)}: needs {why}" if why else _listed(names) for why, names in by_reason.items()]


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)


def _p_value(p: float, bounded: bool = False) -> str:
    """A p-value; one that is the floor of its resamples is a bound, rounded up."""
    if math.isnan(p):
        return _NONE
    if bounded:
        unit = 10.0 ** (math.floor(math.log10(p)) - 1)
        return f"≤ {math.ceil(p / unit - 1e-6) * unit:.2g}"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
