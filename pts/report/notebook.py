"""A search in a notebook: the completions of its strongest findings, coloured, each above its value curve.

Markup alone, without a script and without a style sheet: it shows where a notebook is not trusted, and takes
the notebook's own colours of text and paper.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from html import escape

from pts.pivot_search.results import ProblemResult
from pts.report.rendering import as_html
from pts.report.search_data import EventData, TraceData, traces_of_findings
from pts.report.search_page import found_sentence
from pts.report.terminal import run_report
from pts.runs.search_run import SearchResults
from pts.runs.search_summary import search_summary

TRACES = 3
"""Completions that are drawn, at most."""
_CALM, _FOLD_FROM, _KEPT = 0.05, 120, 40
"""Believed effects below this are no event; of calm stretches from so many tokens only the ends are shown."""
_HELPS, _HARMS = (58, 145, 230), (240, 135, 40)
_WIDTH, _HEIGHT, _LEFT, _EDGE = 640, 90, 28, 6
_COLUMNS = 300
"""Places of a curve, at most."""


def run_html(run: SearchResults, top: int) -> str:
    """The run's finding in a sentence, a few completions, and the report of `pts show` behind a click."""
    shown = traces_of_findings(run, TRACES)
    parts = [f"<p>{escape(found_sentence(search_summary(run)))}</p>"]
    parts += [
        _trace(result, index, trace, opened=not place) for place, (result, index, trace) in enumerate(shown)
    ]
    table = _signs(as_html(run_report(run, top=top)))
    opened = "" if shown else " open"
    parts.append(f"<details{opened}><summary>Findings as a table</summary>{table}</details>")
    return f"<div>{''.join(parts)}</div>"


def _trace(result: ProblemResult, index: int, trace: TraceData, *, opened: bool) -> str:
    reported = sum(event.reported for event in trace.events)
    grade = "right ✓" if trace.success else "cut ✗" if trace.cut else "wrong ✗"
    head = f"{result.problem_id}, completion {index + 1}: {grade}, {reported} reported"
    text = "".join(_pieces(trace))
    body = (
        f"<p><i>{_shown(result.query)}</i></p>"
        f'<div style="white-space:pre-wrap;overflow-wrap:anywhere;line-height:1.8">{text}</div>{_curve(trace)}'
    )
    return f"<details{' open' if opened else ''}><summary>{_shown(head)}</summary>{body}</details>"


def _pieces(trace: TraceData) -> Iterator[str]:
    """The completion as markup, token by token, calm stretches folded."""
    tokens, marks = _tokens(trace), _marked(trace)
    effects = [_effect(trace, marks, i) for i in range(len(tokens))]
    places = [i for i in range(len(tokens)) if i in marks or abs(effects[i]) >= _CALM]
    before = -1
    for place in [*places, len(tokens)]:
        calm = range(before + 1, place)
        if len(calm) > _FOLD_FROM:
            yield _shown("".join(tokens[calm.start : calm.start + _KEPT]))
            yield f" <small>⋯ {len(calm) - 2 * _KEPT:,} calm tokens ⋯</small> "
            yield _shown("".join(tokens[calm.stop - _KEPT : calm.stop]))
        else:
            yield _shown("".join(tokens[calm.start : calm.stop]))
        if place < len(tokens):
            yield _token(trace, tokens[place], place, effects[place], marks.get(place))
        before = place


def _token(trace: TraceData, text: str, place: int, effect: float, event: EventData | None) -> str:
    """A token with its colour; what is known of it stands in its title."""
    red, green, blue = _HELPS if effect > 0 else _HARMS
    strength = min(1.0, abs(effect) / 0.6)
    style = f"background:rgba({red},{green},{blue},{0.15 + 0.45 * strength:.2f});border-radius:3px"
    title = f"token {place}, probability {trace.probs[place] / 1000:.2f}, believed effect {effect:+.2f}"
    if event is not None:
        kind = "reported" if event.reported else "drawn by the audit" if event.audited else "not reported"
        line = "double" if effect < 0 else "solid"
        title = f"{kind}: {effect:+.2f} ({event.low:+.2f} to {event.high:+.2f}), value "
        title += f"{event.before.value:.2f} → {event.after.value:.2f}, probability {event.prob:.2f}"
        if event.reported:
            style += f";font-weight:600;border-bottom:3px {line} rgb({red},{green},{blue})"
        else:
            style += ";outline:1px solid rgba(128,128,128,.8)"
    word = text.lstrip()
    lead = text[: len(text) - len(word)] if word else ""
    return f'{_shown(lead)}<span style="{style}" title="{escape(title)}">{_shown(word or text)}</span>'


def _curve(trace: TraceData) -> str:
    """The value along the completion with its band, as the search believed it; points are measured."""
    count = len(trace.lengths)

    def x(place: float) -> str:
        return f"{_LEFT + (_WIDTH - _LEFT - _EDGE) * place / max(1, count):.1f}"

    def y(value: float) -> str:
        return f"{_EDGE + (_HEIGHT - 2 * _EDGE) * (1 - value):.1f}"

    parts = [
        f'<line x1="{_LEFT}" x2="{_WIDTH}" y1="{y(at)}" y2="{y(at)}" stroke="currentColor" opacity=".2"/>'
        f'<text x="{_LEFT - 4}" y="{y(at)}" dy="4" text-anchor="end" font-size="11" '
        f'fill="currentColor">{at}</text>'
        for at in (0, 1)
    ]
    if trace.values and trace.lows and trace.highs:
        step = max(1, -(-count // _COLUMNS))
        places = range(0, count, step)
        above = [f"{x(i + 1)},{y(trace.highs[i] / 1000)}" for i in places]
        below = [f"{x(i + 1)},{y(trace.lows[i] / 1000)}" for i in reversed(places)]
        line = " ".join(f"{x(i + 1)},{y(trace.values[i] / 1000)}" for i in places)
        parts.append(f'<polygon points="{" ".join(above + below)}" fill="currentColor" opacity=".15"/>')
        parts.append(f'<polyline points="{line}" fill="none" stroke="currentColor" stroke-width="1.5"/>')
    for event in trace.events:
        colour = f"rgb{_HELPS if event.delta > 0 else _HARMS}"
        fill = colour if event.reported else "none"
        at = x((event.end or event.position + 1) - 0.5)
        parts.append(
            f'<line x1="{at}" x2="{at}" y1="{y(event.before.value)}" y2="{y(event.after.value)}" '
            f'stroke="{colour}" stroke-width="2"/><circle cx="{at}" cy="{y(event.after.value)}" r="3.5" '
            f'fill="{fill}" stroke="{colour}"/>'
        )
    label = f"Value along {count:,} tokens"
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" style="max-width:100%;height:auto" role="img" '
        f'aria-label="{label}">{"".join(parts)}</svg>'
    )


def _marked(trace: TraceData) -> dict[int, EventData]:
    """The event of each token that one is at; a sentence's has all of its tokens."""
    marks: dict[int, EventData] = {}
    for event in sorted(trace.events, key=lambda event: (event.end is None, event.reported)):
        for place in range(event.position, event.end or event.position + 1):
            marks[place] = event
    return marks


def _effect(trace: TraceData, marks: dict[int, EventData], i: int) -> float:
    """The measured effect of a token, else what the search believed of it."""
    if i in marks:
        return marks[i].delta
    if not trace.values or not i:
        return 0.0
    return (trace.values[i] - trace.values[i - 1]) / 1000


def _tokens(trace: TraceData) -> list[str]:
    """The text cut into its tokens; lengths are in UTF-16 units."""
    raw, tokens, start = trace.text.encode("utf-16-le", "surrogatepass"), [], 0
    for length in trace.lengths:
        tokens.append(raw[2 * start : 2 * (start + length)].decode("utf-16-le", "replace"))
        start += length
    return tokens


def _shown(text: str) -> str:
    """Text as markup."""
    return escape(_signs(text))


def _signs(text: str) -> str:
    """Control characters and marks that turn the writing as visible signs."""
    return "".join(
        f"⟨{ord(character):x}⟩"
        if unicodedata.category(character) in ("Cc", "Cf", "Cs") and character not in "\n\t\u200d"
        else character
        for character in text
    )
