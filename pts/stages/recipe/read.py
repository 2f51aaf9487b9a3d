"""Recipes: a YAML file whose stages run one after the other, each with exactly the keys of its dataclass."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from pts.errors import ConfigError
from pts.runs.codec import ShapeError, from_json, known_keys
from pts.stages.recipe.names import named_in_recipe
from pts.stages.registry import find_stage, stage_names
from pts.stages.stage import Stage, Step


def stage_keys(steps: Iterable[Step]) -> dict[str, list[str]]:
    """The keys that the stage of each step knows, by its name."""
    return {step.name: known_keys(step.stage.inputs) for step in steps}


def read_recipe(recipe: str, settings: Sequence[str] = ()) -> list[Step]:
    """The steps of a recipe, given by its path or by the name of a bundled one.

    `settings` are as `--set` takes them, KEY=VALUE or STAGE.KEY=VALUE with a YAML value, and go before what the
    recipe says. Raises ConfigError where there is no such recipe, it is not YAML, a stage or key is unknown,
    or a value is of the wrong type or outside its range; every stage is checked before any runs.
    """
    path = _find(recipe)
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"recipe {path} cannot be read: {error}") from error
    listed = data.get("stages") if isinstance(data, Mapping) else None
    if not isinstance(listed, list) or not listed or set(data) != {"stages"}:
        raise ConfigError(f"recipe {path} must have one key, stages, with a list of stages.")
    entries = [_entry(path, number, given) for number, given in enumerate(listed, start=1)]
    names = [entry.name for entry in entries]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"recipe {path} has the stage {twice} twice; make two recipes of it.")
    for setting in settings:
        entries = _with_setting(entries, setting)
    steps: list[Step] = []
    for entry in entries:
        steps.append(_step(entry, steps))
    return steps


def bundled_recipes() -> dict[str, str]:
    """The recipes that come with the package: name → the first comment line of its file."""
    paths = sorted(_bundled().glob("*.yaml"), key=lambda path: path.stem)
    return {path.stem: _first_comment(path) for path in paths}


def _find(recipe: str) -> Path:
    path = Path(recipe)
    if path.is_file():
        return path
    known = bundled_recipes()
    if recipe in known:
        return _bundled() / f"{recipe}.yaml"
    raise ConfigError(
        f"there is no recipe {recipe}; those that come with pts are {', '.join(known)}.{nearest(recipe, known)}"
    )


def _bundled() -> Path:
    package = Path(str(files("pts")))
    installed = package / "_bundled" / "pipelines"
    return installed if installed.is_dir() else package.parent / "pipelines"


def _first_comment(path: Path) -> str:
    first = path.read_text(encoding="utf-8").split("\n", 1)[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""


@dataclass(frozen=True, slots=True)
class _Entry:
    """A stage as the recipe spells it: where it stands, its name and its keys, of which all are known."""

    where: str
    name: str
    keys: Mapping[str, object]

    @property
    def known(self) -> list[str]:
        return known_keys(find_stage(self.name).inputs)


def _entry(path: Path, number: int, given: object) -> _Entry:
    where = f"recipe {path} stage {number}"
    named = given.get("stage") if isinstance(given, Mapping) else given
    stages = stage_names()
    if not isinstance(given, Mapping) or str(named) not in stages:
        raise ConfigError(
            f"{where}: no such stage: {named}; the stages are {', '.join(stages)}.{nearest(named, stages)}"
        )
    keys = {_spelled(key): value for key, value in given.items() if key != "stage"}
    entry = _Entry(where, str(named), keys)
    for key in keys:
        if key not in entry.known:
            raise ConfigError(
                f"{where} has no key {key}; {entry.name} knows {', '.join(entry.known)}."
                f"{nearest(key, entry.known)}"
            )
    return entry


def _with_setting(entries: Sequence[_Entry], setting: str) -> list[_Entry]:
    """The entries with one of `--set`'s in its place. Raises ConfigError where there is not one such place."""
    path, equals, text = setting.partition("=")
    if not equals:
        raise ConfigError(f"--set {setting} has no value; write it as KEY=VALUE or STAGE.KEY=VALUE.")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {setting} has a value that is not YAML; quote it.") from error
    # A sentence with a colon is meant as one; a mapping has braces.
    value = text if isinstance(value, dict) and not text.lstrip().startswith("{") else value
    owner, key = _owner(entries, path.strip())
    return [replace(each, keys={**each.keys, key: value}) if each is owner else each for each in entries]


def _owner(entries: Sequence[_Entry], path: str) -> tuple[_Entry, str]:
    stage, dot, key = path.rpartition(".")
    key = _spelled(key)
    names = [entry.name for entry in entries]
    candidates = [entry for entry in entries if not dot or entry.name == stage.replace("_", "-")]
    if not candidates:
        raise ConfigError(
            f"--set {path}: the recipe has no stage {stage}; it has {', '.join(names)}.{nearest(stage, names)}"
        )
    owners = [entry for entry in candidates if key in entry.known]
    if not owners:
        known = {f"{entry.name}.{name}": name for entry in candidates for name in entry.known}
        near = get_close_matches(key, known.values(), n=1)
        full = next((place for place, name in known.items() if near and name == near[0]), None)
        hint = f" Did you mean {full}?" if full else ""
        whose = candidates[0].name if dot else "none of its stages"
        raise ConfigError(f"--set {path}: {whose} has {'no' if dot else 'a'} key {key}.{hint}")
    if len(owners) > 1:
        places = " or ".join(f"{entry.name}.{key}" for entry in owners)
        raise ConfigError(f"--set {path}: more than one stage has that key; say which: {places}.")
    return owners[0], key


def _step(entry: _Entry, before: Sequence[Step]) -> Step:
    """The stage with its inputs; the directories of the steps before it fill the keys that take one."""
    stage: Stage[Any, Any] = find_stage(entry.name)
    filled: dict[str, object] = {}
    for key, source in stage.takes.items():
        makers = [step for step in before if step.name in source.stages]
        if makers and source.unless not in entry.keys:
            with named_in_recipe(makers[-1].name, stage_keys(makers[-1:])):
                filled[key] = str(makers[-1].directory)
    try:
        with named_in_recipe(entry.name, {entry.name: entry.known}):
            inputs = from_json(stage.inputs, {**filled, **entry.keys})
            for key, source in stage.takes.items():
                if key in filled and source.needed is not None and not source.needed(inputs):
                    del filled[key]
                    inputs = from_json(stage.inputs, {**filled, **entry.keys})
            return Step(stage, inputs)
    except ShapeError as error:
        raise ConfigError(f"{entry.where} ({entry.name}): {error}.") from error
    except ConfigError as error:
        if entry.name not in str(error):
            error.args = (f"stage {entry.name}: {error}",)
        raise


def _spelled(key: object) -> str:
    return str(key).replace("-", "_")


def nearest(name: object, known: Iterable[str]) -> str:
    """A question that names the known one nearest to `name`, or nothing."""
    near = get_close_matches(str(name), list(known), n=1)
    return f" Did you mean {near[0]}?" if near else ""
