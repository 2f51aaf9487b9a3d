"""Curves over the steps of a training, as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO


@dataclass(frozen=True, slots=True)
class Panel:
    """One diagram: lines by name, each with a value for every step. `legend` is the legend's title."""

    title: str
    unit: str
    lines: Mapping[str, Sequence[float]]
    legend: str | None = None


def picture(steps: Sequence[int], panels: Sequence[Panel]) -> bytes:
    """The panels side by side, as a PNG. Raises ConfigError where matplotlib is missing."""
    from pts.training.requirements import require_packages

    require_packages("matplotlib")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4 * len(panels), 3.6), layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(panels)), panels, strict=True):
        for name, values in panel.lines.items():
            axes.plot(steps, values, label=name, linewidth=1.3)
        axes.set(title=panel.title, xlabel="step", ylabel=panel.unit)
        axes.grid(alpha=0.3)
        axes.legend(title=panel.legend, fontsize=8)
    drawn = BytesIO()
    figure.savefig(drawn, format="png", dpi=110)
    return drawn.getvalue()
