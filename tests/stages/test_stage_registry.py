"""Every stage is one object: registered once, with inputs, and used by recipes and commands alike."""

import subprocess
import sys
from dataclasses import fields, is_dataclass

import pytest

from pts.cli.commands import summaries
from pts.stages.registry import find_stage, stage_names
from pts.stages.stage import Context, Step


@pytest.mark.parametrize("name", stage_names())
def test_a_stage_is_found_by_its_name_and_its_keys_are_fields(name):
    stage = find_stage(name)
    assert stage.name == name
    assert is_dataclass(stage.inputs)
    keys = {field.name for field in fields(stage.inputs)}
    assert set(stage.takes) <= keys
    for source in stage.takes.values():
        assert set(source.stages) <= set(stage_names())
        # What fills a key is the directory of its maker.
        assert all(find_stage(maker).directory is not None for maker in source.stages)
        assert source.unless is None or source.unless in keys
    assert not stage.parts or "until" in keys
    assert not stage.remakes or (stage.status is not None and "fresh" in keys)


def test_commands_say_of_their_stages_what_the_stages_say():
    commands = {"push-to-hub" if name == "publish" else name: find_stage(name) for name in stage_names()}
    said = summaries()
    shared = [name for name in commands if name in said]
    assert shared == ["search", "merge", "extract-vectors", "fit-router", "eval", "report", "push-to-hub"]
    assert {name: said[name] for name in shared} == {name: commands[name].summary for name in shared}


def test_every_stage_with_a_directory_says_what_is_new_in_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = {
        "search": {"output": tmp_path / "s"},
        "extract-vectors": {"run": tmp_path / "s", "output": tmp_path / "v"},
        "fit-router": {"run": tmp_path / "s", "output": tmp_path / "r"},
        "eval": {"output": tmp_path / "e"},
    }
    for name, keys in given.items():
        stage = find_stage(name)
        step = Step(stage, stage.inputs(**keys))
        assert step.status is not None
        assert step.status.state == "new"
        plan = stage.plan(step.inputs, Context())
        assert (plan.deletes, plan.idle) == (False, False)
        assert plan.text.startswith(f"{name}: writes ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("line", [["--help"], ["run", "--list"], ["search", "--help"]])
def test_help_and_lists_import_nothing_heavy(line):
    code = (
        "import sys; from pts.cli import run; run(sys.argv[1:]);"
        "print({'torch', 'transformers', 'datasets', 'scipy', 'pyarrow'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, *line], capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines()[-1] == "set()"
