"""Draws a searched completion as text, each token coloured by its effect, over the curve of its value.

    python benchmarks/trace_figure.py RUN PROBLEM [--trace 0] [--rollouts 2000] [--output FILE]

The values are not the search's: from every prefix of the completion fresh completions are drawn with the model
of the run and graded. Bold tokens are those that the search reported. The last line is one line of JSON.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.colors import LinearSegmentedColormap

from pts.pivot_search.results import ProblemResult, SearchedTrace
from pts.policies.transformers import TransformersPolicy
from pts.records import RolloutRequest
from pts.runs.search_run import read_search
from pts.seeds import derive_seed
from pts.stages.search.reload import Loaded, load_again

COLOURS = LinearSegmentedColormap.from_list("effect", ["#d7301f", "#ffffff", "#1a9850"])
LINE, INK = "#2864a8", "#1c1e21"
INCHES_PER_LETTER, FONT_SIZE = 0.094, 10.5


@dataclass(frozen=True)
class Word:
    """A token as it is drawn: its text, its place in letters from the left, and the value after it."""

    text: str
    start: int
    value: float
    effect: float
    reported: bool


def measured_values(search: Loaded, problem: ProblemResult, trace: SearchedTrace, rollouts: int) -> list[float]:
    """Success from every prefix of a completion, the empty one first and the whole one last."""
    policy = TransformersPolicy(search.loaded, search.prompt_format)
    requests = [
        RolloutRequest(
            problem.prompt,
            trace.completion[:end],
            n=rollouts,
            seed=derive_seed(17, "figure", end),
            key=str(end),
            sampling=search.sampling,
        )
        for end in range(len(trace.completion))
    ]
    solved = [0] * len(requests)
    for rollout in policy.rollouts(requests):
        right = rollout.finish == "end" and search.grade(policy.decode(rollout.completion), problem.answer)
        solved[int(rollout.request.key)] += rollout.count * right
    return [count / rollouts for count in solved] + [float(trace.success)]


def laid_out(trace: SearchedTrace, values: list[float], reported: set[int], width: int) -> list[list[Word]]:
    """The words of a completion in rows of at most `width` letters."""
    rows: list[list[Word]] = [[]]
    column = 0
    for position, token in enumerate(trace.tokens):
        text = token.replace("\n", "⏎").strip() or "␣"
        # The demo's tokens are whole words; a byte-pair token carries its own space.
        gap = 1 if not token or token[0].isspace() or " " not in "".join(trace.tokens) else 0
        if column + gap + len(text) > width:
            rows.append([])
            column = 0
        start = column + (gap if column else 0)
        effect = values[position + 1] - values[position]
        rows[-1].append(Word(text, start, values[position + 1], effect, position in reported))
        column = start + len(text)
    return rows


def draw_row(axes: plt.Axes, words: list[Word], before: float, width: int, first: bool) -> None:
    """One row of text over the curve of its values, which begins at `before`."""
    for word in words:
        strength = max(-1.0, min(1.0, word.effect / 0.6)) if abs(word.effect) > 0.04 else 0.0
        axes.text(
            word.start + len(word.text) / 2,
            1.32,
            word.text.replace("$", r"\$"),
            ha="center",
            va="center",
            family="monospace",
            fontsize=FONT_SIZE,
            color=INK,
            weight="bold" if word.reported else "normal",
            bbox={"boxstyle": "round,pad=0.12", "fc": COLOURS((strength + 1) / 2), "ec": "none"},
        )
    places, heights = [0.0], [before]
    for word in words:
        middle = word.start + len(word.text) / 2
        places += [middle, middle]
        heights += [heights[-1], word.value]
        if word.reported:
            axes.plot([middle, middle], [heights[-2], 1.15], color="#999999", lw=0.6, ls=":")
    places.append(words[-1].start + len(words[-1].text))
    heights.append(heights[-1])
    axes.plot(places, heights, color=LINE, lw=1.8, solid_joinstyle="round")
    axes.fill_between(places, heights, color=LINE, alpha=0.12, lw=0)
    axes.set(xlim=(0, width), ylim=(0, 1.5), yticks=(0, 0.5, 1))
    axes.set_yticklabels(("0", "½", "1"), fontsize=8)
    axes.tick_params(length=2, color="#999999")
    axes.set_xticks([])
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)
    axes.spines["left"].set_bounds(0, 1)
    axes.spines["left"].set_color("#999999")
    axes.axhline(0, color="#cccccc", lw=0.8)
    if first:
        axes.set_ylabel("P(right answer)", fontsize=8, y=0.34)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("problem")
    parser.add_argument("--trace", type=int, default=0)
    parser.add_argument("--rollouts", type=int, default=2000)
    parser.add_argument("--width", type=int, default=88, help="letters in a row")
    parser.add_argument("--output", type=Path, default=Path("docs/figures/trace.png"))
    options = parser.parse_args()
    run = read_search(options.run)
    problem = run.latest[options.problem].result
    trace = problem.traces[options.trace]
    # A choice that two traces share was searched on the first of them.
    findings = {
        problem.traces[f.candidate.trace].completion[: f.candidate.position + 1]
        for f in run.findings_of(options.problem)
    }
    reported = {end - 1 for end in range(1, len(trace.completion)) if trace.completion[:end] in findings}
    values = measured_values(load_again(run, "cpu"), problem, trace, options.rollouts)
    rows = laid_out(trace, values, reported, options.width)
    figure, panels = plt.subplots(
        len(rows),
        1,
        figsize=(options.width * INCHES_PER_LETTER + 0.7, 1.25 * len(rows) + 0.35),
        squeeze=False,
        layout="constrained",
    )
    before = values[0]
    for number, (axes, words) in enumerate(zip(panels[:, 0], rows, strict=True)):
        draw_row(axes, words, before, options.width, number == 0)
        before = words[-1].value
    verdict = "The answer is right." if trace.success else f"The answer is wrong; {problem.answer} is right."
    figure.suptitle(f"{problem.query}   {verdict}", fontsize=10)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.output, dpi=150)
    print(json.dumps({"tokens": len(trace.tokens), "findings": len(reported), "prompt_value": values[0]}))


if __name__ == "__main__":
    main()
