"""Recipes: a YAML file whose stages run one after the other, each with exactly the keys of its dataclass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from pts.errors import ConfigError
from pts.runs.codec import ShapeError, from_json, known_keys
from pts.stages.search_inputs import SearchRun


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a recipe: its name and its inputs."""

    name: str
    inputs: Any


def read_recipe(recipe: str) -> list[Stage]:
    """The stages of a recipe, given by its path or by the name of a bundled one.

    Raises ConfigError where there is no such recipe, it is not YAML, a stage or key is unknown, or a value
    is of the wrong type or outside its range; every stage is checked before any runs.
    """
    path = _find(recipe)
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"recipe {path} cannot be read: {error}") from error
    stages = data.get("stages") if isinstance(data, Mapping) else None
    if not isinstance(stages, list) or not stages or set(data) != {"stages"}:
        raise ConfigError(f"recipe {path} must have one key, stages, with a list of stages.")
    return [_stage(path, number, entry) for number, entry in enumerate(stages, start=1)]


def run_stage(stage: Stage) -> object:
    """Run one stage and return what it returns. Raises PtsError."""
    return _STAGES[stage.name].run(stage.inputs)


def bundled_recipes() -> dict[str, str]:
    """The recipes that come with the package: name → the first comment line of its file."""
    paths = sorted(_bundled().glob("*.yaml"))
    return {path.stem: _first_comment(path) for path in paths}


def _find(recipe: str) -> Path:
    path = Path(recipe)
    if path.is_file():
        return path
    known = bundled_recipes()
    for name in (recipe, f"{recipe}-search"):
        if name in known:
            return _bundled() / f"{name}.yaml"
    raise ConfigError(f"there is no recipe {recipe}; those that come with pts are {', '.join(known)}.")


def _bundled() -> Path:
    package = Path(str(files("pts")))
    installed = package / "_bundled" / "pipelines"
    return installed if installed.is_dir() else package.parent / "pipelines"


def _first_comment(path: Path) -> str:
    first = path.read_text(encoding="utf-8").split("\n", 1)[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""


def _stage(path: Path, number: int, entry: object) -> Stage:
    where = f"recipe {path} stage {number}"
    if not isinstance(entry, Mapping) or entry.get("stage") not in _STAGES:
        named = entry.get("stage") if isinstance(entry, Mapping) else entry
        raise ConfigError(f"{where}: no such stage: {named}; the stages are {', '.join(_STAGES)}.")
    name = str(entry["stage"])
    inputs = {str(key).replace("-", "_"): value for key, value in entry.items() if key != "stage"}
    kind = _STAGES[name].inputs()
    unknown = [key for key in inputs if key not in known_keys(kind)]
    if unknown:
        raise ConfigError(f"{where} has no key {unknown[0]}; {name} knows {', '.join(known_keys(kind))}.")
    try:
        return Stage(name, from_json(kind, inputs))
    except ShapeError as error:
        raise ConfigError(f"{where} ({name}): {error}.") from error


@dataclass(frozen=True, slots=True)
class _Kind:
    """A stage's dataclass and function, behind calls so that only the stage that runs is imported."""

    inputs: Callable[[], type]
    run: Callable[[Any], object]


def _search_run(inputs: SearchRun) -> object:
    from pts.stages.search import run_search

    return run_search(inputs)


def _demo_inputs() -> type:
    from pts.stages.demo_model import DemoModelConfig

    return DemoModelConfig


def _demo_run(inputs: Any) -> object:
    from pts.stages.demo_model import train_demo_model

    return train_demo_model(inputs)


_STAGES: Mapping[str, _Kind] = {
    "search": _Kind(lambda: SearchRun, _search_run),
    "demo-model": _Kind(_demo_inputs, _demo_run),
}
