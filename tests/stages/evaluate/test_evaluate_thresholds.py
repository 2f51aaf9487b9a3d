"""Thresholds of an evaluation: fitted on problems that it does not ask, once, and told of."""

import json
from dataclasses import replace

import pytest

from pts.errors import ConfigError, DataError
from pts.evaluation.items import Item
from pts.problems import load_problems
from pts.runs.journal import Journal
from pts.stages.evaluate.inputs import EvaluateInputs
from pts.stages.evaluate.run import resume_note, run_evaluation
from pts.stages.evaluate.thresholds import threshold_problems

TRIED = 7
"""Thresholds of early-exit that are tried."""


def demo_run(path, **more):
    return EvaluateInputs(
        problems=3, levels=(1, 2), strategies=("early-exit",), seeds=1, baselines=False, device="cpu",
        fit_problems=5, output=path / "run", **more,
    )  # fmt: skip


def watched(run):
    """The summary of a run, and how many answers each line took."""
    heard: dict[str | None, int] = {}
    summary = run_evaluation(run, lambda told: heard.update({told.line: heard.get(told.line, 0) + 1}))
    return summary, {name: count for name, count in heard.items() if name is not None}


def test_a_threshold_is_fitted_once_and_holds_in_every_later_session(tmp_path):
    run = demo_run(tmp_path)
    first, took = watched(run)
    (fit,) = first.thresholds
    assert took.pop("early-exit") == 3
    assert took == {f"early-exit at {point.threshold:g} (fit)": 5 for point in first.thresholds[0].points}
    assert (fit.strategy, fit.problems, len(fit.points)) == ("early-exit", 5, TRIED)
    assert fit.threshold in [point.threshold for point in fit.points]
    tokens = {point.threshold: point.tokens for point in fit.points}
    assert tokens[1.0] > tokens[0.8], "a threshold that is never reached costs its trials"
    more, took = watched(replace(run, problems=5))
    assert took == {"early-exit": 2}
    assert more.thresholds == first.thresholds
    assert json.loads((run.output / "summary.json").read_text())["thresholds"][0]["problems"] == 5
    given = replace(run, fit_problems=None, exit_threshold=fit.threshold, output=tmp_path / "given")
    assert run_evaluation(given).thresholds == ()
    same = [{item.key: item.answer for item in Journal(at / "items.jsonl", Item).read()} for at in
            (run.output, given.output)]  # fmt: skip
    assert same[1].items() <= same[0].items()


def test_a_fit_that_was_stopped_goes_on(tmp_path):
    run = demo_run(tmp_path)
    heard = []

    def stop_later(told):
        heard.append(told.line)
        if heard.count("early-exit at 0.9 (fit)") == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_evaluation(run, stop_later)
    kept = len(Journal(run.output / "items.jsonl", Item).read())
    assert kept >= 7
    assert f"{kept} answers are kept" in resume_note(run)
    summary, took = watched(run)
    assert sum(took.values()) == 5 * TRIED + 3 - kept
    assert summary.thresholds == run_evaluation(replace(run, output=tmp_path / "whole")).thresholds


def test_the_demo_is_fitted_on_another_split(tmp_path):
    run = demo_run(tmp_path)
    asked = load_problems(replace(run.source(), split="test"))
    assert {problem.id.split("-")[1] for problem in threshold_problems(run, asked)} == {"calibrate"}
    same = threshold_problems(replace(run, fit_split="test"), asked)
    assert {problem.id.split("-")[1] for problem in same} == {"test"}
    assert not {problem.id for problem in same} & {problem.id for problem in asked.problems}
    run = replace(run, split="calibrate")
    assert {problem.id.split("-")[1] for problem in threshold_problems(run, asked)} == {"train"}


@pytest.fixture
def data(tmp_path):
    rows = [{"id": f"p{n}", "question": f"What is {n % 9} + 1 ?", "answer": str(n % 9 + 1)} for n in range(12)]
    path = tmp_path / "d.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_a_file_is_fitted_on_its_last_problems_that_ask_nothing_evaluated(tmp_path, data):
    run = replace(demo_run(tmp_path), levels=None, dataset=data, grader="numeric", budget=96)
    asked = load_problems(run.source())
    # p9 to p11 ask what p0 to p2 ask, which are evaluated.
    assert [problem.id for problem in threshold_problems(run, asked)] == ["p8", "p7", "p6", "p5", "p4"]
    with pytest.raises(
        DataError, match=r"d\.jsonl has 6 problems besides those evaluated, and fit_problems= asks for 7"
    ):
        threshold_problems(replace(run, fit_problems=7), asked)
    first = run_evaluation(run)
    assert run_evaluation(replace(run, problems=4)).thresholds == first.thresholds
    with pytest.raises(DataError, match="4 problems besides those evaluated, and fit_problems= asks for 5"):
        run_evaluation(replace(run, problems=5))
    (tmp_path / "d.jsonl").write_text((tmp_path / "d.jsonl").read_text().replace("is 8 + 1", "is 8 +  1"))
    with pytest.raises(ConfigError, match="was fitted on problems that are evaluated now, or that changed"):
        run_evaluation(replace(run, strategies=("early-exit", "full")))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"strategies": ("full",)}, "fit_problems= fits thresholds of early-exit and escalate"),
        ({"exit_threshold": 0.9}, "that you did not give, and there is none"),
        ({"fit_problems": 0}, "fit-problems is 0"),
        ({"fit_problems": 1}, "fit-problems is 1; thresholds are fitted on at least 2"),
        ({"fit_problems": None, "fit_split": "train"}, "fit_split= needs fit_problems="),
    ],
)
def test_what_is_asked_for_in_vain(tmp_path, changes, said):
    with pytest.raises(ConfigError, match=said):
        run_evaluation(replace(demo_run(tmp_path), **changes))
    assert not (tmp_path / "run").exists()
