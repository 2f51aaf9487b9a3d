"""The README's Python runs as it is shown, and every command in the documents can be typed."""

import re
import shlex
from pathlib import Path

import click
import pytest

from pts.cli import run
from pts.cli.commands import cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [
    ROOT / "README.md",
    *sorted(ROOT.glob("docs/**/*.md")),
    ROOT / "benchmarks" / "results" / "README.md",
]


def blocks(text, language=""):
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(document):
    """The command lines that a document shows, in blocks and in its text."""
    text = document.read_text(encoding="utf-8")
    lines = [line for block in blocks(text) for line in block.splitlines()]
    lines += [re.sub(r"\\\|", "|", inline) for inline in re.findall(r"`(pts [^`\n]+)`", text)]
    found = [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("pts ")]
    # A command that is only named, such as `pts eval`, has nothing to check but its name.
    return [arguments for arguments in found if "..." not in arguments]


def parse(arguments):
    """Read a command line as the command does, without running it: its name and options must exist."""
    command, name = cli, "pts"
    while isinstance(command, click.Group) and arguments and not arguments[0].startswith("-"):
        child = command.get_command(click.Context(command), arguments[0])
        assert child is not None, f"{name} has no command {arguments[0]}"
        command, name, arguments = child, f"{name} {arguments[0]}", arguments[1:]
    if not isinstance(command, click.Group):
        # In running text an option may stand last without its value, as in `pts search --fdr`.
        named = arguments[-1:] if arguments and arguments[-1].startswith("--") else []
        known = {spelled for option in command.params for spelled in (*option.opts, *option.secondary_opts)}
        assert set(named) <= known, f"{name} has no option {named[0]}"
        command.make_parser(click.Context(command)).parse_args(arguments[: len(arguments) - len(named)])


SHOWN = [(document, arguments) for document in DOCUMENTS for arguments in commands(document)]


@pytest.mark.parametrize(
    ("document", "arguments"), SHOWN, ids=[f"{path.stem}: {' '.join(words)}" for path, words in SHOWN]
)
def test_every_command_in_the_documents_can_be_typed(document, arguments):
    parse(arguments)


def options_of(command):
    if isinstance(command, click.Group):
        context = click.Context(command)
        children = [command.get_command(context, name) for name in command.list_commands(context)]
        return set().union(*(options_of(child) for child in children))
    return {spelled for option in command.params for spelled in (*option.opts, *option.secondary_opts)}


PAGES = [path for path in DOCUMENTS if path.parent != ROOT / "benchmarks" / "results"]


@pytest.mark.parametrize("document", PAGES, ids=lambda path: path.stem)
def test_every_option_that_a_page_names_exists(document):
    text = re.sub(
        r"`(?:python|vllm|torchrun|accelerate launch) [^`]*`|^(?:python|vllm|torchrun|accelerate launch) .*$",
        "",
        document.read_text(encoding="utf-8"),
        flags=re.MULTILINE,
    )
    spans = [*re.findall(r"`([^`\n]+)`", text), *blocks(text)]
    named = {option for span in spans for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", span)}
    assert named <= options_of(cli) | {"--only", "--quick"}


def test_a_command_that_does_not_exist_would_be_found():
    with pytest.raises(AssertionError, match="no command vector"):
        parse(["vector", "show"])
    with pytest.raises(click.NoSuchOption):
        parse(["search", "--problem-count", "3"])
    assert len(SHOWN) > 30


@pytest.mark.slow
@pytest.mark.parametrize("code", blocks(README, "python"))
def test_the_python_of_the_readme_runs(code, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    exec(compile(code, "README", "exec"), {})
    assert capsys.readouterr().out


@pytest.mark.slow
def test_the_first_commands_of_getting_started_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    section = (ROOT / "docs" / "getting-started.md").read_text(encoding="utf-8").split("## The first search")[1]
    lines = blocks(section)[0].splitlines()
    assert [line.split()[1] for line in lines] == ["search", "show"]
    for line in lines:
        assert run((*shlex.split(line)[1:], *(["--quiet"] if line.startswith("pts search") else []))) == 0
    assert "Findings:" in capsys.readouterr().out


def test_the_readme_stays_short():
    assert len(README.splitlines()) <= 130
