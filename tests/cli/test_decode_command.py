"""`pts decode`: one prompt, a comparison, a file of questions; bad input; a run that was stopped."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from pts.cli import run
from pts.demo.registration import demo_model_dir

QUESTION = "What is 27 + 8 - 9 ?"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def decode_json(capsys, *arguments):
    assert run(("decode", "--json", *arguments)) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return json.loads(captured.out)


def write_lines(path, *lines):
    path.write_text("".join(line + "\n" for line in lines))
    return str(path)


def question_line(text, **more):
    return json.dumps({"question": text, **more})


def test_a_prompt_is_answered_and_its_text_is_what_the_ledger_counts(capsys):
    assert run(("decode", QUESTION)) == 0
    captured = capsys.readouterr()
    found = decode_json(capsys, QUESTION)
    assert captured.out == f"{found['thinking']} {found['answer']}\n"
    ledger = found["ledger"]
    assert ledger["thinking"] == len(found["thinking"].split())
    assert ledger["answer"] == len(found["answer"].split()) + 1
    assert ledger["total"] == ledger["thinking"] + ledger["answer"]
    assert captured.err.startswith(
        f"pts: full: {ledger['thinking']} thinking + {ledger['answer']} answer tokens"
    )


def test_quiet_leaves_the_answer_and_nothing_else(capsys):
    assert run(("decode", QUESTION)) == 0
    shown = capsys.readouterr().out
    assert run(("decode", QUESTION, "--quiet")) == 0
    assert capsys.readouterr() == (shown, "")
    assert run(("decode", QUESTION, "--quiet", "--compare")) == 0
    assert capsys.readouterr().out.startswith(f"unsteered: {shown}steered: ")


def test_a_comparison_is_the_model_as_it_is_beside_the_steered_one(capsys):
    unsteered, steered = decode_json(capsys, "--compare", QUESTION)
    assert (unsteered["steered"], steered["steered"]) == (False, True)
    assert unsteered["thinking"] == decode_json(capsys, QUESTION)["thinking"]
    assert steered["thinking"] == decode_json(capsys, "--vectors", "demo", QUESTION)["thinking"]
    assert steered["thinking"] != unsteered["thinking"]
    still = decode_json(capsys, "--compare", "--vectors", "demo", "--pattern", "all=0", QUESTION)
    assert still[0]["thinking"] == still[1]["thinking"]


@pytest.mark.parametrize(
    ("arguments", "thinking", "answer"),
    [
        (("--strategy", "nothink"), 1, 96),
        (("--strategy", "budget:9"), 9, 96),
        (("--thinking-budget", "0.1"), 9, 96),
        (("--strategy", "nothink", "--answer-budget", "3"), 1, 3),
        (("--max-switches", "0", "--switch", "First"), 96, 96),
    ],
)
def test_budgets_are_kept(capsys, arguments, thinking, answer):
    ledger = decode_json(capsys, *arguments, QUESTION)["ledger"]
    assert ledger["thinking"] <= thinking
    assert ledger["answer"] <= answer
    assert ledger["budget_kept"]


def test_the_least_thinking_is_reached_by_continuations(capsys):
    found = decode_json(capsys, "--min-thinking", "70", QUESTION)
    assert found["ledger"]["thinking"] >= 70
    assert 1 <= found["ledger"]["injected"] <= found["thinking"].count("Wait")


def test_every_strategy_is_listed_with_its_source(capsys):
    assert run(("decode", "--list-strategies")) == 0
    listed = capsys.readouterr().out.splitlines()
    assert {"full", "nothink", "budget:N", "min:N"} <= {line.split()[0] for line in listed}
    assert all(line.endswith(")") and "(" in line for line in listed)


def test_the_bad_lines_of_a_file_are_named_and_the_others_answered(capsys, tmp_path):
    long = "What is " + "1 + " * 300 + "1 ?"
    source = write_lines(
        tmp_path / "q.jsonl",
        question_line("What is 2 + 5 ?"),
        "not json",
        json.dumps({"id": "z", "messages": [{"role": "user", "content": "What is 9 + 5 ?"}]}),
        question_line("  "),
        '{"x": 1}',
        '{"messages": "hello"}',
        question_line(long),
        '{"question": 5}',
        "",
        question_line("What is 3 + 5 ?", id="last"),
        question_line("What is 4 + 5 ?", id={"a": 1}),
    )
    assert run(("decode", "--input", source, "--output", "a.jsonl", "--quiet")) == 1
    said = capsys.readouterr().err.splitlines()
    assert [line.split(" line ")[1].split()[0] for line in said] == ["2", "4", "5", "6", "7", "8", "11"]
    reasons = (
        "JSON",
        "empty",
        "no question",
        "messages",
        "exceed",
        "its question is not text",
        "its id is neither",
    )
    for line, reason in zip(said, reasons, strict=True):
        assert reason in line
    answers = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [(answer["line"], answer["id"]) for answer in answers] == [(1, "1"), (3, "z"), (10, "last")]
    assert all(answer["ledger"]["total"] > 0 for answer in answers)


def test_a_prompt_that_the_second_model_or_an_instruction_makes_too_long_is_a_bad_line(capsys, tmp_path):
    shutil.copytree(demo_model_dir(), tmp_path / "small")
    config = tmp_path / "small" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "max_position_embeddings": 112}))
    source = write_lines(
        tmp_path / "q.jsonl", question_line("What is 2 + 5 ?"), question_line("What is 2 + 5 - 3 + 4 - 1 + 8 ?")
    )
    fits = ("--budget", "96", "--quiet")
    escalate = ("--strategy", "escalate", "--second-model", "small")
    assert run(("decode", "--input", source, "--output", "e.jsonl", *escalate, *fits)) == 1
    assert "line 2 was left out: a prompt of" in capsys.readouterr().err
    small = ("--model", "small", "--strategy", "concise:9", "--input", source)
    assert run(("decode", *small, "--output", "c.jsonl", "--budget", "85", "--quiet")) == 1
    assert "line 2 was left out: a prompt of" in capsys.readouterr().err
    for name in ("e.jsonl", "c.jsonl"):
        assert [json.loads(line)["line"] for line in (tmp_path / name).read_text().splitlines()] == [1]


def test_a_budget_below_an_end_of_thinking_of_two_tokens(capsys, tmp_path):
    shutil.copytree(demo_model_dir(), tmp_path / "model")
    template = tmp_path / "model" / "chat_template.jinja"
    template.write_text(template.read_text() + "{# . </think> #}")
    tags = ("--model", "./model", "--budget", "96", "--think-start", "<think>", "--think-end", ". </think>")
    assert run(("decode", *tags, "--strategy", "budget:1", QUESTION)) == 2
    assert "a thinking budget of 1 tokens is below the 2 that end thinking: give" in capsys.readouterr().err
    assert decode_json(capsys, *tags, "--strategy", "budget:2", QUESTION)["ledger"]["thinking"] == 2


def test_a_minimum_that_leaves_no_room_for_an_answer_is_told_of(capsys):
    assert run(("decode", "--strategy", "min:95", QUESTION)) == 0
    assert "at least 95 tokens of a total of 96: there is no room for an answer" in capsys.readouterr().err


def test_a_budget_above_the_total_is_told_of(capsys):
    assert run(("decode", "--strategy", "budget:97", QUESTION)) == 0
    assert (
        "may think for 97 tokens of a total of 96: in effect, only the total limits it"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "give either a prompt"),
        (("x", "--input", "q.jsonl", "--output", "o"), "a file of questions with --input"),
        (("--input", "q.jsonl"), "--output"),
        (("--input", "nowhere.jsonl", "--output", "o"), "nowhere.jsonl cannot be read"),
        (("--input", "empty.jsonl", "--output", "o"), "empty"),
        (("--input", "q.jsonl", "--output", "there.jsonl"), "there.jsonl already exists"),
        (("",), "the prompt is empty"),
        (("1 " * 900,), "exceed the model's 512 positions"),
        (("--strategy", "buget:12", "x"), "did you mean budget?"),
        (("--strategy", "budget", "x"), "budget:64"),
        (("--strategy", "budget:0", "x"), "above 0"),
        (("--strategy", "min:97", "x"), "a minimum of 97 tokens of thinking is more than the total of 96"),
        (("--strategy", "auto", "--class-budget", "hard=-5", "x"), "class-budget is 'hard=-5'"),
        (("--strategy", "auto", "--router", "none/such", "x"), "there is no router none/such"),
        (("--strategy", "reject:2", "--scorer", "boom.py:boom", "x"), "boom.py:boom failed: ValueError: no"),
        (("--strategy", "full:3", "x"), "takes no number"),
        (("--thinking-budget", "1.5", "x"), "1.5"),
        (("--thinking-budget", "many", "x"), "many"),
        (("--pattern", "all", "x"), "--vectors"),
        (("--vectors", "demo", "--pattern", "nope", "x"), "nope"),
        (("--vectors", "demo", "--pattern", "all=strong", "x"), "strong"),
        (("--vectors", "nowhere", "x"), "nowhere"),
        (("--vectors", "demo", "--vectors-revision", "v1", "x"), "demo is not on the Hub and has no revisions"),
        (("--vectors-revision", "v1", "x"), "--vectors-revision needs a vector set"),
        (("--revision", "main", "x"), "--revision main needs a model on the hub, and demo is not"),
        (("--compare", "--model", "./m", "x"), "--vectors"),
        (("--batch-rows", "0", "x"), "batch-rows"),
        (("--think-start", "<a>", "--think-end", "<b>", "x"), "think tag"),
        (("--budget", "0", "x"), "budget is 0"),
        (
            ("--exit-threshold", "0.5", "x"),
            "--exit-threshold has no effect on the strategy full: leave it out, or choose one of early-exit",
        ),
        (
            ("--continuation", "Wait", "x"),
            "--continuation has no effect on the strategy full without --min-thinking: leave it out",
        ),
        (
            ("--strategy", "min:9", "--switch", "Wait", "x"),
            "--switch has no effect on the strategy min:9 without --max-switches",
        ),
        (
            ("--strategy", "nothink", "--max-switches", "3", "x"),
            "--max-switches has no effect on the strategy nothink",
        ),
        (("--strategy", "auto", "--router", "lenght", "x"), "did you mean length?"),
        (("--strategy", "auto", "--class-budget", "deep=9", "x"), "it has none, easy, hard"),
        (("--strategy", "auto", "--thinking-budget", "9", "x"), "--thinking-budget has no effect on"),
        (("--strategy", "escalate", "x"), "give --second-model"),
        (("--strategy", "escalate", "--second-model", "nowhere", "x"), "nowhere"),
        (("--where", "always", "x"), "give one by --vectors"),
        (("--where", "nowhere", "x"), "--where"),
    ],
)
def test_bad_settings_are_one_line(capsys, tmp_path, arguments, said):
    write_lines(tmp_path / "q.jsonl", question_line("What is 2 + 5 ?"))
    write_lines(tmp_path / "empty.jsonl")
    write_lines(tmp_path / "there.jsonl", "kept")
    write_lines(tmp_path / "boom.py", "def boom(written):", "    raise ValueError('no')")
    before = {path.name for path in tmp_path.iterdir()}
    assert run(("decode", *arguments)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("pts: ")
    assert captured.err.count("\n") == 1
    assert said in captured.err
    assert {path.name for path in tmp_path.iterdir()} == before
    assert (tmp_path / "there.jsonl").read_text() == "kept\n"


def answers_of(path):
    """The answers without the clock's part."""
    found = [json.loads(line) for line in path.read_text().splitlines()]
    for answer in found:
        del answer["ledger"]["seconds"]
    return found


@pytest.mark.slow
def test_a_stopped_file_goes_on_to_the_same_answers(capsys, tmp_path):
    source = write_lines(
        tmp_path / "q.jsonl", *(question_line(f"What is {20 + n} + 8 - 9 ?") for n in range(24))
    )
    command = ("decode", "--input", source, "--quiet", "--batch-rows", "2")
    assert run((*command, "--output", "whole.jsonl")) == 0
    process = subprocess.Popen(
        [sys.executable, "-m", "pts", *command, "--output", "cut.jsonl"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    part, target = tmp_path / "cut.jsonl.part", tmp_path / "cut.jsonl"
    while process.poll() is None and (not part.exists() or part.read_bytes().count(b"\n") < 3):
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert (process.returncode, err.count("\n")) == (130, 1)
    assert "goes on" in err
    assert not target.exists()
    with part.open("ab") as file:
        file.write(b'{"line": 7, "half')
    kept = part.read_bytes().count(b"\n")
    assert 2 <= kept < 25  # a line that was being written is undone
    capsys.readouterr()
    assert run((*command, "--output", "cut.jsonl", "--seed", "5")) == 2
    assert "other settings" in capsys.readouterr().err
    assert run((*command, "--output", "cut.jsonl")) == 0
    assert answers_of(target) == answers_of(tmp_path / "whole.jsonl")
    assert not part.exists()


def test_a_file_is_not_gone_on_with_by_a_scorer_that_changed(capsys, tmp_path):
    source = write_lines(
        tmp_path / "q.jsonl", question_line("What is 2 + 5 ?"), question_line("What is 3 + 5 ?")
    )
    scorer = tmp_path / "mine.py"
    # The second question is not answered: its scorer fails.
    write_lines(scorer, "def score(w):", "    return 1.0 if w.question.startswith('What is 2') else 1 / 0")
    command = ("decode", "--input", source, "--output", str(tmp_path / "a.jsonl"), "--quiet")
    command += ("--strategy", "reject:2", "--scorer", f"{scorer}:score")
    assert run(command) == 2
    assert "ZeroDivisionError" in capsys.readouterr().err
    write_lines(scorer, "def score(w):", "    return 2.0")
    assert run(command) == 2
    assert "other settings" in capsys.readouterr().err


def test_a_router_is_named_and_its_classes_get_budgets(capsys):
    command = ("--strategy", "auto", "--router", "length:0-64", QUESTION)
    free = decode_json(capsys, *command)
    found = decode_json(capsys, "--class-budget", "easy=6-9", "--answer-budget", "4", *command)
    assert (free["route"], found["route"]) == ("easy", "easy")
    assert free["ledger"]["thinking"] > 9
    assert 6 <= found["ledger"]["thinking"] <= 9
    assert found["ledger"]["answer"] == 4
    turned = decode_json(
        capsys, "--class-budget", "easy=0.6-0.9", "--max-switches", "1", "--switch", "Wait", *command
    )
    assert turned["thinking"].split().count("Wait") <= 2


def test_the_vectors_own_router_is_used_at_the_price_asked(capsys):
    command = ("--strategy", "auto", "--vectors", "demo", QUESTION)
    assert decode_json(capsys, *command)["route"] in ("none", "easy", "hard")
    assert decode_json(capsys, "--token-price", "1", *command)["route"] == "none"
    assert decode_json(capsys, "--token-price", "1", "--router", "probe", *command)["route"] == "none"


def test_parts_of_the_other_strategies(capsys, tmp_path):
    early = decode_json(capsys, "--strategy", "early-exit", "--exit-threshold", "0.01", QUESTION)
    assert early["route"] == "early"
    second = ("--second-model", "demo", "--second-dtype", "float32", "--escalate-threshold")
    assert decode_json(capsys, "--strategy", "escalate", *second, "1", QUESTION)["route"] == "second"
    assert decode_json(capsys, "--strategy", "escalate", *second, "0", QUESTION)["route"] == "first"
    (tmp_path / "mine.py").write_text("def short(written):\n    return -len(written.completion)\n")
    rejected = decode_json(
        capsys, "--strategy", "reject:6", "--scorer", "mine.py:short", "--reject-step", "96", QUESTION
    )
    longer = decode_json(capsys, "--strategy", "reject:6", "--reject-step", "96", QUESTION)
    assert len(rejected["thinking"]) <= len(longer["thinking"])


def test_where_the_vectors_are_on(capsys):
    texts = {
        where: decode_json(
            capsys, "--vectors", "demo", "--pattern", "all=3", "--where", where, "--seed", "2", QUESTION
        )["thinking"]
        for where in ("gate", "always", "context")
    }
    assert len(set(texts.values())) > 1


@pytest.fixture
def no_template(tmp_path):
    """The demo model without its chat template."""
    path = tmp_path / "bare"
    shutil.copytree(demo_model_dir(), path)
    (path / "chat_template.jinja").unlink()
    return str(path)


def test_messages_need_a_chat_template(capsys, tmp_path, no_template):
    source = write_lines(
        tmp_path / "q.jsonl",
        json.dumps({"messages": [{"role": "user", "content": "What is 9 + 5 ?"}]}),
        question_line("What is 2 + 5 ?"),
    )
    command = ("decode", "--model", no_template, "--input", source, "--output", "a.jsonl", "--quiet")
    assert run((*command, "--no-chat-template", "--budget", "96")) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"pts: {source} line 1 was left out: ")
    assert "chat template" in said
    (answer,) = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert answer["line"] == 2


def test_vectors_of_another_model(capsys, no_template):
    assert run(("decode", "--model", no_template, "--vectors", "demo", "--no-chat-template", "x")) == 2
    said = capsys.readouterr().err
    assert said.startswith("pts: the vectors were made for demo")
    assert said.count("\n") == 1
