"""The page and the figure of an evaluation: complete, self-contained, readable."""

import html
import html.parser
import io
import re
import sys
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from pts.evaluation.direction import DirectionTest
from pts.evaluation.paired_systems import PairedSystems
from pts.evaluation.summary import (
    EvaluationSummary,
    SystemSummary,
    compare_systems,
    frontiers_of,
)
from pts.evaluation.systems import plan_systems
from pts.report.evaluation_cells import comparison_rows, note
from pts.report.evaluation_figure import _labels, _points, draw
from pts.report.evaluation_page import NO_FIGURE, page, write_page
from pts.report.evaluation_tables import EVALUATION_COLUMNS, evaluation_report


def summary_of(strategies, **more):
    rng = np.random.default_rng(0)
    lines = plan_systems(strategies, True, True, 96)
    rates = np.linspace(0.2, 0.8, len(lines))
    success = (rng.random((len(lines), 60, 2)) < rates[:, None, None]).astype(float)
    tokens = rng.uniform(10, 20, success.shape) * (1 + rates[:, None, None])
    paired = PairedSystems(success, tokens, resamples=500)
    rows = []
    for at, line in enumerate(lines):
        rows.append(
            SystemSummary(
                line.name,
                line.strategy,
                line.steering,
                line.asked,
                line.is_fixed,
                *paired.mean_success(at)[:3],
                *paired.mean_tokens(at)[:3],
                thinking=9.0,
                cut=0.01,
                unreadable=0.02,
                kept=1.0,
            )
        )
    fields = {
        "model_id": "a/model <1>",
        "dataset_id": "gpqa-diamond",
        "grader": "choice",
        "vectors": "me/set",
        "problems": 60,
        "seeds": 2,
        "budget": 96,
        "level": 0.95,
        "chance": 0.25,
        "items": 1,
        "tokens_generated": 1,
        "lines": tuple(rows),
        "comparisons": tuple(compare_systems(lines, paired)),
        "frontiers": frontiers_of(lines, paired),
        "left_out": {},
        "direction": DirectionTest("full + vectors", 0.7, (0.5,) * 19, (30.0,) * 19, 1, 0.05),
    }
    return EvaluationSummary(**{**fields, **more})


@pytest.fixture(scope="module")
def summary():
    return summary_of(["auto", "full", "min:20"])


class Tags(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.resources = [], []

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta",):
            self.open.append(tag)
        self.resources += [value for name, value in attributes if name in ("src", "href", "xlink:href")]

    def handle_startendtag(self, tag, attributes):
        self.resources += [value for name, value in attributes if name in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_nothing_else(summary):
    text = page(summary)
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    assert all(resource.startswith("#") for resource in tags.resources)
    assert "<script" not in text
    assert not re.search(r"url\((?!#)", text)
    assert "a/model &lt;1&gt;" in text
    assert "Guessing succeeds in 0.250" in text
    assert text.count("<svg") == 1
    for line in summary.lines:
        assert f">{line.name}<" in text


def test_the_figure_names_every_point_without_overlap(summary):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    figure = Figure(figsize=(8.6, 5.2), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _points(axes, summary)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    _labels(figure, axes, summary)
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()
    assert len(axes.texts) == len(summary.lines)
    # A name with a line to its point has a larger box: the text alone counts.
    boxes = [Text.get_window_extent(text, renderer) for text in axes.texts]
    clashes = [
        (at, other)
        for at, one in enumerate(boxes)
        for other in range(at)
        if min(one.x1, boxes[other].x1) - max(one.x0, boxes[other].x0) > 1
        and min(one.y1, boxes[other].y1) - max(one.y0, boxes[other].y0) > 1
    ]
    assert clashes == []


def test_the_same_summary_gives_the_same_files(summary, tmp_path):
    write_page(summary, tmp_path)
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert first["frontier.png"].startswith(b"\x89PNG")
    write_page(summary, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == first


def test_without_matplotlib_it_says_so(summary, tmp_path, monkeypatch, caplog):
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert draw(summary, "png") is None
    write_page(summary, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"report.html"}
    assert caplog.messages == [NO_FIGURE]
    assert "matplotlib is not installed" in (tmp_path / "report.html").read_text()


def printed(summary):
    out = io.StringIO()
    Console(file=out, width=EVALUATION_COLUMNS).print(evaluation_report(summary))
    return out.getvalue()


def test_the_terminal_shows_every_line_and_comparison_whole(summary):
    text = printed(summary)
    for line in summary.lines:
        assert line.name in text
    assert all(len(row) <= EVALUATION_COLUMNS for row in text.splitlines())
    assert "…" not in text
    assert "frontier (steered)" in text
    assert "Holm, over all" in text


def test_what_was_left_out_is_said_once():
    reason = "strategy nothink needs a model that thinks, and this one has no think tags."
    told = printed(summary_of(["full"], left_out={"nothink": reason, "budget:9": reason}))
    assert "Left out: nothink, budget:9: needs a model that thinks" in told


def test_no_claim_below_the_cheapest_budget():
    base = summary_of(["auto"])
    nothing = replace(base.comparisons[0], kind="budget", difference=float("nan"), p_value=float("nan"))
    assert "no budget so cheap" in printed(replace(base, comparisons=(nothing,)))


def test_the_correction_names_the_tests_that_were_made():
    """A line that costs less than the cheapest budget has no p-value, and Holm's is over the others."""
    summary = summary_of(("full", "auto"))
    count = len(summary.comparisons)
    assert f"Holm, over all {count}." in note(summary)
    nothing = dict.fromkeys(("difference", "low", "high", "p_value", "corrected"), float("nan"))
    untested = (replace(summary.comparisons[0], **nothing), *summary.comparisons[1:])
    assert f"Holm, over all {count - 1}." in note(replace(summary, comparisons=untested))


@pytest.mark.parametrize(
    ("test", "row", "said"),
    [
        (
            DirectionTest("full + vectors", 0.7, (0.5,) * 19, (30.0,) * 19, 1, 0.05),
            r"full \+ vectors +19 random directions, calibrated +rank 1 of 20 +– +0.050 +–",
            "p: rank / 20, one test by itself, not among the corrected.",
        ),
        (
            DirectionTest("full + vectors", 0.7, (0.5,) * 39, (30.0,) * 39, 1, 0.05, 2, 39),
            r"rank 1 of 40 +– +0.050",
            "p: rank / 40, times 2 for the methods that the vector is the best of",
        ),
        (
            DirectionTest("full + vectors", 0.7, (0.5, 0.8), (30.0, 31.0), 2, 2 / 3),
            r"2 random directions, calibrated +rank 2 of 3 +– +0.667",
            "With so few it proves nothing: at least 19 are needed.",
        ),
        (
            DirectionTest("full + vectors", reason="the set has none"),
            r"random directions +no answer +– +– +–",
            "Is it their direction? No answer: the set has none.",
        ),
    ],
)
def test_the_rank_of_the_direction_stands_behind_the_first_comparison(test, row, said):
    text = printed(summary_of(["full"], direction=test))
    rows = [line for line in text.splitlines() if "?" in line and "  " in line]
    assert "do the vectors help?" in rows[0]
    assert "is it their direction?" in rows[1]
    assert re.search(row, rows[1])
    assert said in " ".join(text.split())
    assert said.split(",")[0] in html_text(page(summary_of(["full"], direction=test)))


def html_text(text):
    return html.unescape(text)


def test_a_rank_that_passes_is_marked_and_one_of_too_few_is_not():
    passed = DirectionTest("full + vectors", 0.7, (0.5,) * 19, (30.0,) * 19, 1, 0.05)
    assert comparison_rows(summary_of(["full"], direction=passed))[1][0] == 1
    few = DirectionTest("full + vectors", 0.7, (0.5,) * 18, (30.0,) * 18, 1, 1 / 19)
    assert comparison_rows(summary_of(["full"], direction=few))[1][0] == 0


def test_a_p_value_that_no_resample_could_lower_is_a_bound():
    """Every problem better: 500 flips give 1/501 at the least, which Holm multiplies."""
    lines = plan_systems(["full", "nothink"], True, False, 96)
    success = np.zeros((len(lines), 60, 2))
    success[1:] = 1.0
    paired = PairedSystems(success, success + 1, resamples=500)
    base = summary_of(["full"])
    summary = replace(base, comparisons=tuple(compare_systems(lines, paired)), direction=None)
    cells = {cells[1:3]: cells for _, cells in comparison_rows(summary)}
    count = len(cells)
    assert cells["full + vectors", "full"][5:] == ("≤ 0.002", f"≤ {np.ceil(count / 501 * 1e4) / 1e4:.2g}")
    # Where nothing differs, the p-value is 1, and no bound.
    assert cells["nothink + vectors", "nothink"][5:] == ("1.000", "1.000")
    # McNemar's exact test has no floor.
    exact = PairedSystems(success[..., :1], success[..., :1] + 1, resamples=500)
    assert not any(comparison.p_bounded for comparison in compare_systems(lines, exact))
