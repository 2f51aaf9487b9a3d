"""One message, three readers: a setting is named as whoever reads it would write it."""

import click
import pytest

from pts.cli.commands import _COMMANDS, cli
from pts.errors import ConfigError, RunError
from pts.setting_names import InRecipe, in_python, named_as, on_command_line, setting
from pts.stages.recipe.names import named_in_recipe

KEYS = {
    "search": ["output", "problems", "chat_template", "fresh"],
    "extract-vectors": ["output", "until", "seed"],
}
OF_CLICK = {"as_json", "quiet", "verbose", "help", "version", "first", "last", "settings", "listing"}
"""Parameters of commands that are no setting of a stage."""
OF_FILES = {"show", "source", "target", "top", "problem", "license_id", "patterns", "form"}
"""Parameters with a name of their own in a command."""


@pytest.mark.parametrize(
    ("name", "value", "python", "command", "recipe"),
    [
        ("seed", None, "seed=", "--seed", "extract-vectors.seed"),
        ("output", None, "output=", "--output", "extract-vectors.output"),
        ("problems", 3, "problems=3", "--problems 3", "search.problems=3"),
        ("problems", 1, "problems=1", "--problems 1", "search.problems=1"),
        ("chat_template", False, "chat_template=False", "--no-chat-template", "search.chat_template=false"),
        ("chat_template", True, "chat_template=True", "--chat-template", "search.chat_template=true"),
        ("dtype", "float32", "dtype='float32'", "--dtype float32", "--dtype float32"),
        ("continuations", None, "continuations=", "--continuation", "--continuation"),
        ("fresh", None, "fresh=", "--fresh", "--fresh"),
        ("until", "harvest", "until='harvest'", "--until harvest", "--until harvest"),
    ],
)
def test_each_reader_gets_the_name_that_they_write(name, value, python, command, recipe):
    assert setting(name, value) == in_python(name, value) == python
    with named_as(on_command_line):
        assert setting(name, value) == command
        with named_as(InRecipe("extract-vectors", KEYS)):
            assert setting(name, value) == recipe
        assert setting(name, value) == command


def test_a_key_of_two_other_stages_is_named_as_an_option():
    assert InRecipe("publish", KEYS)("output") == "--output"


def test_an_error_in_a_recipe_says_how_its_key_is_set():
    with pytest.raises(RunError) as raised, named_in_recipe("search", KEYS):
        raise RunError(f"give another {setting('output')}.")
    assert str(raised.value) == (
        "give another search.output. (A key of the recipe can be set by --set search.output=VALUE.)"
    )


def test_an_error_without_a_key_stays_as_it_is():
    with pytest.raises(ConfigError, match=r"^nothing of settings\.$"), named_in_recipe("search", KEYS):
        _warn_and_fail()


def _warn_and_fail():
    setting("output")  # in a warning, say
    raise ConfigError("nothing of settings.")


def commands():
    pending = [(name, cli.get_command(None, name)) for name in _COMMANDS]
    while pending:
        name, command = pending.pop()
        if isinstance(command, click.Group):
            pending += [(f"{name} {each}", command.commands[each]) for each in command.commands]
        else:
            yield name, command


@pytest.mark.parametrize(
    ("name", "command"), list(commands()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_what_messages_call_an_option_is_what_the_option_is_called(name, command):
    for parameter in command.params:
        if isinstance(parameter, click.Option) and parameter.name not in OF_CLICK | OF_FILES:
            assert on_command_line(parameter.name) in parameter.opts, f"{name}: {parameter.opts}"
            for negative in parameter.secondary_opts:
                assert on_command_line(parameter.name, False) == negative
