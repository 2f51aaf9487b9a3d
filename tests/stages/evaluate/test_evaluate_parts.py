"""An evaluation's strategies are built from the parts that it is told, and a run holds one set of them."""

from dataclasses import replace

import pytest

from pts.errors import PtsError, RunError
from pts.evaluation.items import Item
from pts.runs.journal import Journal
from pts.runs.manifest import read_manifest
from pts.stages.evaluate.inputs import EvaluateInputs
from pts.stages.evaluate.run import run_evaluation
from pts.stages.recipe.read import read_recipe

BARE = EvaluateInputs(problems=3, levels=(2,), strategies=("full",), seeds=1, baselines=False, device="cpu")


def items(run):
    return list(Journal(run.directory() / "items.jsonl", Item).read())


def of(run, line):
    return [item for item in items(run) if item.line == line]


def test_every_line_has_the_parts_that_it_uses(tmp_path):
    strategies = ("full", "early-exit", "reject:2", "escalate", "auto")
    run = replace(
        BARE,
        strategies=strategies,
        exit_threshold=0.01,
        reject_share=0.5,
        second_model="demo",
        escalate_threshold=1.0,
        router="length:0-64",
        class_budget=("easy=4-8",),
        answer_budget="5",
        output=tmp_path / "run",
    )
    run_evaluation(run)
    assert {item.route for item in of(run, "early-exit")} == {"early"}
    assert "second" in {item.route for item in of(run, "escalate")}
    assert all(item.route == "easy" and item.ledger.thinking <= 8 for item in of(run, "auto"))
    assert all(item.ledger.answer <= 5 for item in items(run))
    manifest = read_manifest(run.directory())
    assert str(manifest.resolved["second_model"]).startswith("demo (sha256:")
    assert manifest.settings["parts_digests"] == {}


def test_other_parts_are_other_settings(tmp_path):
    run = replace(BARE, strategies=("early-exit",), exit_threshold=0.5, output=tmp_path / "run")
    run_evaluation(run)
    run_evaluation(replace(run, problems=4))
    with pytest.raises(RunError, match=r"exit_threshold 0.5 → 0.6"):
        run_evaluation(replace(run, exit_threshold=0.6))
    with pytest.raises(RunError, match="answer_budget"):
        run_evaluation(replace(run, answer_budget="9"))


def test_the_random_router_draws_among_the_routers_own_classes(tmp_path):
    """The set's own router, at a price where one class is left: its random control must have that budget."""
    run = replace(
        BARE,
        strategies=("auto",),
        vectors="demo",
        baselines=True,
        sweep=(),
        token_price=0.0,
        class_budget=("hard=30",),
        output=tmp_path / "run",
    )
    run_evaluation(run)
    assert set(read_manifest(run.directory()).settings["parts_digests"]) == {"router"}
    for line in ("auto", "auto + vectors"):
        control = line.replace("auto", "auto (random router)")
        shares = {item.route for item in of(run, line)}
        drawn = of(run, control)
        assert {item.route for item in drawn} <= shares
        assert all(item.ledger.thinking <= 30 for item in drawn if item.route == "hard")


def test_a_scorer_that_changed_is_another_part(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("def short(written):\n    return -len(written.completion)\n")
    run = replace(BARE, strategies=("reject:2",), scorer=f"{path}:short", output=tmp_path / "run")
    run_evaluation(run)
    path.write_text("def short(written):\n    return len(written.completion)\n")
    # Where nothing is left to answer too: the report would be of answers by another scorer.
    for again in (run, replace(run, problems=4)):
        with pytest.raises(RunError, match="parts_digests"):
            run_evaluation(again)


def test_a_part_that_nothing_uses_writes_nothing(tmp_path):
    run = replace(BARE, trial_tokens=4, output=tmp_path / "run")
    with pytest.raises(
        PtsError,
        match="trial_tokens= has no effect on the strategy full: leave it out, or choose one of early-exit",
    ):
        run_evaluation(run)
    assert not run.output.exists()


def test_a_recipe_has_the_same_keys(tmp_path):
    (tmp_path / "r.yaml").write_text(
        "stages:\n  - stage: eval\n    strategies: [auto, early-exit]\n    router: length:0-64\n"
        "    class-budget: [easy=0.2-0.4]\n    answer_budget: 0.25\n    exit-step: 8\n    where: gate\n"
    )
    (stage,) = read_recipe(str(tmp_path / "r.yaml"), ["eval.exit_threshold=0.5"])
    inputs = stage.inputs
    assert (inputs.router, inputs.class_budget) == ("length:0-64", ("easy=0.2-0.4",))
    assert (inputs.answer_budget, inputs.exit_step, inputs.exit_threshold) == (0.25, 8, 0.5)
