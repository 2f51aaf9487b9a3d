"""An evaluation beside that of another model, and the share of answers without thinking."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pts.errors import RunError
from pts.evaluation.items import Item
from pts.models.load import load_model
from pts.models.options import ModelOptions
from pts.report.evaluation_cells import comparison_rows, head_lines, ordered_systems
from pts.report.evaluation_data import evaluation_data, evaluation_report_page
from pts.runs.journal import Journal
from pts.stages.evaluate.inputs import EvaluateInputs
from pts.stages.evaluate.run import run_evaluation

RUN = EvaluateInputs(
    problems=3, levels=(1, 2), strategies=("full", "nothink"), baselines=False, seeds=2, device="cpu"
)


def items(run):
    return {item.key: item for item in Journal(run.directory() / "items.jsonl", Item).read()}


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory):
    run = replace(RUN, output=tmp_path_factory.mktemp("evals") / "unchanged")
    run_evaluation(run)
    return run


@pytest.fixture(scope="module")
def changed(tmp_path_factory):
    """The demo model with other weights, as a training might leave it."""
    folder = tmp_path_factory.mktemp("models") / "changed"
    loaded = load_model(ModelOptions(spec="demo"))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weights in loaded.model.parameters():
            weights += 0.1 * weights.std() * torch.randn(weights.shape, generator=generator)
    loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def beside(unchanged, changed, tmp_path_factory):
    output = tmp_path_factory.mktemp("evals") / "chosen"
    run = replace(
        RUN, model=changed, strategies=("nothink", "model"), budget=96, output=output, against=unchanged.output
    )
    return run, run_evaluation(run)


def test_the_other_run_is_paired_problem_by_problem(unchanged, beside):
    run, summary = beside
    own, other = items(run), items(unchanged)
    assert [(each.kind, each.line, each.against) for each in summary.comparisons] == [
        ("budget", "model", "frontier (unsteered)"),
        ("other", "nothink", "nothink of unchanged"),
        ("other budget", "model", "frontier of unchanged"),
    ]
    gaps = [item.success - other[key].success for key, item in own.items() if key[0] == "nothink"]
    (compared,) = [each for each in summary.comparisons if each.kind == "other"]
    assert compared.difference == pytest.approx(np.mean(gaps))
    assert {line.name for line in summary.other.lines} == {"full", "nothink"}
    for line in summary.other.lines:
        theirs = [item for item in other.values() if item.line == line.name]
        assert line.success == pytest.approx(np.mean([item.success for item in theirs]))


def test_the_report_has_both_and_the_choice_by_level(beside):
    run, summary = beside
    chosen = next(line for line in summary.lines if line.name == "model")
    assert chosen.no_thinking == 0.0
    assert set(chosen.no_thinking_by_level) == {"1", "2"}
    never = next(line for line in summary.lines if line.name == "nothink")
    assert set(never.no_thinking_by_level.values()) == {1.0}
    head = " ".join(head_lines(summary))
    assert "No thinking in 0.00 of the answers of model (level 1 0.00, level 2 0.00)." in head
    assert "Compared with demo, in" in head
    assert [line.name for line in ordered_systems(summary)][-2:] == [
        "nothink of unchanged",
        "full of unchanged",
    ]
    assert "better than the other model?" in {cells[0] for _, cells in comparison_rows(summary)}
    page = evaluation_report_page(evaluation_data(run.directory()))
    assert page.head == head_lines(summary)


def test_without_the_other_the_summary_is_as_before(beside):
    run, summary = beside
    alone = run_evaluation(replace(run, against=None))
    assert alone.other is None
    assert alone.lines == summary.lines


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"problems": 4}, "has no answer of full to problem demo-test-0-3 as it is here, number 1"),
        ({"seeds": 3}, "has no answer of full to problem demo-test-0-0 as it is here, number 3"),
        ({"temperature": 1.0}, "was evaluated with sampling"),
        ({"against": "nowhere"}, "there is no evaluation"),
    ],
)
def test_what_cannot_be_paired_is_refused_before_anything_is_written(unchanged, tmp_path, changes, said):
    wrong = replace(RUN, **{"against": unchanged.output, "output": tmp_path / "new", **changes})
    with pytest.raises(RunError, match=said):
        run_evaluation(wrong)
    assert not wrong.output.exists()
