"""What `import pts` offers, used as the README shows it."""

import subprocess
import sys

import pytest

import pts


@pytest.fixture(scope="module")
def model():
    return pts.load_model("demo")


@pytest.fixture(scope="module")
def run(model, tmp_path_factory):
    output = tmp_path_factory.mktemp("front") / "run"
    return pts.search(model, limit=6, levels=[2], output=output)


def test_import_loads_nothing_heavy():
    heavy = ("torch", "transformers", "numpy", "click")
    code = f"import sys, pts; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there_and_documented():
    for name in pts.__all__:
        found = getattr(pts, name)
        assert found.__doc__, name
        # A dataclass without a docstring gets its signature as one.
        assert not found.__doc__.startswith(f"{name}("), name
    assert set(pts.__all__) <= set(dir(pts))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        pts.nothing  # noqa: B018


def test_importing_the_package_of_the_search_leaves_the_function():
    import pts.pivot_search.config

    assert callable(pts.search)


def test_a_run_prints_its_findings_and_is_a_table(run):
    table = run.to_pandas()
    assert len(table) == len(run.findings) > 0
    assert list(table["prob_delta"].abs()) == sorted(table["prob_delta"].abs(), reverse=True)
    first = run.findings[0]
    assert f"{first.prob_delta:+.2f}" in str(first)
    assert f"«{first.pivot_token.strip()}»" in str(first)
    assert "\n" not in str(first)
    assert str(run.path) in repr(run)
    assert first.pivot_token in run._repr_html_()


def test_a_run_is_read_again_and_continued(run, model):
    again = pts.load_run(run.path)
    assert again.findings == run.findings
    more = pts.search(model, limit=6, levels=[2], output=run.path)
    assert more.summary == run.summary
    with pytest.raises(pts.RunError, match="does not exist"):
        pts.load_run(run.path / "nowhere")


def test_a_list_of_problems_becomes_a_file_that_the_command_line_reads(tmp_path, capsys):
    from pts.cli import run as command

    problems = [("What is 12 + 5 - 9 ?", "8"), {"question": "What is 27 + 8 ?", "answer": 35}]
    run = pts.search("demo", problems, output=tmp_path / "own", budget=96)
    assert run.summary.problems == 2
    (written,) = tmp_path.glob("problems-*.jsonl")
    arguments = ["search", "--dataset", str(written), "--output", str(tmp_path / "own"), "--budget", "96"]
    assert command([*arguments, "--quiet"]) == 0
    assert "complete" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("problems", "said"),
    [
        ([], "no problems"),
        ([("alone",)], "problem 0"),
        ([{"question": "q"}], "problem 0"),
        (20, "problems is 20.*limit=20"),
        (None, "problems is NoneType"),
        ([("q", None)], "problem 0 has no answer"),
        ([("", "a")], "problem 0 has no question"),
    ],
)
def test_bad_problems_are_refused(tmp_path, problems, said):
    with pytest.raises(pts.DataError, match=said):
        pts.search("demo", problems, output=tmp_path / "bad")
    assert list(tmp_path.iterdir()) == []


def test_unknown_settings_are_named(tmp_path):
    with pytest.raises(pts.ConfigError, match=r"has no setting treshold.*Did you mean threshold"):
        pts.search("demo", treshold=0.3, output=tmp_path / "run")
    with pytest.raises(pts.ConfigError, match=r"threshold.*number"):
        pts.search("demo", threshold="high", output=tmp_path / "run")
    with pytest.raises(pts.ConfigError, match="dataset follows from the other arguments"):
        pts.search("demo", dataset="demo", output=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_model_in_memory_is_searched_and_named(model, tmp_path):
    given = pts.load_model(model.model, model.tokenizer, name="mine")
    assert given.model is model.model
    by_name = pts.search(model, limit=3, levels=[2], output=tmp_path / "name")
    by_object = pts.search(given, limit=3, levels=[2], budget=96, output=tmp_path / "object")
    assert by_object.summary.model_id == "mine"
    assert [f.prob_delta for f in by_object.findings] == [f.prob_delta for f in by_name.findings]
    with pytest.raises(pts.ModelError, match="was given in Python"):
        pts.search("memory:mine", limit=4, levels=[2], budget=96, output=by_object.path)


def test_a_model_in_memory_with_other_weights_does_not_continue_a_run(model, tmp_path):
    import copy

    given = pts.load_model(copy.deepcopy(model.model), model.tokenizer, name="mine")
    pts.search(given, limit=2, levels=[2], budget=96, output=tmp_path / "run")
    next(given.model.parameters()).mul_(1.5)
    changed = pts.load_model(given.model, given.tokenizer, name="mine")
    with pytest.raises(pts.RunError, match="model_revision"):
        pts.search(changed, limit=3, levels=[2], budget=96, output=tmp_path / "run")


@pytest.mark.parametrize(
    ("arguments", "options", "said"),
    [
        (("demo", object()), {}, "its own tokenizer"),
        ((object(),), {}, "not a causal language model"),
        (("nowhere/at/all",), {}, "does not exist"),
    ],
)
def test_what_is_no_model_is_refused(arguments, options, said):
    with pytest.raises(pts.PtsError, match=said):
        pts.load_model(*arguments, **options)


def test_a_model_in_memory_needs_its_tokenizer_and_keeps_its_dtype(model):
    with pytest.raises(pts.ModelError, match="needs its tokenizer"):
        pts.load_model(model.model)
    with pytest.raises(pts.ConfigError, match="leave out dtype"):
        pts.load_model(model.model, model.tokenizer, dtype="float16")


def test_generate_takes_texts_and_ids(model):
    import torch

    one = model.generate("What is 12 + 5 ?", max_new_tokens=60, do_sample=False)
    assert model.generate(["What is 12 + 5 ?"], max_new_tokens=60, do_sample=False) == [one]
    assert "17" in one
    prompt = torch.tensor([model.tokenizer.encode("What is 12 + 5 ?")])
    ids = model.generate(prompt, max_new_tokens=2, do_sample=False)
    assert ids[:, : prompt.shape[1]].equal(prompt)


def test_steer_changes_generate_and_leaves_nothing(model):
    question = "What is 17 + 5 - 4 ?"
    before = model.generate(question, max_new_tokens=60, do_sample=False)
    with pts.steer(model, "demo", strength=1.0) as steering:
        steered = model.generate(question, max_new_tokens=60, do_sample=False)
        with pytest.raises(pts.ConfigError, match="being steered"):
            pts.decode(model, question)
    assert steering.positions_steered > 0
    assert steered != before
    assert model.generate(question, max_new_tokens=60, do_sample=False) == before
    assert pts.decode(model, question, budget=96).text


def test_steer_takes_one_of_patterns_and_strength(model):
    with pytest.raises(pts.ConfigError, match="not both"):
        pts.steer(model, "demo", {"all": 1.0}, strength=1.0)


def test_a_conversation_is_one_question(model):
    messages = [{"role": "user", "content": "What is 2 + 5 ?"}]
    one = pts.decode(model, messages, budget=96)
    assert one.completion == pts.decode(model, [messages], budget=96)[0].completion


def test_decode_answers_one_or_several(model):
    vectors = pts.load_vectors("demo")
    one = pts.decode(model, "What is 27 + 8 - 9 ?", strategy="auto", vectors=vectors, budget=96)
    several = pts.decode(
        model, ["What is 27 + 8 - 9 ?", "What is 2 + 5 ?"], strategy="auto", vectors="demo", budget=96
    )
    assert isinstance(one, pts.Answer)
    assert several[0].completion == one.completion
    assert str(one) == one.answer != ""
    assert len(several) == 2


def test_evaluate_is_a_table(model, tmp_path):
    table = pts.evaluate(
        model,
        "demo",
        strategies=["full", "nothink"],
        limit=4,
        seeds=1,
        baselines=False,
        output=tmp_path / "eval",
    )
    assert list(table.to_pandas()["name"]) == ["full", "nothink"]
    assert len(table.comparisons()) == len(table.summary.comparisons)
    assert "nothink" in repr(table)
    assert "nothink" in table._repr_html_()


def test_vectors_in_memory_are_saved_before_an_evaluation(model, tmp_path):
    fitted = pts.fit_vector(model, [("First , 27 + 8 = 36 .", " Wait", " Then")])
    with pytest.raises(pts.ConfigError, match="save_vectors"):
        pts.evaluate(model, limit=2, vectors=fitted, output=tmp_path / "eval")
    pts.save_vectors(fitted, tmp_path / "own")
    table = pts.evaluate(
        model,
        strategies=["full"],
        limit=2,
        seeds=1,
        baselines=False,
        vectors=tmp_path / "own",
        output=tmp_path / "eval",
    )
    assert "full + vectors" in list(table.to_pandas()["name"])
