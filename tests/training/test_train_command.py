"""`pts train` on the demo model: a small run, what it leaves, and what it refuses."""

import json

import pytest

from pts.cli import run
from pts.errors import ConfigError
from pts.stages.recipe.read import read_recipe
from pts.training.requirements import require_packages
from tests.cli.one_line import complaint

pytest.importorskip("trl")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("train") / "model"
    assert run(["train", "adaptthink", "--smoke", "--output", str(path), "--quiet"]) == 0
    return path


def curve(path):
    return [json.loads(line) for line in (path / "curves.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_a_run_leaves_a_model_curves_and_references(trained, capsys):
    points = curve(trained)
    assert [point["step"] for point in points] == [0, 1, 2]
    # The share of no thinking is known from the first step on, as the policy's own probability.
    assert 1e-5 < points[0]["no_thinking"] < 5e-3
    assert (trained / "curves.png").read_bytes().startswith(b"\x89PNG")
    references = (trained.parent / "model-references" / "references.jsonl").read_text().splitlines()
    assert len(references) == 8
    assert all(json.loads(line)["n"] == 4 for line in references)
    assert run(["decode", "--model", str(trained), "What is 3 + 4 ?", "--budget", "96", "--quiet"]) == 0
    assert "7" in capsys.readouterr().out


@pytest.mark.slow
def test_a_complete_run_is_left_as_it_is_and_other_settings_are_refused(trained, capsys):
    before = (trained / "model.safetensors").stat().st_mtime_ns
    command = ["train", "adaptthink", "--smoke", "--output", str(trained)]
    assert run([*command, "--json", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == 3
    assert (trained / "model.safetensors").stat().st_mtime_ns == before
    assert "adaptthink.delta 0.05 → 0.1" in complaint(capsys, *command, "--delta", "0.1")


@pytest.mark.slow
def test_references_of_another_sampler_are_refused(trained, tmp_path, capsys):
    references = trained.parent / "model-references"
    command = [
        "train",
        "adaptthink",
        "--smoke",
        "--output",
        str(tmp_path / "m"),
        "--references",
        str(references),
    ]
    said = complaint(capsys, *command, "--temperature", "0.8", "--quiet")
    assert "references of another model or sampler (temperature 1.0 → 0.8)" in said
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("adaptthink", "--samples", "3"), "give an even number"),
        (("adaptthink", "--temperature", "0"), "temperature above 0"),
        (("adaptthink", "--no-thinking"), "trains both modes"),
        (("adaptthink", "--generation", "trl"), "--opener"),
        (("adaptthink", "--opener", "</think>"), "begins as an answer without thinking does"),
        (("adaptthink", "--no-thinking-budget", "0"), "--no-thinking-budget 0"),
        (("adaptthink", "--prompts", "9", "--problems", "8"), "8 problems are fewer than the 9"),
        (("adaptthink", "--trl-setting", "nonsense=1"), "no field of TRL's GRPOConfig"),
        (("adaptthink", "--trl-setting", "beta=1"), "is set by an option of pts"),
        (("length", "--reward", "ratio"), "give --target"),
        (("length", "--limits", "60,40"), "--reward limit"),
        (("length", "--reward", "cosine", "--target", "0.5"), "has no target"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(tmp_path, capsys, arguments, said):
    assert said in complaint(capsys, "train", *arguments, "--output", str(tmp_path / "m"), "--quiet")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_trained_model_has_a_card_and_can_be_published(trained, capsys):
    card = (trained / "README.md").read_text()
    assert "AdaptThink (Zhang et al. 2025)" in card
    assert "| adaptthink / delta | 0.05 |" in card
    command = ["push-to-hub", str(trained), "--repo-id", "someone/model", "--dry-run"]
    assert "give --repo-type model" in complaint(capsys, *command)
    assert run([*command, "--repo-type", "model", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["kind"] == "trained model"
    assert {"config.json", "model.safetensors", "tokenizer.json", "curves.png"} <= set(shown["files"])
    assert "manifest.json" not in shown["files"]
    assert "someone/model" in shown["card"]


@pytest.mark.slow
def test_an_adapter_is_trained_and_merged(tmp_path, capsys):
    path = tmp_path / "lora"
    command = ["train", "length", "--smoke", "--lora", "--lora-rank", "4", "--learning-rate", "1e-3"]
    assert run([*command, "--output", str(path), "--quiet"]) == 0
    assert (path / "adapter" / "adapter_config.json").exists()
    capsys.readouterr()
    assert run(["decode", "--model", str(path), "What is 3 + 4 ?", "--budget", "96", "--quiet"]) == 0
    merged = capsys.readouterr().out
    adapted = ["decode", "--model", "demo", "--adapter", str(path / "adapter"), "What is 3 + 4 ?", "--quiet"]
    assert run(adapted) == 0
    assert capsys.readouterr().out == merged


def test_a_missing_package_is_named_with_what_to_install():
    with pytest.raises(ConfigError, match=r"not installed \(no_such_package\): pip install 'pivotal-tokens"):
        require_packages("no_such_package")


@pytest.mark.slow
def test_a_training_has_a_report(trained, tmp_path):
    page = tmp_path / "report.html"
    assert run(["report", str(trained), "--output", str(page), "--quiet"]) == 0
    text = page.read_text()
    assert "demo trained by adaptthink" in text
    assert "data:image/png;base64,iVBORw0KGgo" in text
    assert "3 of 3" in text
    assert "is not finished" not in text


def test_a_recipe_evaluates_what_it_has_trained(tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        "stages:\n  - stage: train-length\n    output: models/short\n  - stage: eval\n    dataset: demo\n"
    )
    train, evaluate = read_recipe(str(recipe))
    assert train.inputs.method == "length"
    assert evaluate.inputs.model == "models/short"
