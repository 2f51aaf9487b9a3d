"""The table of findings in consoles of different width."""

import io

import pytest
from rich.console import Console

from pts.pivot_search import SearchConfig, find_pivotal_tokens
from pts.policies.tabular import Node, TabularPolicy
from pts.records import Problem
from pts.report.rendering import as_text
from pts.report.terminal import _Findings, run_report
from pts.runs.search_run import read_search

RIGHT = Node({3: (1.0, Node(success=True))})
WRONG = Node({4: (1.0, Node())})


@pytest.fixture(scope="module")
def findings():
    policy = TabularPolicy(Node({1: (0.5, RIGHT), 2: (0.5, WRONG)}))
    return find_pivotal_tokens(Problem("problem-7", "q", "a"), policy, policy.grade, SearchConfig()).findings


@pytest.mark.parametrize(
    ("width", "there", "left_out"),
    [
        (140, {"interval", "value", "at", "q-value", "best alternative"}, set()),
        (85, {"interval", "value", "at"}, {"best alternative"}),
        (60, {"interval", "token", "problem"}, {"best alternative", "q-value", "value"}),
    ],
)
def test_a_narrow_console_gets_fewer_columns_and_whole_ones(findings, width, there, left_out):
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(_Findings(findings))
    lines = console.export_text().splitlines()
    headings = {cell.strip() for cell in lines[1].split("┃")}
    assert there <= headings
    assert not left_out & headings
    assert "…" not in "".join(lines)
    assert len(lines) == 4 + len(findings)


def test_the_value_curve_stands_below_each_finding_and_rises_where_the_token_helps(searched):
    run = read_search(searched)
    lines = as_text(run_report(run, top=3)).splitlines()
    curves = [line.removeprefix("value  ").split("  ")[0] for line in lines if line.startswith("value  ")]
    assert len(curves) == len(run.findings[:3])
    for curve, finding in zip(curves, run.findings, strict=False):
        trace = finding.problem.traces[finding.candidate.trace]
        assert len(curve) == min(50, len(trace.completion))
        ends = f"{finding.problem.prompt_value:.2f}, end {float(trace.success):.2f}"
        assert f"{curve}  prompt {ends}" in "\n".join(lines)
        at = finding.candidate.position * len(curve) // len(trace.completion)
        assert at == 0 or (curve[at] > curve[at - 1]) == (finding.candidate.delta > 0)
