"""What the help says of an option is what may be typed."""

import re

import click
import pytest

from pts.cli import run
from pts.cli.commands import _COMMANDS, cli
from tests.cli.one_line import complaint


def _options():
    for name in _COMMANDS:
        command = cli.get_command(None, name)
        context = click.Context(command)
        commands = [command]
        if isinstance(command, click.Group):
            commands = [command.get_command(context, one) for one in command.list_commands(context)]
        for one in commands:
            yield from ((one, option) for option in one.params if isinstance(option, click.Option))


def test_every_default_that_the_help_shows_can_be_typed():
    seen = 0
    for command, option in _options():
        record = option.get_help_record(click.Context(command))
        shown = re.search(r"\[default: ([^\]]*)\]", record[1]) if record else None
        if (
            shown is None
            or not isinstance(option.default, (int, float, tuple))
            or option.is_flag
            or option.multiple
        ):
            continue
        typed = tuple(shown.group(1).split(" ")) if option.nargs == 2 else shown.group(1)
        assert option.type_cast_value(click.Context(command), typed) == option.default, option.name
        seen += 1
    assert seen > 30


def test_one_thing_has_one_name_in_every_command():
    names = {}
    for command, option in _options():
        for spelled in option.opts:
            names.setdefault(spelled, {}).setdefault(option.name, []).append(command.name)
    renamed = {spelled: found for spelled, found in names.items() if len(found) > 1}
    # The commands of vectors and of export take several patterns under one option.
    assert set(renamed) <= {"--pattern", "--input", "--output", "--revision", "--json"}, renamed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("eval", "--sweep", "0.5", "--no-baselines"), "--sweep adds fixed budgets"),
        (("vectors", "measure", "demo", "--config", "main"), "--config needs a data set"),
        (("vectors", "measure", "demo", "--problems", "0"), "problems is 0"),
        (("vectors", "measure", "demo", "--batch-rows", "0"), "batch-rows is 0"),
        (("vectors", "measure", "demo", "--dataset", "nowhere.jsonl", "--config", "x"), "nowhere.jsonl"),
    ],
)
def test_what_cannot_be_used_is_said(capsys, arguments, said):
    assert said in complaint(capsys, *arguments)


def test_a_set_is_measured_on_a_file_with_its_own_fields(tmp_path, capsys):
    (tmp_path / "p.csv").write_text("nr,ask,right\n7,What is 12 + 5 ?,17\n8,What is 3 + 5 ?,8\n")
    command = ["vectors", "measure", "demo", "--dataset", str(tmp_path / "p.csv"), "--samples", "2"]
    fields = ["--question-field", "ask", "--answer-field", "right", "--id-field", "nr"]
    assert run([*command, *fields, "--batch-rows", "3", "--quiet"]) == 0
    assert "2 problems" in capsys.readouterr().out
