"""The commands and snippets of the README on decoding and evaluation run as they are shown, with the demo."""

import json
import re
import shlex
from pathlib import Path

import pytest

from pts.cli import run
from pts.stages.search.inputs import SearchInputs
from pts.stages.search.run import run_search

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
SMALL = {
    "eval": ("--problems", "2", "--levels", "1", "--quiet"),
    "fit-router": ("--problems", "40", "--samples", "1", "--quiet"),
}
"""Added to what would take minutes."""


def section(title):
    return re.search(rf"^## {title}\n(.*?)(?=^## )", README, re.MULTILINE | re.DOTALL).group(1)


def snippets(title):
    return re.findall(r"^```python\n(.*?)^```", section(title), re.MULTILINE | re.DOTALL)


def commands(title):
    blocks = re.findall(r"^```\n(.*?)^```", section(title), re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("pts ")]
    return [tuple(shlex.split(line, comments=True)[1:]) for line in lines]


@pytest.fixture(scope="module")
def demo_run(tmp_path_factory):
    """A directory with what the commands read: a searched run and a file of questions."""
    path = tmp_path_factory.mktemp("readme")
    # Not by the command, whose log would stay as it is for every test after this module.
    run_search(SearchInputs(problems=4, levels=(2,), output=path / "runs" / "demo"))
    (path / "questions.jsonl").write_text(json.dumps({"question": "What is 12 + 5 ?"}) + "\n")
    return path


@pytest.mark.slow
@pytest.mark.parametrize("command", commands("Decoding") + commands("Evaluation"), ids=" ".join)
def test_commands(demo_run, monkeypatch, capsys, command):
    monkeypatch.chdir(demo_run)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert run((*command, *SMALL.get(command[0], ()))) == 0
    assert capsys.readouterr().out or (demo_run / "answers.jsonl").exists()


@pytest.mark.parametrize("title", ["Decoding", "Steering vectors", "From Python"])
def test_snippets(title, capsys):
    assert snippets(title)
    for code in snippets(title):
        exec(compile(code, f"README, {title}", "exec"), {})
        assert capsys.readouterr().out


def test_the_section_on_decoding_lists_its_commands():
    named = {command[0] for command in commands("Decoding")}
    assert named == {"decode", "fit-router"}
    assert {command[0] for command in commands("Evaluation")} == {"eval"}
