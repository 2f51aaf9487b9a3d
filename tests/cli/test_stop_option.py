"""`--stop` on the demo: in decode, eval and search, and in what goes on from them."""

import json

import pytest

from pts.cli import run
from pts.cli.options import StopText
from pts.cli.streaming import streamed
from pts.decoding import SteeredDecoder
from pts.errors import ConfigError
from pts.models.load import load_model
from pts.models.options import ModelOptions
from pts.records import Sampling
from pts.runs.search_run import read_search
from pts.stages.evaluate.inputs import EvaluateInputs
from pts.stages.recipe.read import read_recipe
from pts.stages.search.given_traces import encode_traces
from pts.stages.search.inputs import SearchInputs
from pts.stages.search.reload import searched_inputs

QUESTION = "What is 27 + 8 - 9 ?"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="module")
def demo():
    return load_model(ModelOptions("demo"))


def decode_json(capsys, *arguments):
    assert run(("decode", "--json", QUESTION, *arguments)) == 0
    return json.loads(capsys.readouterr().out)


def test_an_answer_ends_at_the_stop_text_and_is_whole(capsys):
    free = decode_json(capsys)
    first, word = free["answer"].rsplit(" ", 2)[0], free["answer"].split()[-2]
    found = decode_json(capsys, "--stop", "never written", "--stop", f"{first} {word}"[-5:])
    assert free["answer"].startswith(found["answer"])
    assert found["thinking"] == free["thinking"]
    assert found["ledger"]["finish"] == "stop text"
    assert found["ledger"]["answer"] == free["ledger"]["answer"] - 2  # the full stop and the end token
    assert run(("decode", QUESTION, "--stop", f"{first} {word}"[-5:])) == 0
    captured = capsys.readouterr()
    assert captured.out.strip() == f"{found['thinking']} {found['answer']}".strip()
    assert "stop text" in captured.err
    assert "cut" not in captured.err


def test_a_stop_text_in_the_thinking_or_across_its_end_leaves_no_answer(capsys):
    free = decode_json(capsys)
    *before, tag = free["thinking"].split()
    for stop in (before[-1], f"{before[-1]} {tag} {free['answer'].split()[0]}"):
        found = decode_json(capsys, "--stop", stop)
        assert found["answer"] == ""
        assert free["thinking"].startswith(found["thinking"])
        assert stop not in found["thinking"]
        assert found["ledger"]["finish"] == "stop text"


@pytest.mark.parametrize(
    ("spec", "stop"), [("best-of:3", " is"), ("reject:2", " is"), ("early-exit", " </think> The")]
)
def test_votes_and_trials_read_up_to_it(demo, spec, stop):
    decoder = SteeredDecoder(demo, strategy=spec, sampling=Sampling(budget=96, stop=(stop,)))
    answers = decoder.generate([QUESTION, "What is 3 + 4 ?"])
    for answer in answers:
        assert stop not in answer.text
        assert answer.thinking + answer.answer in (
            answer.text,
            answer.text.rstrip(),
            answer.text.replace("> ", ">"),
        )
        assert answer.usage.finish in ("end", "stop text", "total limit")
    assert "stop text" in {answer.usage.finish for answer in answers}


@pytest.mark.parametrize(("spec", "stop"), [("early-exit", "answer is"), ("nothink", "</think>")])
def test_a_stop_text_in_what_a_strategy_puts_in_is_refused(demo, spec, stop):
    with pytest.raises(ConfigError, match="contains a stop text"):
        SteeredDecoder(demo, strategy=spec, sampling=Sampling(budget=96, stop=(stop,)))


def test_what_may_begin_a_stop_text_is_shown_only_when_it_is_none(capsys):
    pieces = ["7", "\n", "\nQ", "x", "\n\n", "Question", ":"]
    shown = []
    with streamed(
        lambda ids: "".join(pieces[i] for i in ids).split("\n\nQuestion:")[0], ("\n\nQuestion:",)
    ) as hear:
        for token in range(len(pieces)):
            hear(0, token)
            shown.append(capsys.readouterr().out)
    assert shown == ["7", "", "", "\n\nQx", "", "", ""]
    assert capsys.readouterr().out == "\n"


def test_a_backslash_is_read_as_the_help_says():
    read = StopText()
    given = (r"\n\nQuestion:", r"a\tb", r"\\n", r"\boxed", "\n")
    assert [read.convert(text, None, None) for text in given] == [
        "\n\nQuestion:",
        "a\tb",
        r"\n",
        r"\boxed",
        "\n",
    ]


def test_an_evaluation_grades_up_to_it(capsys, tmp_path):
    common = (
        "eval",
        "--problems",
        "2",
        "--levels",
        "1",
        "--seeds",
        "1",
        "--device",
        "cpu",
        "--strategies",
        "full",
    )
    arguments = (*common, "--no-baselines", "--quiet", "--output", "out")
    assert run((*arguments, "--stop", "The answer is")) == 0
    items = [json.loads(line) for line in (tmp_path / "out" / "items.jsonl").read_text().splitlines()]
    assert [(item["answer"], item["success"]) for item in items] == [("", False)] * 2
    assert {item["ledger"]["finish"] for item in items} == {"stop text"}
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["lines"][0]["cut"] == 0
    capsys.readouterr()
    assert run((*arguments, "--stop", "another")) == 2
    assert "stop" in capsys.readouterr().err


def test_a_search_is_of_completions_that_end_there(demo, capsys, tmp_path):
    # The value of a completion is whether the number that ends it is right, before the full stop.
    arguments = ("search", "--problems", "2", "--levels", "2", "--traces", "1", "--threshold", "0.3", "--quiet")
    assert run((*arguments, "--range", "0.05", "0.98", "--stop", " . <|im_end|>", "--output", "out")) == 0
    searched = read_search(tmp_path / "out")
    assert searched.manifest.settings["sampling"]["stop"] == [" . <|im_end|>"]
    assert searched_inputs(searched).sampling().stop == (" . <|im_end|>",)
    traces = [trace for result in searched.results for trace in result.traces]
    assert traces
    for trace in traces:
        assert trace.tokens[-2:] == (".", "<|im_end|>")
    assert run((*arguments, "--stop", "other", "--output", "out")) == 2
    assert "stop" in capsys.readouterr().err


def test_runs_without_a_stop_text_are_what_they_were():
    for given in (SearchInputs(), EvaluateInputs()):
        assert set(given.settings()["sampling"]) == {"temperature", "top_k", "top_p", "min_p", "budget"}
    with pytest.raises(ConfigError, match="a stop text is empty"):
        SearchInputs(stop=("",))
    with pytest.raises(ConfigError, match=r"stop= .* UTF-8"):
        SearchInputs(stop=("fine", "\udcff"))


def test_a_cut_answer_without_a_template_names_the_option(capsys):
    for more, named in (((), True), (("--stop", "never"), False)):
        assert run(("decode", QUESTION, "--no-chat-template", "--budget", "8", *more)) == 0
        assert ("--stop" in capsys.readouterr().err) is named


def test_a_recipe_takes_it_as_it_is_written(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text('stages:\n  - {stage: search, stop: ["\\n\\nQuestion:", "b"]}\n')
    (stage,) = read_recipe(str(path), ())
    assert stage.inputs.stop == ("\n\nQuestion:", "b")


def test_given_completions_are_searched_up_to_it(demo, caplog):
    from pts.policies.transformers import TransformersPolicy

    policy = TransformersPolicy(demo)
    sampling = Sampling(budget=20, stop=("answer is",))
    known = policy.encode_completion("The answer is 7 .")
    given = {"a": [known, "The answer is 7 .", "7 .", known[:3]]}
    end = demo.tokenizer.eos_token_id
    seven = policy.encode_completion("7 .")
    assert encode_traces(given, policy, sampling) == {"a": [known[:3], known[:3], (*seven, end), known[:3]]}
    assert "2 of the given completions continue after a stop text" in caplog.text
