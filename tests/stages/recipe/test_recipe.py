"""What a recipe may say, what `--set` changes in it, and which of its stages the bounds choose."""

from pathlib import Path

import pytest

from pts.errors import ConfigError
from pts.stages.extract.inputs import ExtractInputs
from pts.stages.publish.inputs import PublishInputs
from pts.stages.recipe.bounds import select_stages
from pts.stages.recipe.read import bundled_recipes, read_recipe

WHOLE = """
stages:
  - stage: search
    problems: 7
    output: here/run
  - stage: extract-vectors
    samples: 3
  - stage: publish
"""


@pytest.fixture
def whole(tmp_path):
    (tmp_path / "whole.yaml").write_text(WHOLE)
    return str(tmp_path / "whole.yaml")


def inputs(recipe, *settings):
    return [stage.inputs for stage in read_recipe(recipe, settings)]


@pytest.mark.parametrize("name", bundled_recipes())
def test_every_bundled_recipe_is_good_and_says_what_it_is(name):
    stages = read_recipe(name)
    assert stages
    assert len(bundled_recipes()[name]) > 20
    pushes = [stage.inputs.push for stage in stages if isinstance(stage.inputs, PublishInputs)]
    assert not any(pushes)


def test_the_demo_recipe_goes_from_search_to_card():
    stages = read_recipe("demo")
    search, extract, publish = (stage.inputs for stage in stages)
    assert [stage.name for stage in stages] == ["search", "extract-vectors", "publish"]
    assert (search.problems, search.levels, search.thinking, search.split) == (400, (2, 3, 4), True, "train")
    assert (extract.calibration_problems, extract.test_problems) == (96, 256)
    assert extract.run == search.directory() == Path("runs/demo-vectors")
    assert publish.path == extract.directory() == Path("vectors/demo")
    assert publish.repo_id is None


def test_outputs_flow_to_the_next_stage(whole, tmp_path):
    search, extract, publish = inputs(whole)
    assert extract.run == search.output == Path("here/run")
    assert publish.path == extract.directory() == Path("vectors/run")
    moved = inputs(whole, "search.output=there", "extract-vectors.output=set")
    assert (moved[1].run, moved[2].path) == (Path("there"), Path("set"))
    assert inputs(whole, "run=elsewhere", "path=that")[1:] == [
        ExtractInputs(Path("elsewhere"), samples=3),
        PublishInputs(Path("that")),
    ]
    (tmp_path / "two.yaml").write_text("stages: [{stage: search, output: run}, {stage: publish}]")
    assert inputs(str(tmp_path / "two.yaml"))[1].path == Path("run")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("stages: [{stage: serch}]", "no such stage: serch; the stages are .* Did you mean search"),
        ("stages: [dance]", "no such stage: dance; the stages are [a-z, -]*[.]$"),
        ("stages: [{stage: [search]}]", r"no such stage: \['search'\]"),
        ("stages: [{stage: search, temprature: 1}]", "no key temprature; .* Did you mean temperature"),
        ("stages: [{stage: extract-vectors, run: r, sampels: 1}]", "Did you mean samples"),
        ("stages: [{stage: publish, path: p, licence: mit}]", "Did you mean license"),
        ("stages: [{stage: extract-vectors}]", r"stage 1 \(extract-vectors\): missing: run"),
        ("stages: [{stage: search}, {stage: search, seed: 1}]", "has the stage search twice"),
        ("stages: [{stage: search}, {stage: extract-vectors, samples: 0}]", "^stage extract-vectors: samples"),
        ("stages: [{stage: search}, {stage: publish, push: true}]", "give publish.repo_id=OWNER/NAME"),
        ("stages: [{stage: search}, {stage: publish, repo_id: me}]", "lacks its owner"),
        ("stages: [{stage: extract-vectors, run: r, until: lunch}]", "until: wanted 'harvest' or"),
    ],
)
def test_a_recipe_that_cannot_be(tmp_path, text, said):
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_recipe(str(tmp_path / "r.yaml"))


def test_an_unknown_recipe_names_the_nearest():
    with pytest.raises(ConfigError, match=r"no recipe demo-serch; .* Did you mean demo-search"):
        read_recipe("demo-serch")


def test_a_setting_has_the_type_that_yaml_gives_it(whole):
    search, extract, publish = inputs(
        whole,
        "problems=9",
        "top-p=0.5",
        "search.thinking=true",
        "search.levels=[2, 3]",
        "search.suffix=Be brief: say 'yes'.",
        "search.range=[0, 1]",
        "extract_vectors.layers=[1]",
        "extract-vectors.seed=4",
        "publish.repo_id=me/it",
        "push=true",
        "samples=5",
        "samples=6",
    )
    assert (search.problems, search.top_p, search.thinking, search.levels) == (9, 0.5, True, (2, 3))
    assert (search.range, search.seed) == ((0.0, 1.0), 0)
    assert (extract.layers, extract.seed, extract.samples) == ((1,), 4, 6)
    assert (publish.repo_id, publish.push) == ("me/it", True)
    assert search.suffix == "Be brief: say 'yes'."
    assert inputs(whole, "problems=null")[0].problems is None
    assert inputs(whole, "problems=")[0].problems is None
    assert inputs(whole, "tag='7'")[2].tag == "7"
    assert inputs(whole, "system_prompt=a=b")[0].system_prompt == "a=b"


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("tempo", "--set tempo has no value"),
        ("temprature=1", "none of its stages has a key temprature. Did you mean search.temperature"),
        ("sample=1", "Did you mean extract-vectors.samples"),
        ("search.sample=1", "search has no key sample[.]"),
        ("extract.samples=1", "no stage extract; it has search, .* Did you mean extract-vectors"),
        ("demo-model.seed=1", "no stage demo-model"),
        ("seed=1", "say which: search.seed or extract-vectors.seed"),
        ("search.stage=publish", "search has no key stage"),
        ("problems=many", "problems: wanted a whole number, found 'many'"),
        ("search.levels=2,3", "levels: wanted a list, found '2,3'"),
        ("top_p=3", "top-p is 3"),
        ("problems=[1", "not YAML"),
    ],
)
def test_a_setting_that_cannot_be(whole, setting, said):
    with pytest.raises(ConfigError, match=said):
        read_recipe(whole, [setting])


def chosen(recipe, first=None, last=None):
    sides = select_stages(read_recipe(recipe), first, last)
    return [[stage.parts[-1] for stage in side] for side in sides]


def test_bounds_choose_stages_and_parts_of_the_extraction(whole):
    assert chosen(whole) == [[], ["search", "calibrate", "publish"]]
    assert chosen(whole, "search", "search") == [[], ["search"]]
    assert chosen(whole, None, "harvest") == [[], ["search", "harvest"]]
    assert chosen(whole, None, "cluster") == [[], ["search", "cluster"]]
    assert chosen(whole, None, "calibrate") == chosen(whole, None, "extract-vectors")
    assert chosen(whole, "extract-vectors") == [["search"], ["calibrate", "publish"]]
    assert chosen(whole, "harvest", "harvest") == [["search"], ["harvest"]]
    assert chosen(whole, "cluster") == [["search", "harvest"], ["calibrate", "publish"]]
    assert chosen(whole, "calibrate", "calibrate") == [["search", "cluster"], ["calibrate"]]
    assert chosen(whole, "publish") == [["search", "calibrate"], ["publish"]]


def test_bounds_that_cannot_be(whole):
    with pytest.raises(ConfigError, match=r"--from publsh: .* Did you mean publish"):
        chosen(whole, "publsh")
    with pytest.raises(ConfigError, match=r"--until clusters: .* Did you mean cluster"):
        chosen(whole, None, "clusters")
    with pytest.raises(ConfigError, match="--from publish comes after --until harvest; the order is search, "):
        chosen(whole, "publish", "harvest")
    with pytest.raises(ConfigError, match=r"no such stage; it has search[.]$"):
        chosen("demo-search", "cluster")


def test_an_evaluation_is_steered_by_the_set_that_the_stage_before_it_makes(tmp_path):
    text = "stages: [{stage: search, output: r}, {stage: extract-vectors, output: v}, {stage: eval, seeds: 2}]"
    (tmp_path / "e.yaml").write_text(text)
    *_, evaluated = inputs(str(tmp_path / "e.yaml"), "eval.strategies=[full, auto]", "eval.pattern={all: 2.0}")
    assert (evaluated.vectors, evaluated.seeds) == ("v", 2)
    assert (evaluated.strategies, evaluated.pattern) == (("full", "auto"), {"all": 2.0})
    (tmp_path / "alone.yaml").write_text("stages: [{stage: search, output: r}, {stage: eval, dataset: gsm8k}]")
    (_, alone) = inputs(str(tmp_path / "alone.yaml"))
    assert alone.vectors is None
    with pytest.raises(ConfigError, match="did you mean gsm8k"):
        inputs(str(tmp_path / "alone.yaml"), "eval.dataset=gsm8")


def test_the_seeds_comparison_is_repeated_by_two_recipes():
    for name, dataset in (("gpqa", "gpqa-diamond"), ("mmlu-pro", "mmlu-pro")):
        (run,) = inputs(f"deepseek-r1-distill-qwen-1.5b-{name}")
        assert run.benchmark().name == dataset
        assert "auto" in run.strategies
        assert run.vectors is not None
        assert run.prompt_format().suffix.endswith(r"\boxed{}.")
