"""A vector set in a notebook: each pattern's effect with its interval, above those of random directions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _LEFT, _RIGHT, _ROW = 640, 190, 20, 34


@dataclass(frozen=True, slots=True)
class Strip:
    """A pattern's change of success with its interval, and those of random directions."""

    pattern: str
    difference: float
    low: float
    high: float
    random: tuple[float, ...]


def effects_svg(effects: Sequence[Strip]) -> str:
    """A strip a pattern: its change of success as a point with interval, random directions as ticks below.

    Markup without a script, in the colours of the page around it. Empty where nothing was measured.
    """
    if not effects:
        return ""
    values = [value for each in effects for value in (each.low, each.high, *each.random, 0.0)]
    low, high = min(values) - 0.02, max(values) + 0.02

    def x(value: float) -> str:
        return f"{_LEFT + (_WIDTH - _LEFT - _RIGHT) * (value - low) / (high - low):.1f}"

    height = _ROW * len(effects) + 24
    parts = [
        f'<line x1="{x(0)}" x2="{x(0)}" y1="4" y2="{height - 20}" stroke="currentColor" opacity=".4"/>',
        f'<text x="{x(0)}" y="{height - 6}" text-anchor="middle" font-size="11" fill="currentColor">0</text>',
        f'<text x="{_WIDTH}" y="{height - 6}" text-anchor="end" font-size="11" fill="currentColor">'
        "change in the share of right answers →</text>",
    ]
    for place, effect in enumerate(effects):
        y = 16 + _ROW * place
        parts.append(
            f'<text x="{_LEFT - 12}" y="{y + 4}" text-anchor="end" font-size="12" fill="currentColor">'
            f"{escape(effect.pattern)}</text>"
        )
        parts += [
            f'<line x1="{x(value)}" x2="{x(value)}" y1="{y + 5}" y2="{y + 13}" stroke="currentColor" '
            'opacity=".5" stroke-width="2"/>'
            for value in effect.random
        ]
        title = f"{effect.difference:+.3f} ({effect.low:+.3f} to {effect.high:+.3f})"
        parts.append(
            f"<g><title>{title}</title>"
            f'<line x1="{x(effect.low)}" x2="{x(effect.high)}" y1="{y}" y2="{y}" stroke="currentColor" '
            f'stroke-width="2"/><circle cx="{x(effect.difference)}" cy="{y}" r="4.5" fill="currentColor"/></g>'
        )
    label = "; ".join(f"{each.pattern} {each.difference:+.3f}" for each in effects)
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" style="max-width:100%;height:auto" role="img" '
        f'aria-label="Effects: {escape(label)}">{"".join(parts)}</svg>'
        "<p><small>Points: effect on success with its interval. Ticks: random directions that were calibrated "
        "alike. pts vectors show says which effects may be claimed.</small></p>"
    )
