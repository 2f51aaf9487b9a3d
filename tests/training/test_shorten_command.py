"""`pts train shorten` on the demo model: what it draws, learns and leaves, how it goes on, what it refuses."""

import json
import resource
import signal
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from pts.cli import run
from pts.demo.problems import demo_problems
from pts.errors import RunError
from pts.models.load import load_model
from pts.models.options import ModelOptions
from pts.models.prompt import PromptFormat, encode_prompt
from pts.runs.codec import from_json
from pts.stages.recipe.read import read_recipe
from pts.stages.train.reinforcement_inputs import LengthInputs
from pts.stages.train.run import run_training
from pts.stages.train.shorten_inputs import ShortenInputs
from pts.training.fit import Order
from pts.training.solutions import Solution, examples_of
from tests.cli.one_line import complaint

pytest.importorskip("trl")

NO_THINKING = 5
SMALL = ("--problems", "24", "--samples", "4", "--examples", "4", "--save-every", "2", "--warmup", "1")
COMMAND = ("train", "shorten", "--hybrid", "--steps", "6", *SMALL)


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def curve(path):
    return [(point["step"], point["loss"], point["tokens"]) for point in rows(path / "curves.jsonl")]


@contextmanager
def files_of_at_most(size):
    """The system refuses larger files, as a full disk does."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("shorten") / "whole"
    assert run([*COMMAND, "--output", str(path), "--quiet"]) == 0
    return path


def test_a_run_keeps_its_completions_and_leaves_a_model(whole, capsys):
    drawn = rows(whole.parent / "whole-completions" / "completions.jsonl")
    assert [row["mode"] for row in drawn] == ["thinking"] * 24 + ["no thinking"] * 24
    assert all((row["shortest"] is None) == (row["successes"] == 0) for row in drawn)
    assert all(
        (row["shortest"][0] == NO_THINKING) is (row["mode"] == "no thinking")
        for row in drawn
        if row["shortest"]
    )
    summary = json.loads((whole / "summary.json").read_text())
    solved = [row for row in drawn[:24] if row["successes"]]
    assert (summary["thinking"], summary["unsolved"]) == (len(solved), 24 - len(solved))
    assert summary["no_thinking"] == sum(row["successes"] >= 2 for row in drawn[24:]) > 0
    assert summary["thinking_tokens"] < summary["right_tokens"]
    assert [step for step, *_ in curve(whole)] == list(range(6))
    assert (whole / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert "fine-tuned on the shortest of its own right completions" in (whole / "README.md").read_text()
    assert run(["decode", "--model", str(whole), "What is 3 + 4 ?", "--budget", "96", "--quiet"]) == 0
    assert "7" in capsys.readouterr().out


def test_the_loss_is_that_of_the_completions_tokens_alone(whole):
    drawn = [from_json(Solution, row) for row in rows(whole.parent / "whole-completions" / "completions.jsonl")]
    loaded = load_model(ModelOptions("demo", dtype="float32"))
    prompts = {
        problem.id: encode_prompt(loaded.tokenizer, problem.query, PromptFormat())
        for problem in demo_problems("train", 24, 0)
    }
    examples = examples_of(drawn, prompts, ())
    learnt = [examples[place] for place in Order(len(examples), 4, 0)(0)]
    losses = []
    with torch.no_grad():
        for example in learnt:
            ids = torch.tensor([[*example.prompt, *example.completion]])
            logs = loaded.model(input_ids=ids).logits.log_softmax(-1)[0, len(example.prompt) - 1 : -1]
            losses += [-float(row[token]) for row, token in zip(logs, example.completion, strict=True)]
    step, loss, tokens = curve(whole)[0]
    assert (step, tokens) == (0, len(losses))
    assert loss == pytest.approx(sum(losses) / len(losses), abs=1e-4)


def test_a_training_that_was_stopped_comes_to_what_it_would_have_been(whole, tmp_path):
    path = tmp_path / "stopped"
    inputs = ShortenInputs(
        hybrid=True,
        steps=6,
        problems=24,
        samples=4,
        examples=4,
        save_every=2,
        warmup=1,
        output=path,
        completions=whole.parent / "whole-completions",
    )

    def stop(phase, _tokens, share):
        if phase == "training" and share > 0.4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_training(inputs, stop)
    assert not (path / "config.json").exists()
    assert len(curve(path)) == 3
    # What a kill leaves half-written: a line of the curve.
    with open(path / "curves.jsonl", "a") as file:
        file.write('{"step": 9')
    assert run_training(inputs).steps == 6
    for found, expected in zip(curve(path), curve(whole), strict=True):
        assert found == pytest.approx(expected, rel=1e-3)


def test_completions_that_a_kill_cut_off_are_drawn_again_and_the_same(whole, tmp_path):
    kept = whole.parent / "whole-completions"
    cut = tmp_path / "cut"
    cut.mkdir()
    (cut / "manifest.json").write_text((kept / "manifest.json").read_text())
    lines = (kept / "completions.jsonl").read_text().splitlines(keepends=True)
    (cut / "completions.jsonl").write_text("".join(lines[:30]) + '{"problem": "de')
    command = [*COMMAND, "--output", str(tmp_path / "m"), "--completions", str(cut), "--quiet"]
    assert run(command) == 0
    assert rows(cut / "completions.jsonl") == rows(kept / "completions.jsonl")


def test_completions_of_another_sampler_and_other_settings_are_refused(whole, tmp_path, capsys):
    kept = whole.parent / "whole-completions"
    other = [*COMMAND, "--output", str(tmp_path / "m"), "--completions", str(kept), "--quiet"]
    said = complaint(capsys, *other, "--top-k", "5")
    assert "completions of another model or sampler (sampling.top_k 20 → 5)" in said
    assert not (tmp_path / "m").exists()
    said = complaint(capsys, *COMMAND, "--output", str(whole), "--examples", "5", "--quiet")
    assert "shorten.examples 4 → 5" in said
    other[other.index(str(kept))] = str(whole)
    said = complaint(capsys, *other)
    assert "another kind of run (training, not completions); give another --completions." in said


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    path = tmp_path_factory.mktemp("search") / "run"
    # Nothing is confirmed: the values along the completions are what shortening reads.
    command = ["search", "--levels", "2,3", "--problems", "20", "--threshold", "0.9", "--range", "0.1", "0.95"]
    assert run([*command, "--audit", "0", "--no-verify", "--output", str(path), "--quiet"]) == 0
    return path


SEARCHED = ("train", "shorten", "--steps", "4", "--examples", "4")


def test_a_searchs_completions_are_learnt_without_what_does_not_move_the_value(searched, tmp_path, capsys):
    path = tmp_path / "m"
    command = [*SEARCHED, "--from-search", str(searched), "--mixing", "progressive", "--output", str(path)]
    assert run([*command, "--json", "--quiet"]) == 0
    summary = json.loads(capsys.readouterr().out)
    kept = rows(tmp_path / "m-completions" / "completions.jsonl")
    results = {row["result"]["problem_id"]: row["result"] for row in rows(searched / "problems.jsonl")}
    assert sum(row["dropped"] for row in kept) == summary["dropped"] > 0
    assert summary["thinking"] == sum(row["shortest"] is not None for row in kept)
    assert summary["thinking_tokens"] < summary["right_tokens"]
    for row in kept:
        right = [trace["completion"] for trace in results[row["problem"]]["traces"] if trace["success"]]
        assert row["longest"] == max(right, key=lambda ids: (len(ids), ids), default=None)
        assert row["shortest"] in right or row["dropped"] or row["shortest"] is None
    # In the first step one completion of four is short.
    points = rows(path / "curves.jsonl")
    assert points[0]["tokens"] > points[-1]["tokens"]
    assert "sentences were dropped" in (path / "README.md").read_text()
    assert "shorten.from_search" in complaint(capsys, *[*SEARCHED, "--output", str(path), "--quiet"])


def test_settings_that_contradict_the_search_are_refused(searched, tmp_path, capsys):
    command = [*SEARCHED, "--from-search", str(searched), "--output", str(tmp_path / "m"), "--quiet"]
    for given, said in (
        (("--top-k", "5", "--levels", "4"), "(levels [2, 3] → [4]; top_k 20 → 5): leave them out"),
        (("--dataset", __file__), '(dataset "demo" → '),
        (("--suffix", "Be brief."), '(suffix null → "Be brief.")'),
        (("--grader", "numeric"), '(grader "demo" → "numeric")'),
        (("--seed", "7"), "(seed 0 → 7)"),
    ):
        assert said in complaint(capsys, *command, *given)
    few = complaint(capsys, *command, "--problems", "8")
    assert "problems have a right completion in" in few
    assert "at least 8 are needed to learn from: search more problems" in few
    assert not (tmp_path / "m").exists()


def test_what_is_left_out_is_the_searchs(searched, tmp_path):
    text = (searched / "manifest.json").read_text()
    manifest = json.loads(text)
    manifest["settings"] |= {"model": "org/Tiny", "suffix": "Think.", "split": "dev", "dataset": "org/Set"}
    manifest["settings"]["levels"] = None
    manifest["settings"]["sampling"] |= {"top_k": 7, "budget": 80}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    copied = tmp_path / "set.jsonl"
    copied.touch()
    inputs = ShortenInputs(from_search=tmp_path, dataset=str(copied), answer_field="a")
    settled = inputs.effective()
    assert (settled.model, settled.suffix, settled.top_k, settled.budget) == ("org/Tiny", "Think.", 7, 80)
    assert (settled.dataset, settled.split, settled.answer_field) == (str(copied), "dev", "a")
    assert (settled.problems, replace(inputs, problems=3).effective().problems) == (20, 3)
    assert inputs.directory().name == "tiny-shorten"
    manifest["settings"]["thinking"] = False
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(RunError, match="searched with thinking=False, so it has no thinking to shorten"):
        inputs.directory()


def test_completions_of_an_earlier_version_have_no_long_ones_to_mix(whole, tmp_path, capsys):
    kept = whole.parent / "whole-completions"
    old = tmp_path / "old"
    old.mkdir()
    (old / "manifest.json").write_text((kept / "manifest.json").read_text())
    lines = [
        {key: value for key, value in row.items() if key != "longest"}
        for row in rows(kept / "completions.jsonl")
    ]
    (old / "completions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    command = [*COMMAND, "--mixing", "progressive", "--completions", str(old), "--output", str(tmp_path / "m")]
    assert "earlier version, which kept the shortest completions alone" in complaint(
        capsys, *command, "--quiet"
    )


def test_of_a_launchers_processes_the_first_one_alone_reports(whole, capsys, monkeypatch):
    command = [*COMMAND, "--output", str(whole)]
    assert run([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == 6
    monkeypatch.setenv("RANK", "1")
    for arguments in (command, [*command, "--json"]):
        assert run(arguments) == 0
        assert capsys.readouterr() == ("", "")


def test_a_shortening_has_a_report(whole, tmp_path):
    page = tmp_path / "report.html"
    assert run(["report", str(whole), "--output", str(page), "--quiet"]) == 0
    text = page.read_text()
    assert "demo trained by shorten" in text
    assert "loss, nats a token" in text
    assert "is not finished" not in text


def test_an_adapter_is_trained_and_merged(tmp_path, capsys):
    path = tmp_path / "lora"
    command = ["train", "shorten", "--smoke", "--lora", "--lora-rank", "4", "--micro-batch", "2", "--json"]
    # There is room for checkpoints of the adapter, and none for the merged model.
    with files_of_at_most(1 << 20):
        said = complaint(capsys, *command, "--output", path, "--quiet")
    assert f"could not write the trained model in {path}" in said
    assert not (path / "config.json").exists()
    assert run([*command, "--output", str(path), "--quiet"]) == 0
    assert [step for step, *_ in curve(path)] == [0, 1, 2]
    assert json.loads(capsys.readouterr().out)["no_thinking"] == 0
    assert (path / "adapter" / "adapter_config.json").exists()
    command = ["push-to-hub", str(path), "--repo-id", "someone/model", "--repo-type", "model", "--dry-run"]
    assert run([*command, "--json"]) == 0
    assert "fine-tuned on the shortest" in json.loads(capsys.readouterr().out)["card"]


def test_too_few_solved_problems_are_one_line_and_what_was_drawn_is_kept(tmp_path, capsys):
    wrong = [{"question": f"What is {n} + 4 ?", "answer": "99"} for n in range(3, 13)]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, wrong)))
    command = ["train", "shorten", "--dataset", str(tmp_path / "p.jsonl"), "--grader", "demo", "--samples", "2"]
    said = complaint(capsys, *command, "--output", str(tmp_path / "m"), "--quiet")
    assert "0 of 10 problems have a right completion among 2 with thinking" in said
    assert f"another --completions, or {tmp_path / 'm-completions'} deleted" in said
    assert not (tmp_path / "m").exists()
    assert len(rows(tmp_path / "m-completions" / "completions.jsonl")) == 10


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--min-effect", "0.2"), "give --from-search too"),
        (("--from-search", "nowhere", "--samples", "4"), "leave --samples out"),
        (("--from-search", "nowhere"), "nowhere"),
        (("--temperature", "0"), "give a --temperature above 0"),
        (("--no-thinking",), "leave --no-thinking out"),
        (("--problems", "7"), "7 problems are too few to learn from: give at least 8"),
        (("--examples", "3", "--micro-batch", "2"), "give other --examples or --micro-batch"),
        (("--trl-setting", "nonsense=1"), "no field of TRL's SFTConfig"),
        (("--trl-setting", "packing=true"), "is set by an option of pts"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(tmp_path, capsys, arguments, said):
    assert said in complaint(capsys, "train", "shorten", *arguments, "--output", str(tmp_path / "m"), "--quiet")
    assert list(tmp_path.iterdir()) == []


def test_what_is_drawn_first_has_a_directory_of_its_own(tmp_path, capsys):
    for method, option in (("shorten", "--completions"), ("adaptthink", "--references")):
        both = ["--output", str(tmp_path / "m"), option, str(tmp_path / "x" / ".." / "m")]
        assert f"give another {option}, or leave it out" in complaint(capsys, "train", method, *both)
    assert list(tmp_path.iterdir()) == []


def test_a_loss_that_is_no_number_is_one_line(whole, tmp_path, capsys):
    kept = ["--completions", str(whole.parent / "whole-completions"), "--output", str(tmp_path / "m")]
    said = complaint(capsys, *COMMAND, *kept, "--learning-rate", "1e30", "--warmup", "0", "--quiet")
    assert "is not a number: give a lower --learning-rate" in said


def test_the_learning_rate_is_that_of_supervised_training():
    assert [ShortenInputs("a/b", lora=lora).rate() for lora in (False, True)] == [2e-5, 2e-4]
    assert [LengthInputs("a/b", lora=lora).rate() for lora in (False, True)] == [2e-6, 2e-5]
    assert (ShortenInputs().rate(), ShortenInputs("a/b", learning_rate=0.1).rate()) == (1e-3, 0.1)


def test_a_recipe_evaluates_what_it_has_shortened(tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text("stages:\n  - stage: train-shorten\n    output: models/short\n  - stage: eval\n")
    train, evaluate = read_recipe(str(recipe))
    assert train.inputs.method == "shorten"
    assert evaluate.inputs.model == "models/short"
