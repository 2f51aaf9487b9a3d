"""The stage fit-router of a recipe: what fills its keys, what runs again, and what may not be evaluated."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from pts.cli.commands import cli
from pts.errors import ConfigError, RunError
from pts.stages.recipe.bounds import select_stages
from pts.stages.recipe.plan import plan_stages, renewed
from pts.stages.recipe.read import read_recipe

WHOLE = """
stages:
  - stage: search
    problems: 7
    output: here/run
  - stage: extract-vectors
    output: here/set
  - stage: fit-router
    samples: 2
  - stage: eval
    dataset: demo
    strategies: [full, auto]
  - stage: publish
"""
SMALL = """
stages:
  - stage: search
    problems: 1
    levels: [2]
    thinking: true
    max_tokens: 200
    output: run
  - stage: fit-router
    problems: 12
    samples: 1
    levels: [1, 2]
    layer: 3
    token_price: 0.002
  - stage: eval
    dataset: demo
    levels: [2]
    problems: 6
    seeds: 1
    strategies: [auto]
    baselines: false
    output: evaluated
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("whole.yaml").write_text(WHOLE)
    Path("small.yaml").write_text(SMALL)
    return tmp_path


def inputs(recipe, *settings):
    return {stage.name: stage.inputs for stage in read_recipe(recipe, settings)}


def test_what_stages_make_fills_the_keys_of_later_ones(here):
    found = inputs("whole.yaml")
    router, run = found["fit-router"], found["eval"]
    assert (router.run, router.vectors, router.samples) == (Path("here/run"), "here/set", 2)
    # Stored with the vectors, which are not there yet, and evaluated and published from there.
    assert router.directory() == Path("here/set")
    assert (run.vectors, run.router, found["publish"].path) == ("here/set", "here/set", Path("here/set"))
    small = inputs("small.yaml")
    assert small["fit-router"].vectors is None
    assert small["eval"].router == str(small["fit-router"].directory()) == "routers/run"


def test_what_a_recipe_says_itself_stands(here):
    assert inputs("whole.yaml", "router=length")["eval"].router == "length"
    assert inputs("whole.yaml", "router=null")["eval"].router is None
    assert inputs("whole.yaml", "fit-router.output=there")["eval"].router == "there"
    # Another set's router is not stored with the recipe's own set.
    with pytest.raises(ConfigError, match=r"no directory to store a router in; give fit-router\.output"):
        inputs("whole.yaml", "fit-router.vectors=demo-of-somebody")
    # Without a strategy that asks a router there is nothing to give one to.
    assert inputs("whole.yaml", "strategies=[full]")["eval"].router is None
    with pytest.raises(ConfigError, match=r"samples is 0"):
        inputs("whole.yaml", "fit-router.samples=0")


def test_the_bounds_name_it(here):
    stages = read_recipe("whole.yaml")
    before, chosen = select_stages(stages, "fit-router", "fit-router")
    assert ([stage.name for stage in before], [stage.name for stage in chosen]) == (
        ["search", "extract-vectors"],
        ["fit-router"],
    )


def run(*arguments):
    return CliRunner().invoke(cli, ["run", "small.yaml", *arguments])


@pytest.mark.slow
def test_a_recipe_fits_a_router_and_evaluates_it(here):
    first = run()
    assert first.exit_code == 0, first.output
    assert "pts: fit-router: writes a router to routers/run." in first.stderr
    assert "stored in routers/run" in first.stdout
    items = [json.loads(line) for line in Path("evaluated/items.jsonl").read_text().splitlines()]
    assert {item["route"] for item in items} <= {"none", "easy", "hard"}
    made = Path("routers/run/router.json").read_bytes()

    again = run("--from", "fit-router", "--until", "fit-router")
    assert "the router in routers/run is complete: nothing to do" in again.stderr
    assert "stored in routers/run" in again.stdout
    assert Path("routers/run/router.json").read_bytes() == made

    # Another price: fitted again from what was measured.
    journal = Path("routers/run/router.jsonl").read_bytes()
    priced = run("--from", "fit-router", "--until", "fit-router", "--set", "fit-router.token_price=0.001")
    assert "fit-router: continues a fitted router" in priced.stderr
    assert Path("routers/run/router.jsonl").read_bytes() == journal
    assert Path("routers/run/router.json").read_bytes() != made
    # Other problems: measured again, where the stage is run.
    before, chosen = select_stages(read_recipe("small.yaml", ["fit-router.problems=14"]), "fit-router", None)
    plan = plan_stages(before, chosen, fresh=False)
    assert "(problems 12 → 14); it is deleted and made again" in plan[0].plan.text
    assert (plan[0].plan.deletes, renewed(plan[0].step).inputs.fresh) == (True, True)
    with pytest.raises(RunError, match="--from skips fit-router, which is not complete"):
        plan_stages([*before, chosen[0]], chosen[1:], fresh=False)

    # The evaluation itself compares the questions: no split of the demo's is asked that the fit drew from.
    asked = CliRunner().invoke(
        cli,
        [
            *("eval", "--dataset", "demo", "--split", "calibrate", "--levels", "1,2", "--problems", "400"),
            *("--strategies", "auto", "--router", "routers/run", "--output", "seen"),
        ],
    )
    assert isinstance(asked.exception, ConfigError)
    assert "the router was fitted on" in str(asked.exception)
    assert not Path("seen/items.jsonl").exists()


def refusal(*settings):
    stages = read_recipe("small.yaml", settings)
    with pytest.raises(ConfigError) as caught:
        plan_stages([], stages, fresh=False)
    return str(caught.value)


def test_what_the_router_is_fitted_on_is_not_evaluated(here):
    said = refusal("eval.split=calibrate")
    assert "the router is fitted on problems of demo that the evaluation may ask" in said
    assert "eval.split" in said
    assert "fitted on problems" in refusal("search.split=calibrate", "eval.split=train")
    rows = [{"id": f"q{n}", "question": f"What is {n} + 3 ?", "answer": str(n + 3)} for n in range(60)]
    Path("d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    own = ["search.dataset=d.jsonl", "search.levels=null", "eval.levels=null", "fit-router.levels=null"]
    searched = ["search.problems=20", "eval.dataset=./d.jsonl"]
    assert "fitted on problems of d.jsonl" in refusal(*own, *searched, "eval.problems=21")
    assert "fitted on problems of d.jsonl" in refusal(*own, *searched, "eval.problems=null")
    for settings in (["eval.problems=20"], ["eval.problems=21", "eval.router=length"], ["eval.split=test"]):
        plan_stages([], read_recipe("small.yaml", [*own, *searched, *settings]), fresh=False)


def test_the_recipes_that_repeat_autothinks_comparison_use_a_fitted_router():
    stages = [stage.name for stage in read_recipe("deepseek-r1-distill-qwen-1.5b-math")]
    assert stages == ["search", "extract-vectors", "fit-router", "publish"]
    made = inputs("deepseek-r1-distill-qwen-1.5b-math")
    for name in ("gpqa", "mmlu-pro"):
        run = inputs(f"deepseek-r1-distill-qwen-1.5b-{name}")["eval"]
        assert (run.router, run.vectors) == ("probe", str(made["fit-router"].directory()))
    # MATH-500 has 500 problems: each is searched, calibrated on, tested on or fitted on.
    drawn = made["search"].problems + made["fit-router"].problems
    assert drawn + made["extract-vectors"].calibration_problems + made["extract-vectors"].test_problems == 500
