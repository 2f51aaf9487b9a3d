"""The figure of an evaluation: success against all tokens, with intervals and frontiers."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from typing import Any, TypeAlias

from pts.evaluation.summary import EvaluationSummary, SystemSummary

COLOURS = {"none": "#2864a8", "vectors": "#c0392b", "random direction": "#8a8f98"}
_NAMES = {"none": "unsteered", "vectors": "steered"}
_SIZE = (8.6, 5.2)
_PNG_DPI = 150

Box: TypeAlias = tuple[float, float, float, float]
"""Left, bottom, right, top, in pixels."""


def draw(summary: EvaluationSummary, form: str) -> bytes | None:
    """The figure as "png" or "svg"; None where matplotlib is not installed."""
    try:
        import matplotlib
    except ImportError:
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # Text stays text in the SVG; a fixed salt gives equal figures equal bytes.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "pts", "font.size": 9}):
        figure = Figure(figsize=_SIZE, dpi=100, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        _points(axes, summary)
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        _labels(figure, axes, summary)
        written = BytesIO()
        metadata = {"Date": None} if form == "svg" else None
        figure.savefig(written, format=form, dpi=_PNG_DPI, metadata=metadata)
    return written.getvalue()


def _points(axes: Any, summary: EvaluationSummary) -> None:
    """Points with their intervals, the frontiers, and the level of guessing."""
    most = max(system.tokens_high for system in summary.lines)
    for steering, corners in summary.frontiers.items():
        tokens, success = [corner[0] for corner in corners], [corner[1] for corner in corners]
        axes.plot(
            [*tokens, most],
            [*success, success[-1]],
            color=COLOURS[steering],
            lw=1.4,
            alpha=0.6,
            label=f"frontier of fixed budgets, {_NAMES[steering]}",
        )
    if summary.other is not None and summary.other.frontier:
        corners = summary.other.frontier
        axes.plot(
            [corner[0] for corner in corners],
            [corner[1] for corner in corners],
            color=COLOURS["random direction"],
            ls="--",
            lw=1.4,
            label=f"frontier of fixed budgets, {summary.other.model_id}",
        )
    labelled = set()
    for system in summary.lines:
        name = f"{_NAMES[system.steering]}{', fixed budget' if system.fixed else ''}"
        axes.errorbar(
            [system.tokens],
            [system.success],
            [[system.success - system.success_low], [system.success_high - system.success]],
            [[system.tokens - system.tokens_low], [system.tokens_high - system.tokens]],
            fmt="o" if system.fixed else "D",
            ms=5 if system.fixed else 7,
            mfc="white" if system.fixed else COLOURS[system.steering],
            color=COLOURS[system.steering],
            ecolor=(COLOURS[system.steering], 0.35),
            lw=1,
            label=None if name in labelled else name,
            zorder=3 if system.asked else 2,
        )
        labelled.add(name)
    if summary.direction is not None and summary.direction.controls:
        axes.plot(
            summary.direction.control_tokens,
            summary.direction.controls,
            "x",
            ms=4,
            color=COLOURS["random direction"],
            label="random directions, calibrated alike (full)",
        )
    if summary.chance is not None:
        axes.axhline(summary.chance, color="black", lw=0.8, ls=":", label="guessing")
    axes.set_xlabel("tokens of an answer, all that were generated (mean, 95% interval)")
    axes.set_ylabel("success (95% interval)")
    axes.set_xlim(left=0)
    low = min(system.success_low for system in summary.lines)
    high = max(system.success_high for system in summary.lines)
    axes.set_ylim(max(-0.02, low - 0.06), min(1.05, high + 0.06))
    axes.set_title(
        f"{summary.model_id} on {summary.dataset_id}: {summary.problems} problems × {summary.seeds} "
        f"{'seed' if summary.seeds == 1 else 'seeds'}",
        fontsize=10,
        loc="left",
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5))


def _labels(figure: Any, axes: Any, summary: EvaluationSummary) -> None:
    """Each point's name beside it, where it covers no other name, point or interval, if there is room."""
    renderer = figure.canvas.get_renderer()
    points = {
        system.name: axes.transData.transform((system.tokens, system.success)) for system in summary.lines
    }
    taken = [box for system in summary.lines for box in _marks(axes, system)]
    frame = axes.get_window_extent(renderer)
    for system in sorted(summary.lines, key=lambda system: (not system.asked, system.fixed, system.tokens)):
        x, y = points[system.name]
        text = axes.annotate(short_label(system), (x, y), xycoords="figure pixels", **_font(system))
        extent = text.get_window_extent(renderer)
        text.remove()
        costs = {
            place: sum(_shared(place, box) for box in taken) + _outside(place, frame) + far
            for place, far in _places(x, y, extent.width, extent.height)
        }
        best = min(costs, key=lambda place: costs[place])
        taken.append(best)
        _write(axes, system, (x, y), best)


def short_label(system: SystemSummary) -> str:
    """A point's name without its steering, which the colour says."""
    return system.name.partition(" + ")[0]


def _font(system: SystemSummary) -> dict[str, Any]:
    return {"fontsize": 8 if system.asked else 7, "color": COLOURS[system.steering], "zorder": 4}


def _marks(axes: Any, system: SystemSummary) -> list[Box]:
    """What is drawn of a system: its point and the two bars of its intervals."""
    x, y = axes.transData.transform((system.tokens, system.success))
    left, bottom = axes.transData.transform((system.tokens_low, system.success_low))
    right, top = axes.transData.transform((system.tokens_high, system.success_high))
    return [(x - 5, y - 5, x + 5, y + 5), (left, y, right, y + 1), (x, bottom, x + 1, top)]


def _write(axes: Any, system: SystemSummary, point: tuple[float, float], box: Box) -> None:
    """A name in its box, edged with white, and a thin line to its point where that is not next to it."""
    from matplotlib.patheffects import withStroke

    inverse = axes.transData.inverted()
    middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
    nearest = (min(max(point[0], box[0]), box[2]), min(max(point[1], box[1]), box[3]))
    far = abs(nearest[0] - point[0]) + abs(nearest[1] - point[1]) > 18
    arrow = {"arrowstyle": "-", "lw": 0.5, "color": COLOURS[system.steering], "alpha": 0.7}
    axes.annotate(
        short_label(system),
        inverse.transform(point),
        inverse.transform(middle),
        textcoords="data",
        ha="center",
        va="center",
        path_effects=[withStroke(linewidth=2.5, foreground="white")],
        arrowprops=arrow if far else None,
        **_font(system),
    )


def _places(x: float, y: float, width: float, height: float) -> Iterator[tuple[Box, float]]:
    """Boxes around a point, nearest first, each with what its distance costs."""
    for ring in range(10):
        gap = 7 + 11 * ring
        for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1)):
            left = x + dx * gap + {1: 0.0, 0: -width / 2, -1: -width}[dx]
            bottom = y + dy * gap + {1: 0.0, 0: -height / 2, -1: -height}[dy]
            yield (left, bottom, left + width, bottom + height), 12.0 * ring


def _shared(one: Box, other: Box) -> float:
    """The area that two boxes share, a little space around them counted."""
    width = min(one[2], other[2]) - max(one[0], other[0]) + 4
    height = min(one[3], other[3]) - max(one[1], other[1]) + 2
    return max(0.0, width) * max(0.0, height)


def _outside(box: Box, frame: Any) -> float:
    """A high cost for a name that leaves the axes."""
    inside = frame.x0 <= box[0] and box[2] <= frame.x1 and frame.y0 <= box[1] and box[3] <= frame.y1
    return 0.0 if inside else 1e6
